"""Diagnostics raised: of a spec, or of a fault outside one that its user can mend."""

from __future__ import annotations

from pathlib import Path

from wmdsl.diagnostics.codes import CODES
from wmdsl.diagnostics.diagnostic import Diagnostic


class Problem(Exception):
    """A fault outside a spec (data, a run, the machine).

    What is wrong, where, and what to do: `code`, `what`, `where` (a path or key), `help`.
    """

    def __init__(self, code: str, what: str, where: str | Path, help: str) -> None:
        if code not in CODES:
            raise ValueError(f"{code} is not in wmdsl/diagnostics/codes.py")
        super().__init__(f"{code}: {what}\n  at: {where}\nhelp: {help}")
        self.code = code
        self.what = what
        self.where = str(where)
        self.help = help

    def __reduce__(self) -> tuple[type[Problem], tuple[str, str, str, str]]:
        return type(self), (self.code, self.what, self.where, self.help)


class SpecError(Exception):
    """A spec with errors; `diagnostics` holds all of them in source order."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        from wmdsl.diagnostics.render import to_text

        super().__init__("\n" + to_text(diagnostics))
        self.diagnostics = diagnostics
