"""In: facts about a spec. Out: diagnostics as data. Invariant: every code is a row of `CODES`."""

from wmdsl.diagnostics.codes import CODES, Code
from wmdsl.diagnostics.diagnostic import Diagnostic, Diagnostics, Edit, Fix, Label
from wmdsl.diagnostics.suggest import did_you_mean

__all__ = ["CODES", "Code", "Diagnostic", "Diagnostics", "Edit", "Fix", "Label", "did_you_mean"]
