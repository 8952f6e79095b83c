"""The printer: brackets, precedence, where lines break."""

import ast

import pytest

from wmdsl.emit.expressions import WIDTH, flat, lines
from wmdsl.emit.statements import block
from wmdsl.lower.program import Body, Literal, Name, expression, of, torch

A, B, C = Name("a"), Name("b"), Name("c")
LONG = [Name(f"a_rather_long_name_{index}") for index in range(8)]


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ((A + B) * C, "(a + b) * c"),
        (A + B * C, "a + b * c"),
        (A - (B - C), "a - (b - c)"),
        ((A - B) - C, "a - b - c"),
        ((A + B) / C, "(a + b) / c"),
        (2 * A - 1, "2 * a - 1"),
        (of(A + B, "mean")(), "(a + b).mean()"),
        (A[:, 1:4], "a[:, 1:4]"),
        (A[..., None], "a[..., None]"),
        (expression((1,)), "(1,)"),
        (expression({"x": [1, 2]}), '{"x": [1, 2]}'),
        (A(B, key=C), "a(b, key=c)"),
        (A.or_(5), "a or 5"),
        (A.below(B), "a < b"),
        (of(Literal(2), "x"), "(2).x"),
        (expression('say "hi"'), r'"say \"hi\""'),
    ],
)
def test_flat(node, text):
    assert flat(node) == text


@pytest.mark.parametrize(
    "node",
    [
        torch(*LONG),
        torch([*LONG], dim=1),
        torch(of(A, "b")(*LONG), *LONG),
        LONG[0] + LONG[1] * torch(*LONG),
        LONG[0] * LONG[1] + LONG[2] * LONG[3] + LONG[4] * LONG[5],
        (LONG[0] + LONG[1] + LONG[2] + LONG[3] + LONG[4]) / LONG[5],
        expression({f"key_{index}": name for index, name in enumerate(LONG)}),
        of(torch(*LONG), "mean")(dim=1),
    ],
)
def test_broken_lines_mean_the_same(node):
    parts = lines(node, 8, 10, 0)
    assert len(parts) > 1
    assert all(len(part) <= WIDTH for part in parts)
    assert ast.dump(ast.parse("(" + "\n".join(parts) + ")")) == ast.dump(
        ast.parse(f"({flat(node)})")
    )


def test_statements():
    body = Body()
    body.section("one")
    body.assign((A, B), C)
    with body.loop(A, Name("range")(3)):
        body.do(B(A))
    body.section("two")
    body.give_back((A, B))
    assert block(body.statements, 4) == [
        "    # one",
        "    a, b = c",
        "    for a in range(3):",
        "        b(a)",
        "",
        "    # two",
        "    return a, b",
    ]


def test_unused_names_are_pruned():
    body = Body()
    body.assign(A, 1)
    body.assign(B, 2)
    body.give_back(B)
    assert block(body.pruned(A, B), 0) == ["b = 2", "return b"]
