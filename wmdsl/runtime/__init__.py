"""In: an emitted module and data. Out: run directories, trained policies, figures.

Invariant: a run directory holds everything needed to load, resume and judge it.
"""
