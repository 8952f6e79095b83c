"""Does the imagined future follow the pending action, and for how long?

In: a run, an environment whose states restore exactly. Out: errors by horizon with intervals.
Invariant: model, baselines and simulator are measured by the same functions on the same states.
"""
