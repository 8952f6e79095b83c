"""The table of codes.  Each row has a page in `explain/`, whose bad example a test compiles.

0xx text and syntax, 1xx names and attributes, 2xx shapes, 3xx rates, 4xx levels and codecs,
5xx couplings and masks, 6xx queries, 7xx training, 8xx constructs without a runtime, 9xx lints.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of mistake: a title of a few words and its meaning in one line."""

    code: str
    title: str
    meaning: str
    severity: str = "error"


_ROWS = (
    # text and syntax
    Code("WM001", "file cannot be read", "The file is missing, a folder, or not readable."),
    Code("WM002", "binary file", "The file holds zero bytes, so it is not a text."),
    Code("WM003", "not UTF-8", "The file is text in another encoding than UTF-8."),
    Code("WM004", "file too large", "A spec is at most 1 MiB; real ones have a few kilobytes."),
    Code("WM005", "no model", "The file declares no model."),
    Code("WM006", "character without a place", "The language does not use this character."),
    Code("WM007", "string not closed", "A text ends at the end of its line."),
    Code("WM008", "bracket not closed", "An opening brace or bracket has no partner."),
    Code("WM009", "bracket closes nothing", "A closing brace or bracket has no partner."),
    Code("WM010", "misspelt keyword", "A word stands where a keyword of the language must stand."),
    Code("WM011", "malformed head", "The head of a declaration does not follow its form."),
    Code("WM012", "malformed value", "An attribute or a value is not written as one."),
    Code("WM013", "malformed attend row", "An attend row says neither who sees whom nor an order."),
    Code("WM014", "malformed entry", "A param, when, drop, override or assert is not well formed."),
    Code("WM015", "malformed file", "At file level stand the edition, imports and models only."),
    Code("WM016", "entries run together", "Two entries stand on one line without `;` between."),
    Code("WM017", "unknown edition", "This compiler does not know the edition of the file."),
    Code("WM018", "number out of range", "A number has an absurd size or too many digits."),
    Code("WM019", "nested too deeply", "Brackets stand inside each other more than 32 deep."),
    Code("WM020", "too many syntax errors", "Only the first fifty syntax errors are shown."),
    # names and attributes
    Code("WM101", "import cannot be used", "An imported file is missing or is no text."),
    Code("WM102", "import cycle", "Files import each other, or a file imports itself."),
    Code("WM103", "unknown model", "No model of this name is declared or imported."),
    Code("WM104", "extends cycle", "A model extends itself, directly or through others."),
    Code("WM105", "declared twice", "Two declarations of one form have one name."),
    Code("WM106", "nothing to override", "`override` names what no earlier model declares."),
    Code("WM107", "nothing to drop", "`drop` names what no earlier model declares."),
    Code("WM108", "unknown parameter", "A value is given to a parameter that is not declared."),
    Code("WM109", "outside the domain", "A parameter has a value that its domain excludes."),
    Code("WM110", "wrong kind of value", "A parameter's value has another unit than its default."),
    Code("WM111", "attribute given twice", "One declaration gives one attribute twice."),
    Code("WM112", "not importable", "The imported model has no such declaration of this form."),
    Code("WM113", "unknown import", "`alias.name` uses an alias that no import declares."),
    Code("WM114", "name of a parameter", "A declaration has the name of a parameter."),
    Code("WM115", "parameter inside `when`", "Parameters are declared outside of `when` only."),
    # lints
    Code("WM901", "unused parameter", "No value and no `when` names the parameter.", "warning"),
    Code("WM902", "unused import", "Nothing of the imported file is used.", "warning"),
)  # fmt: skip

CODES = {row.code: row for row in _ROWS}
