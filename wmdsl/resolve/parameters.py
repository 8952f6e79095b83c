"""The parameters of a model: defaults, overrides, values from outside, domains and units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from wmdsl.diagnostics import Diagnostics
from wmdsl.resolve import errors
from wmdsl.resolve.spec import Parameter
from wmdsl.resolve.substitute import Substituter
from wmdsl.source import Source
from wmdsl.syntax import ast, parse_item


def from_outside(values: Mapping[str, object], diagnostics: Diagnostics) -> dict[str, ast.Item]:
    """Values of `-P name=value` or of keyword arguments, each a source of its own."""
    found = {}
    for name, value in values.items():
        item = parse_item(Source(f"-P {name}", str(value)), diagnostics)
        if item is not None:
            found[name] = item
    return found


class Parameters:
    """Collects the `param` entries of a chain of models, then fixes their values."""

    def __init__(self, diagnostics: Diagnostics) -> None:
        self.diagnostics = diagnostics
        self.declared: dict[str, ast.Param] = {}

    def add(self, entry: ast.Param) -> None:
        name = entry.name.text
        earlier = self.declared.get(name)
        if entry.mode == "override" and earlier is None:
            self.diagnostics.add(errors.nothing_to_override(entry, self.declared, None))
        elif entry.mode == "new" and earlier is not None:
            self.diagnostics.add(errors.collision(entry, earlier.name))
        elif earlier is not None:
            if not _same_kind(entry.default, earlier.default):
                wrong = errors.wrong_kind(name, entry.default, earlier.default)
                self.diagnostics.add(wrong)
            domain = entry.domain or earlier.domain
            self.declared[name] = replace(entry, name=earlier.name, domain=domain)
        else:
            self.declared[name] = entry

    def fix(self, given: Mapping[str, ast.Item], strict: bool) -> dict[str, Parameter]:
        """The values that hold.  `strict`: a given name that is not declared is an error."""
        if strict:
            for name in given.keys() - self.declared.keys():
                span = given[name].span
                self.diagnostics.add(errors.unknown_parameter(name, span, self.declared))
        fixed: dict[str, Parameter] = {}
        for name, entry in self.declared.items():
            default = Substituter(fixed).item(entry.default)
            self._check(entry, default, default)
            value = default
            if name in given:
                value = _with_unit(given[name], default)
                # What does not fit is told once; the rest is checked with the default.
                value = value if self._check(entry, value, default) else default
            fixed[name] = Parameter(entry.name, value, default, entry.domain)
        return fixed

    def _check(self, entry: ast.Param, value: ast.Item, default: ast.Item) -> bool:
        """Whether a value fits its parameter; the reason is added where it does not."""
        name = entry.name.text
        if not _same_kind(value, default):
            self.diagnostics.add(errors.wrong_kind(name, value, default))
            return False
        empty = [r for r in entry.domain or () if isinstance(r, ast.Range) and r.low > r.high]
        if empty:
            self.diagnostics.add(errors.empty_range(empty[0]))
        elif entry.domain and not in_domain(value, entry.domain):
            self.diagnostics.add(errors.outside(name, value, entry.domain))
            return False
        return True


def _with_unit(value: ast.Item, default: ast.Item) -> ast.Item:
    """`-P chunk=16` means 16 of the default's unit."""
    if len(value.terms) != 1 or len(default.terms) != 1:
        return value
    number, model = value.terms[0], default.terms[0]
    if isinstance(number, ast.Number) and isinstance(model, ast.Number) and number.unit is None:
        return replace(value, terms=(replace(number, unit=model.unit),))
    return value


def _same_kind(value: ast.Item, default: ast.Item) -> bool:
    if len(value.terms) != 1 or len(default.terms) != 1:
        return True
    left, right = value.terms[0], default.terms[0]
    if isinstance(left, ast.Number) and isinstance(right, ast.Number):
        return left.unit == right.unit
    return isinstance(left, ast.Number) == isinstance(right, ast.Number)


def in_domain(value: ast.Item, domain: tuple[ast.Expression, ...]) -> bool:
    """Whether a value of one term is one of the listed values or in one of the ranges."""
    if len(value.terms) != 1:
        return False
    term = value.terms[0]
    return any(_matches(term, entry) for entry in domain)


def _matches(term: ast.Expression, entry: ast.Expression) -> bool:
    if isinstance(term, ast.Number):
        if isinstance(entry, ast.Range):
            return entry.low <= term.value <= entry.high
        return isinstance(entry, ast.Number) and entry.value == term.value
    return term == entry


def holds(value: ast.Item, expected: ast.Expression) -> bool:
    """Whether `when NAME is expected` holds for the value of NAME."""
    return len(value.terms) == 1 and _matches(value.terms[0], expected)
