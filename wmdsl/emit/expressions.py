"""Layout of expressions: on one line where it fits, else broken at the outermost bracket."""

from __future__ import annotations

from wmdsl.lower.program import (
    Attribute,
    Binary,
    Block,
    Call,
    Each,
    Expression,
    Index,
    Literal,
    Name,
    Sequence,
    Slice,
    Table,
)

WIDTH = 100
INDENT = 4
CLOSING = {"(": ")", "[": "]", "{": "}"}
COMPARISONS = ("==", "<", "<=", ">", ">=", "in")
PRECEDENCE = {"or": 0, **dict.fromkeys(COMPARISONS, 1), "&": 1.5, "+": 2, "-": 2, "*": 3, "/": 3,
              "//": 3}  # fmt: skip


def flat(node: Expression) -> str:
    """The expression on one line."""
    match node:
        case Name(text) | Block(text):
            return text
        case Literal(value):
            return _literal(value)
        case Attribute(base, name):
            return f"{_operand(base, 9)}.{name}"
        case Slice(start, stop):
            return f"{'' if start is None else start}:{'' if stop is None else stop}"
        case Each(element):
            return f"[{flat(element)} {_source(node)}]"
        case Binary(operator, left, right):
            level = PRECEDENCE[operator]
            return f"{_operand(left, level)} {operator} {_operand(right, level + 1)}"
    head, opening, items = _bracketed(node)
    lone = opening == "(" and isinstance(node, Sequence) and len(items) == 1
    return f"{head}{opening}{', '.join(items)}{',' if lone else ''}{CLOSING[opening]}"


