"""What the target cannot express yet; raised while lowering, with the line of the spec."""

from __future__ import annotations

from wmdsl.source import Span


class Unsupported(Exception):
    """A checked spec asks for something that no emitted code exists for."""

    def __init__(self, message: str, span: Span):
        super().__init__(message)
        self.span = span
