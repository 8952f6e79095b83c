"""The syntax diagnostics, one constructor each; prose about the grammar's states stands in
grammars/messages.toml."""

from __future__ import annotations

from collections.abc import Iterable

from wmdsl.diagnostics import Diagnostic, Edit, Fix, Label
from wmdsl.source import Source, Span
from wmdsl.syntax.tables import Message
from wmdsl.syntax.tokens import Token

EDITION = 2026

_WORDS = {
    "NAME": "a name", "NUMBER": "a number", "STRING": 'a text in "quotes"', "DIMS": "sizes as 8x8",
    "UNIT": "a unit", "COMPARE": "a comparison", "_SEP": "the end of the line",
    "$END": "the end of the file",
}  # fmt: skip


def word(kind: str, text: str = "") -> str:
    """What a terminal is called in a message."""
    if kind in ("NAME", "NUMBER", "DIMS", "STRING") and text:
        return f"`{text}`" if len(text) <= 40 else f"`{text[:37]}...`"
    return _WORDS.get(kind, f"`{kind}`")


def listed(kinds: Iterable[str]) -> str:
    """`a, b or c`."""
    words = sorted(word(kind) for kind in kinds if kind != "_ERROR")
    shown = words if len(words) <= 7 else [*words[:6], "..."]
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} or {shown[-1]}"


def unreadable(path: str, reason: str) -> Diagnostic:
    return Diagnostic("WM001", f"cannot read {path}: {reason}", (),
                      help="give the path of a .wm file that exists and may be read")  # fmt: skip


def binary(source: Source, at: int) -> Diagnostic:
    return Diagnostic(
        "WM002", f"{source.name} is a binary file",
        (Label(Span(source, 0, 0), f"byte {at} is zero"),),
        help="give a .wm file: plain text in UTF-8",
    )  # fmt: skip


def not_utf8(source: Source, at: int) -> Diagnostic:
    return Diagnostic(
        "WM003", f"{source.name} is not UTF-8 text",
        (Label(Span(source, 0, 0), f"byte {at} does not continue a character"),),
        help="save the file as UTF-8, as every editor can",
    )  # fmt: skip


def too_large(source: Source, size: int, limit: int) -> Diagnostic:
    return Diagnostic(
        "WM004", f"{source.name} has {size} bytes; a spec has at most {limit}",
        (Label(Span(source, 0, 0), "is this the right file?"),),
        help="put data beside the spec, not into it",
    )  # fmt: skip


def no_model(source: Source) -> Diagnostic:
    empty = not source.text.strip()
    what = "is empty" if empty else "declares no model"
    return Diagnostic(
        "WM005", f"{source.name} {what}", (Label(Span(source, 0, 0), "a model is expected here"),),
        help="a smallest file is `edition 2026` and `model name { ... }` on the next line; "
             "`wmdsl init --from DATASET` writes a spec for a data set",
    )  # fmt: skip


def unknown_character(span: Span) -> Diagnostic:
    letter = span.text
    shown = letter if letter.isprintable() else f"U+{ord(letter):04X}"
    advice = {
        "'": 'texts stand in double quotes: "text"',
        "“": 'texts stand in straight quotes: "text"',
        "”": 'texts stand in straight quotes: "text"',
        "#": "comments start with `//`",
        "/": "comments start with `//`",
        "?": "an attribute that is not written takes its default",
    }.get(letter, "names hold letters A-Z, digits and `_`; other text stands in quotes")
    return Diagnostic("WM006", f"`{shown}` has no place in the language",
                      (Label(span, "this character"),), help=advice)  # fmt: skip


def open_text(span: Span) -> Diagnostic:
    end = Span(span.source, span.end, span.end)
    return Diagnostic("WM007", "this text is not closed", (Label(span, "it starts here"),),
                      help='end the text with `"` on the same line',
                      fixes=(Fix(False, (Edit(end, '"'),)),))  # fmt: skip


def unclosed(opener: Span) -> Diagnostic:
    closer = {"{": "}", "(": ")", "[": "]"}[opener.text]
    return Diagnostic(
        "WM008",
        f"this `{opener.text}` is not closed",
        (Label(opener, "opened here, never closed"),),
        help=f"write `{closer}` where what it opens ends",
    )


