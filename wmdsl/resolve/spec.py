"""A closed spec: imports, extends, parameters and `when` are gone; provenance stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wmdsl.record import field, record
from wmdsl.source import Span
from wmdsl.syntax import ast

FORMS = (
    "stream", "codec", "trunk", "join", "cross", "condition", "align", "hand", "attend",
    "generate", "query", "layout", "stage", "planner", "extern", "objects", "predicate",
    "operator",
)  # fmt: skip


@record
class Parameter:
    """A parameter with the value that holds: `value.span` is where that value was written."""

    name: ast.Name
    value: ast.Item
    default: ast.Item
    domain: tuple[ast.Expression, ...]


@record
class Substitution:
    """At `span` the name of a parameter was written; its value comes from `origin`."""

    span: Span
    parameter: str
    value: str
    origin: Span


@record
class Spec:
    """One model.  Declarations stand by form, in the order of the manual, then as written."""

    name: str
    title: str
    edition: int
    parameters: tuple[Parameter, ...]
    declarations: tuple[ast.Declaration, ...]
    assertions: tuple[ast.Assertion, ...]
    span: Span = field(compare=False)
    substitutions: tuple[Substitution, ...] = field(default=(), compare=False)
    skipped: tuple[ast.ErrorEntry, ...] = field(default=(), compare=False)

    def of(self, *forms: str) -> Iterator[ast.Declaration]:
        """Declarations of the given forms, in order."""
        return (entry for entry in self.declarations if entry.form in forms)

    def find(self, name: str, *forms: str) -> ast.Declaration | None:
        """The declaration of that name among the given forms, or among all."""
        found = self.of(*forms) if forms else iter(self.declarations)
        return next((entry for entry in found if entry.name.text == name), None)

    def may_declare(self, name: str) -> bool:
        """Whether text with a syntax error mentions the name: then its absence is no mistake."""
        return any(entry.mentions(name) for entry in self.skipped)

    def notes(self, span: Span) -> tuple[str, ...]:
        """Which parameters stand behind the values written at a span, for messages."""
        return tuple(
            f"`{entry.parameter}` is {entry.value}, set at "
            f"{entry.origin.source.name}:{entry.origin.line}"
            for entry in self.substitutions
            if entry.span.source is span.source
            and span.start <= entry.span.start
            and entry.span.end <= span.end
        )


def by_form(declarations: Iterable[ast.Declaration]) -> tuple[ast.Declaration, ...]:
    """Stable order by form: two specs that differ only in this order are the same model."""
    return tuple(sorted(declarations, key=lambda entry: FORMS.index(entry.form)))
