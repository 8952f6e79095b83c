"""Replace the names of parameters by their values, in every place where a value may stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wmdsl.resolve.spec import Parameter, Substitution
from wmdsl.syntax import ast
from wmdsl.syntax.text import item_text


class Substituter:
    """One model's parameters; `used` collects where each was written."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.parameters = parameters
        self.used: list[Substitution] = []

    def declaration(self, node: ast.Declaration) -> ast.Declaration:
        return replace(
            node,
            clauses=tuple(replace(part, items=self.items(part.items)) for part in node.clauses),
            attributes=tuple(
                replace(part, items=self.items(part.items)) for part in node.attributes
            ),
            rows=tuple(self._row(row) for row in node.rows),
        )

    def assertion(self, node: ast.Assertion) -> ast.Assertion:
        sources = tuple(self._one(source) for source in node.sources)
        return replace(node, sources=sources, target=self._one(node.target))

    def items(self, items: tuple[ast.Item, ...]) -> tuple[ast.Item, ...]:
        return tuple(self.item(item) for item in items)

    def item(self, item: ast.Item) -> ast.Item:
        """An item; a parameter of several terms brings them all."""
        terms: list[ast.Expression] = []
        for term in item.terms:
            value = self._value(term)
            if value is None:
                terms.append(self._inside(term))
            else:
                terms += (replace(part, span=term.span) for part in value.terms)
        return replace(item, terms=tuple(terms))

    def _value(self, node: Any) -> ast.Item | None:
        if not isinstance(node, ast.Reference) or len(node.path) != 1 or node.index is not None:
            return None
        parameter = self.parameters.get(node.path[0])
        if parameter is None:
            return None
        value = parameter.value
        self.used.append(Substitution(node.span, node.path[0], item_text(value), value.span))
        return value

    def _one(self, node: Any) -> Any:
        """An expression where exactly one must stand; a value of several terms stays a name."""
        value = self._value(node)
        if value is None or len(value.terms) != 1:
            return self._inside(node)
        return replace(value.terms[0], span=node.span)

    def _inside(self, node: Any) -> Any:
        match node:
            case ast.Call():
                return replace(node, arguments=self.items(node.arguments))
            case ast.Reference(index=ast.Name() as name):
                inner = self._one(ast.Reference((name.text,), None, name.span))
                return replace(node, index=inner) if isinstance(inner, ast.Number) else node
            case ast.Binary() | ast.Relation():
                return replace(node, left=self._one(node.left), right=self._one(node.right))
        return node

    def _row(self, row: ast.Sees | ast.Order) -> ast.Sees | ast.Order:
        if isinstance(row, ast.Order):
            return replace(row, subject=self._one(row.subject), key=self._one(row.key))
        return replace(
            row,
            subjects=tuple(self._one(entry) for entry in row.subjects),
            objects=tuple(self._one(entry) for entry in row.objects),
            relations=tuple(self._inside(entry) for entry in row.relations),
        )