def stray(closer: Span, head: Span | None = None) -> Diagnostic:
    """`head` ends the line on which the partner is missing."""
    labels = (Label(closer, "no bracket is open here"),)
    if head is None:
        return Diagnostic(
            "WM009", f"this `{closer.text}` closes nothing", labels, help="remove it",
            fixes=(Fix(False, (Edit(closer, ""),)),),
        )  # fmt: skip
    end = Span(head.source, head.end, head.end)
    return Diagnostic(
        "WM009", f"this `{closer.text}` closes nothing",
        (*labels, Label(head, "is `{` missing behind this?", primary=False)),
        help="write `{` at the end of that line",
        fixes=(Fix(False, (Edit(end, " {"),)),),
    )  # fmt: skip


def misspelt(span: Span, meant: str) -> Diagnostic:
    return Diagnostic("WM010", f"`{span.text}` is no keyword of the language",
                      (Label(span, f"did you mean `{meant}`?"),), help=f"write `{meant}`",
                      fixes=(Fix(True, (Edit(span, meant),)),))  # fmt: skip


def unknown_keyword(span: Span, allowed: Iterable[str], known: Iterable[str]) -> Diagnostic:
    """`known` are all keywords; those `allowed` may stand at this place."""
    wrong = "cannot stand here" if span.text in known else "is no keyword of the language"
    return Diagnostic(
        "WM010", f"`{span.text}` {wrong}",
        (Label(span, "a keyword is expected here"),),
        notes=(f"here may stand: {', '.join(sorted(allowed))}",),
        help="start the entry with one of these keywords; an attribute stands in the braces of "
             "its declaration",
    )  # fmt: skip


def run_together(span: Span, last: Span) -> Diagnostic:
    start = Span(span.source, last.end, last.end)
    return Diagnostic(
        "WM016", "two entries stand on one line",
        (Label(span, "a second entry starts here"),
         Label(last, "the first one ends here", primary=False)),
        help="put it on a line of its own, or write `;` between them",
        fixes=(Fix(True, (Edit(start, ";"),)),),
    )  # fmt: skip


def unknown_edition(span: Span) -> Diagnostic:
    return Diagnostic(
        "WM017", f"`{span.text}` is not known",
        (Label(span, f"this compiler knows edition {EDITION}"),),
        help=f"write `edition {EDITION}`, or install a newer wmdsl",
        fixes=(Fix(False, (Edit(span, f"edition {EDITION}"),)),),
    )  # fmt: skip


def absurd_number(span: Span) -> Diagnostic:
    return Diagnostic("WM018", "this number is out of range", (Label(span, "too large or long"),),
                      help="numbers have at most 24 digits, exponents at most 18")  # fmt: skip


def nested(span: Span, limit: int) -> Diagnostic:
    return Diagnostic("WM019", f"brackets stand more than {limit} deep in each other",
                      (Label(span, "too deep"),), help="give the inner part a name")  # fmt: skip


def too_many(span: Span, limit: int) -> Diagnostic:
    return Diagnostic("WM020", f"more than {limit} syntax errors; the rest is not shown",
                      (Label(span, "reading stops here"),),
                      help="repair the first ones; later ones often follow from them")  # fmt: skip


def colon_missing(span: Span, name: Span) -> Diagnostic:
    end = Span(name.source, name.end, name.end)
    return Diagnostic(
        "WM011", f"`:` is missing behind `{name.text}`",
        (Label(span, "what it is follows a colon"),), help="write `:` after the name",
        fixes=(Fix(True, (Edit(end, ":"),)),),
    )  # fmt: skip


def sign_in_value(span: Span) -> Diagnostic:
    return Diagnostic(
        "WM012", f"`{span.text}` has no place between an attribute and its value",
        (Label(span, "remove this"),), help="write `name value`, with a blank between",
        fixes=(Fix(True, (Edit(span, ""),)),),
    )  # fmt: skip


def semicolon_in_brackets(span: Span) -> Diagnostic:
    return Diagnostic(
        "WM012", "`;` stands inside of brackets", (Label(span, "`;` ends an entry"),),
        help="write `,` between the elements of a list",
        fixes=(Fix(True, (Edit(span, ","),)),),
    )  # fmt: skip


def unexpected(
    span: Span, kind: str, token: Token, expected: Iterable[str], row: Message
) -> Diagnostic:
    """An error of the grammar; {found} and {expected} are filled into the row's texts."""
    words = {"found": word(kind, token.text), "expected": listed(expected)}
    return Diagnostic(
        row.code, row.text.format(**words), (Label(span, f"found {words['found']}"),),
        notes=(f"here may stand: {words['expected']}",) if words["expected"] else (),
        help=row.help.format(**words),
    )  # fmt: skip
