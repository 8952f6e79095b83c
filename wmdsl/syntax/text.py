"""Nodes of the tree -> text in the language, one form for each meaning."""

from __future__ import annotations

from fractions import Fraction

from wmdsl.syntax import ast

_SINGULARS = {"frames": "frame", "steps": "step"}


def number_text(value: Fraction) -> str:
    """An exact decimal: numbers of the language are decimals, so one always exists."""
    if value.denominator == 1:
        return str(value.numerator)
    digits = 0
    while (value * 10**digits).denominator != 1:
        digits += 1
    scaled = str(abs(value) * 10**digits).rjust(digits + 1, "0")
    return f"{'-' if value < 0 else ''}{scaled[:-digits]}.{scaled[-digits:]}"


def expression_text(node: ast.Expression | ast.Arithmetic) -> str:
    """A value as it is written."""
    match node:
        case ast.Number(value, unit):
            name = _SINGULARS.get(unit or "", unit) if value == 1 else unit
            return number_text(value) + (f" {name}" if name else "")
        case ast.Dims(values):
            return "x".join(str(value) for value in values)
        case ast.Text(value):
            return f'"{value}"'
        case ast.Range(low, high):
            return f"{number_text(low)}..{number_text(high)}"
        case ast.Reference(path, index):
            return ".".join(path) + (f"[{_index_text(index)}]" if index is not None else "")
        case ast.Call(function, arguments):
            return f"{expression_text(function)}({items_text(arguments)})"
        case ast.Binary(operator, left, right):
            return f"{_operand(left, operator)} {operator} {_operand(right, operator, True)}"
    raise TypeError(f"no text for {type(node).__name__}")


def _operand(node: ast.Arithmetic, operator: str, right: bool = False) -> str:
    """Round brackets stand only where the sum would mean something else without them."""
    text = expression_text(node)
    if not isinstance(node, ast.Binary):
        return text
    weaker = operator in "*/" and node.operator not in "*/"
    return f"({text})" if weaker or right else text


def _index_text(index: ast.Number | ast.Range | ast.Name) -> str:
    return index.text if isinstance(index, ast.Name) else expression_text(index)


def item_text(item: ast.Item) -> str:
    return " ".join(expression_text(term) for term in item.terms)


def items_text(items: tuple[ast.Item, ...]) -> str:
    return ", ".join(item_text(item) for item in items)


def expressions_text(expressions: tuple[ast.Expression, ...]) -> str:
    return ", ".join(expression_text(entry) for entry in expressions)


def attribute_text(attribute: ast.Attribute) -> str:
    """`name item, item`, or the bare name of a flag."""
    return f"{attribute.name.text} {items_text(attribute.items)}".rstrip()


def row_text(row: ast.Sees | ast.Order) -> str:
    """One row of an attend."""
    if isinstance(row, ast.Order):
        return f"order {expression_text(row.subject)} by {expression_text(row.key)}"
    seen = expressions_text(row.objects) or "nothing"
    where = ", ".join(
        f"{expression_text(entry.left)} {entry.operator} {expression_text(entry.right)}"
        for entry in row.relations
    )
    text = f"{expressions_text(row.subjects)} sees {seen}"
    return f"{text} where {where}" if where else text


def head_text(declaration: ast.Declaration) -> str:
    """The declaration up to its braces."""
    form, name = declaration.form, declaration.name.text
    if form == "attend" and name == "attend":
        return "attend"
    if form in ("predicate", "operator"):
        return f"{form} {name}{_symbol_head(declaration)}"
    clauses = [_clause_text(declaration, at) for at in range(len(declaration.clauses))]
    return f"{form} {name}" + (f": {' '.join(clauses)}" if clauses else "")


def _clause_text(declaration: ast.Declaration, at: int) -> str:
    clause = declaration.clauses[at]
    text = items_text(clause.items)
    match clause.role:
        case "type":
            return _type_text(clause)
        case "at":
            return f"at {text}"
        case "by":
            return f"by {text}"
        case "given":
            return f"| {text}"
        case "sought":
            return f"then {text}" if at else text
        case "target" if declaration.form == "align":
            return f"to {text}"
        case "target" if declaration.form != "generate":
            return f"-> {text}"
    return text


def _type_text(clause: ast.Clause) -> str:
    call = clause.items[0].terms[0]
    if not isinstance(call, ast.Call):
        return items_text(clause.items)
    sizes = f"[{items_text(call.arguments)}]" if call.arguments else ""
    return expression_text(call.function) + sizes


def _symbol_head(declaration: ast.Declaration) -> str:
    arguments, origin = declaration.clause("arguments"), declaration.clause("from")
    between = ": " if declaration.form == "operator" else " "
    names = ", ".join(
        between.join(expression_text(term) for term in item.terms)
        for item in (arguments.items if arguments else ())
    )
    head = f"({names})" if names else ""
    return f"{head} from {items_text(origin.items)}" if origin else head


def assertion_text(assertion: ast.Assertion) -> str:
    sources, target = expressions_text(assertion.sources), expression_text(assertion.target)
    single = {"reach": "reaches", "see": "sees"}[assertion.verb]
    middle = {
        "flow": f"{sources} {single}",
        "no_flow": f"{sources} does not {assertion.verb}",
        "only": f"only {sources} {assertion.verb}",
    }[assertion.kind]
    place = f" in {assertion.where.text}" if assertion.where else ""
    return f"assert {middle} {target}{place}"
