"""In: run directories. Out: one HTML file with tables, plots, film strips. Invariant: no number
stands in a report that is not read from a run's files."""

from wmdsl.report.page import write_report

__all__ = ["write_report"]
