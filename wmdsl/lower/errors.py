"""What the target cannot express yet; raised while lowering, with the line of the spec."""

from __future__ import annotations

from wmdsl.diagnostics.diagnostic import Diagnostic, Label
from wmdsl.source import Span


class Unsupported(Exception):
    """A checked spec asks for something that no emitted code exists for."""

    def __init__(self, message: str, span: Span):
        super().__init__(message)
        self.span = span


def cannot_run(code: str, message: str, span: Span) -> Diagnostic:
    return Diagnostic(code, message, (Label(span),))


def nothing_to_train(model: str) -> Diagnostic:
    return Diagnostic("WM813", f"`{model}` has nothing to train", (),
                      help="say what it predicts, as `generate act: action by flow`, or `align` "
                      "two of its parts")  # fmt: skip
