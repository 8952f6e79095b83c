"""What changed between two specs: streams, parts, edges, masks, losses, queries."""

from __future__ import annotations

from collections.abc import Iterator

from wmdsl.record import record
from wmdsl.resolve.canon import head_and_attributes, row_texts
from wmdsl.resolve.spec import Spec
from wmdsl.syntax import ast
from wmdsl.syntax.text import assertion_text

SECTIONS = {
    "streams": ("stream",),
    "codecs and trunks": ("codec", "trunk"),
    "edges": ("join", "cross", "condition", "align", "hand"),
    "masks": ("attend",),
    "losses": ("generate",),
    "queries": ("query",),
    "layouts, stages and planners": ("layout", "stage", "planner"),
    "foreign and symbolic parts": ("extern", "objects", "predicate", "operator"),
}


@record
class Change:
    """`sign` is `+` (only in the second spec), `-` (only in the first) or `~` (in both)."""

    section: str
    sign: str
    what: str
    details: tuple[str, ...] = ()

    @property
    def in_short(self) -> str:
        """On one line: a row that became another one, else what was changed."""
        if len(self.details) == 2 and self.details[0][0] + self.details[1][0] == "-+":
            return f"{self.details[0][2:]} -> {self.details[1][2:]}"
        return f"{self.sign} {self.what}"


def diff(first: Spec, second: Spec) -> tuple[Change, ...]:
    """All changes in the order of the manual; empty where the canonical forms are equal."""
    return tuple(_changes(first, second))


def diff_text(changes: tuple[Change, ...]) -> str:
    """The changes by section, as `wmdsl diff` prints them."""
    if not changes:
        return "no difference\n"
    lines: list[str] = []
    section = ""
    for change in changes:
        if change.section != section:
            section = change.section
            lines.append(section)
        lines.append(f"  {change.sign} {change.what}")
        lines += (f"      {detail}" for detail in change.details)
    return "\n".join(lines) + "\n"


def _changes(first: Spec, second: Spec) -> Iterator[Change]:
    for section, forms in SECTIONS.items():
        old = {(entry.form, entry.name.text): entry for entry in first.of(*forms)}
        new = {(entry.form, entry.name.text): entry for entry in second.of(*forms)}
        for key in [*old, *(key for key in new if key not in old)]:
            change = _compare(section, old.get(key), new.get(key))
            if change is not None:
                yield change
    before = {assertion_text(entry) for entry in first.assertions}
    after = {assertion_text(entry) for entry in second.assertions}
    for text in sorted(before - after):
        yield Change("assertions", "-", text)
    for text in sorted(after - before):
        yield Change("assertions", "+", text)


def _compare(
    section: str, old: ast.Declaration | None, new: ast.Declaration | None
) -> Change | None:
    if new is None and old is not None:
        return Change(section, "-", head_and_attributes(old)[0])
    if old is None and new is not None:
        return Change(section, "+", head_and_attributes(new)[0], tuple(row_texts(new)))
    if old is None or new is None:
        return None
    head, attributes = head_and_attributes(new)
    details = (*_heads(old, head), *_attributes(old, attributes), *_row_changes(old, new))
    return Change(section, "~", f"{new.form} {new.name.text}", details) if details else None


def _heads(old: ast.Declaration, head: str) -> Iterator[str]:
    before = head_and_attributes(old)[0]
    if before != head:
        yield f"{before}  ->  {head}"


def _attributes(old: ast.Declaration, after: dict[str, str]) -> Iterator[str]:
    before = head_and_attributes(old)[1]
    for name in [*before, *(name for name in after if name not in before)]:
        was, now = before.get(name), after.get(name)
        if was != now:
            yield f"{name}: {_shown(was)}  ->  {_shown(now)}"


def _shown(value: str | None) -> str:
    return "absent" if value is None else value or "present"


def _row_changes(old: ast.Declaration, new: ast.Declaration) -> Iterator[str]:
    before, after = row_texts(old), row_texts(new)
    yield from (f"- {text}" for text in before if text not in after)
    yield from (f"+ {text}" for text in after if text not in before)
