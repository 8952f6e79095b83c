"""The words that messages share."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from wmdsl.diagnostics import Diagnostic, Edit, Fix, Label, did_you_mean
from wmdsl.source import Span
from wmdsl.syntax import ast


def error(
    code: str,
    message: str,
    span: Span,
    label: str = "",
    *others: tuple[Span, str],
    help: str = "",
    notes: tuple[str, ...] = (),
    fixes: tuple[Fix, ...] = (),
) -> Diagnostic:
    labels = (Label(span, label), *(Label(where, text, primary=False) for where, text in others))
    return Diagnostic(code, message, labels, notes, help, fixes)


def replacing(span: Span, text: str | None, safe: bool = False) -> tuple[Fix, ...]:
    return (Fix(safe, (Edit(span, text),)),) if text else ()


def choices(word: str, allowed: Iterable[str], none: str = "") -> str:
    """Did-you-mean, else everything that may stand there."""
    near = did_you_mean(word, allowed)
    if near:
        return f"did you mean `{near}`?"
    return f"there are: {listed(allowed)}" if list(allowed) else none


def listed(words: Iterable[object]) -> str:
    """`a`, `b` and `c`."""
    quoted = [f"`{word}`" for word in (sorted(words) if isinstance(words, set) else words)]
    if not quoted:
        return "none"
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def either(words: Iterable[object]) -> str:
    """`a`, `b` or `c`."""
    quoted = [f"`{word}`" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def decimal(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):g}"


def an(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def titled(declaration: ast.Declaration) -> str:
    return f"{declaration.form} `{declaration.name.text}`"