def _literal(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "..." if value is ... else repr(value)


def _operand(node: Expression, level: int) -> str:
    """A part of a larger expression, in brackets where it would bind less."""
    own = PRECEDENCE.get(node.operator, 9) if isinstance(node, Binary) else 9
    if isinstance(node, Literal) and isinstance(node.value, (int, float)) and level == 9:
        own = -1
    return flat(node) if own >= level else f"({flat(node)})"


def _bracketed(node: Expression) -> tuple[str, str, list[str]]:
    """What stands before a bracket, the bracket, and the flat items in it."""
    match node:
        case Call(function, arguments, keywords):
            named = [f"{name}={flat(value)}" for name, value in keywords]
            return _operand(function, 9), "(", [*map(flat, arguments), *named]
        case Index(base, items):
            return _operand(base, 9), "[", [flat(item) for item in items]
        case Sequence(items, bracket):
            return "", bracket, [flat(item) for item in items]
        case Table(items):
            return "", "{", [f"{_literal(name)}: {flat(value)}" for name, value in items]
    raise TypeError(f"{type(node).__name__} has no layout")


def lines(node: Expression, indent: int, before: int, after: int) -> list[str]:
    """The expression in lines, the first without its indent; `before` and `after` are characters
    that share the first and the last line with it."""
    text = flat(node)
    if indent + before + len(text) + after <= WIDTH or isinstance(node, (Name, Block, Literal)):
        return [text]
    match node:
        case Attribute(base, name):
            return _followed(lines(base, indent, before, after + len(name) + 1), f".{name}")
        case Binary():
            return _broken_right(node, indent, before, after) or _broken_sum(node, indent)
        case Each(element):
            return _each(element, _source(node), indent)
    return _broken(node, indent, before, after)


def _followed(parts: list[str], text: str) -> list[str]:
    return [*parts[:-1], parts[-1] + text]


def _broken(node: Expression, indent: int, before: int, after: int) -> list[str]:
    """Items in an indented block of their own: all in one line if they fit, else one per line."""
    items = _items(node)
    if not items:
        return _followed(lines(node.function, indent, before, after + 2), "()")
    head, opening, flats = _bracketed(node)
    if isinstance(node, (Call, Index)) and indent + before + len(head) + 1 > WIDTH:
        base = node.function if isinstance(node, Call) else node.base
        inside = f"{opening}{', '.join(flats)}{CLOSING[opening]}"
        return _followed(lines(base, indent, before, after + len(inside)), inside)
    inner = indent + INDENT
    body = ", ".join(flats)
    if inner + len(body) <= WIDTH and opening != "{" and not _is_tuple(node):
        return [f"{head}{opening}", " " * inner + body, " " * indent + CLOSING[opening]]
    block, comma = [f"{head}{opening}"], "," if len(items) > 1 else ""
    for prefix, item in items:
        block += _followed(_item_lines(item, inner, prefix, len(comma)), comma)
    return [*block, " " * indent + CLOSING[opening]]


def _is_tuple(node: Expression) -> bool:
    return isinstance(node, Sequence) and node.bracket == "("


def _item_lines(item: Expression, indent: int, prefix: str, after: int) -> list[str]:
    """One item in lines with their indent; an operation is cut before its operators."""
    fits = indent + len(prefix) + len(flat(item)) + after <= WIDTH
    if isinstance(item, Binary) and not fits and not prefix:
        return _operand_lines(item, indent)
    parts = lines(item, indent, len(prefix), after)
    return [" " * indent + prefix + parts[0], *parts[1:]]


def _items(node: Expression) -> list[tuple[str, Expression]]:
    """(prefix, expression) of everything in a bracket."""
    match node:
        case Call(_, arguments, keywords):
            named = [(f"{name}=", value) for name, value in keywords]
            return [*(("", item) for item in arguments), *named]
        case Index(_, items) | Sequence(items, _):
            return [("", item) for item in items]
        case Table(items):
            return [(f"{_literal(name)}: ", value) for name, value in items]
    raise TypeError(f"{type(node).__name__} has no layout")


def _broken_right(node: Binary, indent: int, before: int, after: int) -> list[str]:
    """A lone operation broken inside its last bracket; nothing where that does not fit."""
    head, right = "", node
    while isinstance(right, Binary):
        if len(_operands(right, right.operator)) > 2 or _weak(right.right, right.operator):
            return []
        head += f"{_operand(right.left, PRECEDENCE[right.operator])} {right.operator} "
        right = right.right
    if not isinstance(right, (Call, Index)) or not _items(right):
        return []
    parts = _broken(right, indent, before + len(head), after)
    if indent + before + len(head) + len(parts[0]) > WIDTH:
        return []
    return [head + parts[0], *parts[1:]]


def _weak(node: Expression, operator: str) -> bool:
    """Whether the right operand of an operation needs brackets."""
    return isinstance(node, Binary) and PRECEDENCE[node.operator] <= PRECEDENCE[operator]


def _broken_sum(node: Binary, indent: int) -> list[str]:
    """An operation in brackets: in one line of its own where it fits, else one operand per line."""
    inner, whole = indent + INDENT, flat(node)
    if inner + len(whole) <= WIDTH:
        return ["(", " " * inner + whole, " " * indent + ")"]
    return ["(", *_operand_lines(node, indent + INDENT), " " * indent + ")"]


def _operand_lines(node: Binary, indent: int) -> list[str]:
    """One operand per line, each behind its operator."""
    level, out = PRECEDENCE[node.operator], []
    for operator, operand in _operands(node, node.operator):
        prefix = f"{operator} " if operator else ""
        weak = isinstance(operand, Binary) and PRECEDENCE[operand.operator] < level + bool(operator)
        parts = lines(operand, indent, len(prefix), 0)
        if weak:
            parts = [f"({flat(operand)})"]
            if indent + len(prefix) + len(parts[0]) > WIDTH:
                parts = _broken_sum(operand, indent)
        out += [" " * indent + prefix + parts[0], *parts[1:]]
    return out


def _operands(node: Expression, operator: str) -> list[tuple[str, Expression]]:
    if isinstance(node, Binary) and node.operator == operator:
        return [*_operands(node.left, operator), (operator, node.right)]
    return [("", node)]


def _source(node: Each) -> str:
    """Where the elements of a list come from."""
    return f"for {', '.join(map(flat, node.names))} in {flat(node.iterable)}"


def _each(element: Expression, source: str, indent: int) -> list[str]:
    inner = indent + INDENT
    parts = lines(element, inner, 0, 0)
    parts[0] = " " * inner + parts[0]
    return ["[", *parts, " " * inner + source, " " * indent + "]"]
