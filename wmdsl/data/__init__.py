"""Demonstrations on disk (LeRobotDataset v3.0) and the batches that training draws from them.

In: a dataset folder. Out: metadata, columns, frames, batches of windows.
Invariant: only `windows` and `loader` import torch; reading metadata imports neither numpy
nor pyarrow.
"""
