"""Layout of statements, methods and the class."""

from __future__ import annotations

from collections.abc import Iterable

from wmdsl.emit.expressions import INDENT, WIDTH, flat, lines
from wmdsl.lower.context import place
from wmdsl.lower.program import (
    Assign,
    Break,
    Do,
    Expression,
    For,
    If,
    Method,
    Parameter,
    Program,
    Return,
    Section,
    Sequence,
    Statement,
    With,
)
from wmdsl.source import Span


def block(statements: Iterable[Statement], indent: int) -> list[str]:
    """Statements in lines; a section has an empty line before it, but not at the start."""
    out: list[str] = []
    for statement in statements:
        if isinstance(statement, Section) and out:
            out.append("")
        out += _statement(statement, indent)
    return out


def _statement(statement: Statement, indent: int) -> list[str]:
    match statement:
        case Assign(targets, value, span):
            names = ", ".join(flat(target) for target in targets)
            return _line(f"{names} = ", value, indent, _remark(span))
        case Do(value, span):
            return _line("", value, indent, _remark(span))
        case Return(value):
            return _returned(value, indent)
        case Break():
            return [" " * indent + "break"]
        case Section(text, span):
            line = f" ({place(span)})" if span else ""
            return [" " * indent + f"# {text}{line}"]
        case For(targets, iterable, body):
            names = ", ".join(flat(target) for target in targets)
            return [*_headed(f"for {names} in ", iterable, indent), *block(body, indent + INDENT)]
        case If(condition, body):
            return [*_headed("if ", condition, indent), *block(body, indent + INDENT)]
        case With(context, body):
            return [*_headed("with ", context, indent), *block(body, indent + INDENT)]
    raise TypeError(f"{type(statement).__name__} has no layout")


def _remark(span: Span | None) -> str:
    return f"  # {place(span)}" if span else ""


def _line(head: str, value: Expression, indent: int, remark: str) -> list[str]:
    """`head value remark`; the remark stands on the last line."""
    parts = lines(value, indent, len(head), len(remark))
    parts[0] = " " * indent + head + parts[0]
    return [*parts[:-1], parts[-1] + remark]


def _returned(value: Expression, indent: int) -> list[str]:
    """A returned tuple needs no brackets where it fits on the line."""
    bare = f"{' ' * indent}return {flat(value)[1:-1]}"
    if isinstance(value, Sequence) and value.bracket == "(" and len(bare) <= WIDTH:
        return [bare]
    return _line("return ", value, indent, "")


def _headed(head: str, value: Expression, indent: int) -> list[str]:
    parts = lines(value, indent, len(head), 1)
    parts[0] = " " * indent + head + parts[0]
    return [*parts[:-1], parts[-1] + ":"]


def method(node: Method, indent: int) -> list[str]:
    """A method with its decorator and docstring."""
    out = [" " * indent + f"@{node.decorator}"] if node.decorator else []
    out += _signature(node, indent)
    return [*out, *_doc(node, indent + INDENT), *block(node.body, indent + INDENT)]


def _signature(node: Method, indent: int) -> list[str]:
    returns = f" -> {node.returns}" if node.returns else ""
    parameters = [_parameter(parameter) for parameter in node.parameters]
    one = f"def {node.name}({', '.join(parameters)}){returns}:"
    if indent + len(one) <= WIDTH:
        return [" " * indent + one]
    inner = " " * (indent + INDENT)
    together = inner + ", ".join(parameters)
    rows = [together] if len(together) <= WIDTH else [f"{inner}{item}," for item in parameters]
    return [" " * indent + f"def {node.name}(", *rows, " " * indent + f"){returns}:"]


def _parameter(parameter: Parameter) -> str:
    text = f"{parameter.name}: {parameter.annotation}" if parameter.annotation else parameter.name
    return text if parameter.default is None else f"{text} = {parameter.default}"


def _doc(node: Method, indent: int) -> list[str]:
    if not node.doc:
        return []
    first, *rest = node.doc.splitlines()
    first = f"{first.removesuffix('.')} ({place(node.span)})." if node.span else first
    return docstring([first, *([""] if rest else []), *rest], indent)


def docstring(text: list[str], indent: int) -> list[str]:
    """A docstring: one line, or a first line, the rest, and the quotes on a line of their own."""
    space = " " * indent
    safe = [line.replace("\\", "\\\\").replace('"""', "'''") for line in text]
    rows = [row for line in safe for row in _wrapped(line, WIDTH - indent - 3)]
    if len(rows) == 1 and indent + len(rows[0]) + 6 <= WIDTH and not rows[0].endswith('"'):
        return [f'{space}"""{rows[0]}"""']
    return [f'{space}"""{rows[0]}', *((space + row).rstrip() for row in rows[1:]), f'{space}"""']


def _wrapped(line: str, width: int) -> list[str]:
    """The line cut at spaces."""
    rows = []
    while len(line) > width:
        cut = line.rfind(" ", 0, width)
        if cut <= 0:
            break
        rows.append(line[:cut].rstrip())
        line = line[cut:].lstrip()
    return [*rows, line]


def model_class(program: Program) -> list[str]:
    """The class with all its methods."""
    out = [f"class {program.class_name}(nn.Module):", *docstring([program.doc], INDENT)]
    for node in program.methods:
        out += ["", *method(node, INDENT)]
    return out
