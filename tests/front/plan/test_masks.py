"""Attend rows as key ranges, against boolean matrices written straight from the definition."""

import operator
from fractions import Fraction
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmdsl.check.model import Attend, Rule, Segment, TokenGroup
from wmdsl.diagnostics import Diagnostics
from wmdsl.plan.masks import attention_rows, visible_groups
from wmdsl.plan.nodes import Placed
from wmdsl.plan.ranges import canonical, is_dense, most_ranges, pairs, restricted
from wmdsl.source import Source, Span
from wmdsl.syntax import ast, parse

NOWHERE = Span(Source("test", ""), 0, 0)
COMPARE = {"<": operator.lt, "<=": operator.le, "==": operator.eq, ">=": operator.ge,
           ">": operator.gt}  # fmt: skip
TRUNK = "trunk"


class Layout:
    """Groups laid end to end, `name=(frames, tokens per frame)`, with rows in the language."""

    def __init__(self, rows: str | None, **sizes: tuple[int, int]):
        self.placed, self.streams, start = [], {}, 0
        for name, (frames, per_frame) in sizes.items():
            segment = Segment(name, "now", tuple(range(frames)), NOWHERE)
            group = TokenGroup(name, TRUNK, segment, "c", frames, per_frame, None, 1, NOWHERE)
            self.placed.append(Placed(group, start))
            self.streams[name] = SimpleNamespace(start=lambda part: 0)
            start += frames * per_frame
        self.tokens = start
        self.attend = None if rows is None else self._attend(rows)

    def _attend(self, text: str) -> Attend:
        diagnostics = Diagnostics()
        source = Source("test.wm", f"edition 2026\nmodel m {{ attend {{\n{text}\n}} }}\n")
        (entry,) = parse(source, diagnostics).models[0].entries
        assert not len(diagnostics), [found.message for found in diagnostics]
        rules = tuple(
            Rule(self._names(row.subjects), self._names(row.objects), row.relations, row.span)
            for row in entry.rows
            if isinstance(row, ast.Sees)
        )
        orders = tuple(row for row in entry.rows if isinstance(row, ast.Order))
        return Attend("space", rules, orders, NOWHERE)

    def _names(self, expressions):
        return tuple((TRUNK, part.dotted) for part in expressions if part.dotted != "nothing")

    def rows(self, causal: bool = False):
        return attention_rows(self.model, self.placed, self.attend, causal)

    @property
    def model(self):
        return SimpleNamespace(streams=self.streams, codecs={})

    def matrix(self) -> list[list[bool]]:
        """Who sees whom, token by token, from the rules alone."""
        tokens = [
            (placed, place, self._key(placed, place - placed.start))
            for placed in self.placed
            for place in range(placed.start, placed.end)
        ]
        return [[self._sees(query, key) for key in tokens] for query in tokens]

    def _sees(self, query, key) -> bool:
        return any(
            query[0].key in rule.subjects
            and key[0].key in rule.objects
            and all(
                COMPARE[relation.operator](
                    value(relation.left, {"q": query[2], "k": key[2]}),
                    value(relation.right, {"q": query[2], "k": key[2]}),
                )
                for relation in rule.relations
            )
            for rule in self.attend.rules
        )

    def _key(self, placed, index):
        for order in self.attend.orders:
            if order.subject.dotted == placed.group.name:
                frame = index // placed.group.per_frame
                return value(order.key, {"frame": frame, "step": frame, "token": index})
        return placed.start + index


def value(node, names):
    """An arithmetic tree, evaluated."""
    if isinstance(node, ast.Number):
        return node.value
    if isinstance(node, ast.Reference):
        return Fraction(names[node.dotted])
    left, right = value(node.left, names), value(node.right, names)
    if node.operator == "/":
        return Fraction(left // right)
    return {"+": left + right, "-": left - right, "*": left * right}[node.operator]


def matrix(rows, tokens: int) -> list[list[bool]]:
    found = [[False] * tokens for _ in range(tokens)]
    for query_start, query_end, key_start, key_end in rows:
        for query in range(query_start, query_end):
            for key in range(key_start, key_end):
                assert not found[query][key], "a pair stands in two rows"
                found[query][key] = True
    return found


# published masks, as boolean rules in the words of their papers


def fast_wam(joint: bool) -> Layout:
    rows = f"""
        now sees now
        future sees now, future
        action sees now, {"future, " if joint else ""}action
    """
    return Layout(rows, now=(1, 98), future=(2, 98), action=(32, 1))


@pytest.mark.parametrize("joint, ranges", [(False, 2), (True, 1)])
def test_fast_wam(joint, ranges):
    layout = fast_wam(joint)
    rows = layout.rows()
    now, video, tokens = 98, 294, 326
    expected = [
        [
            (q >= video and (k < now or k >= video or joint))
            or (q < video and k < (now if q < now else video))
            for k in range(tokens)
        ]
        for q in range(tokens)
    ]
    assert matrix(rows, tokens) == expected
    assert most_ranges(rows) == ranges
    assert round(pairs(rows) / tokens**2, 3) == (0.731 if joint else 0.672)


def test_fast_wam_idm_copies_never_meet():
    rows = """
        noisy_now sees noisy_now
        noisy_future sees noisy_now, noisy_future
        clean_now sees clean_now
        clean_future sees clean_now, clean_future
        action sees clean_now, clean_future, action
    """
    layout = Layout(
        rows, noisy_now=(1, 98), noisy_future=(2, 98), clean_now=(1, 98), clean_future=(2, 98),
        action=(32, 1),
    )  # fmt: skip
    now, video, tokens = 98, 294, 620

    def sees(q, k):
        if q >= 2 * video:
            return k >= video
        first = q // video * video
        return first <= k < first + (now if q < first + now else video)

    expected = [[sees(q, k) for k in range(tokens)] for q in range(tokens)]
    found = layout.rows()
    assert matrix(found, tokens) == expected
    assert round(pairs(found) / tokens**2, 3) == 0.377
    assert most_ranges(found) == 1


@pytest.mark.parametrize("frames, chunk, window", [(8, 2, 64), (16, 1, 64), (16, 4, 8), (12, 2, 4)])
def test_lingbot(frames, chunk, window):
    per_frame, steps = 6, 4
    rows = f"""
        order noisy_video by 2 * (frame / {chunk})
        order clean_video by 2 * (frame / {chunk})
        order noisy_action by 2 * (step / {steps * chunk}) + 1
        order clean_action by 2 * (step / {steps * chunk}) + 1
        clean_video, clean_action sees clean_video, clean_action where k <= q, q - k <= {window}
        noisy_video, noisy_action sees clean_video, clean_action where k < q, q - k <= {window}
        noisy_video, noisy_action sees noisy_video, noisy_action where k == q
    """
    layout = Layout(
        rows, noisy_video=(frames, per_frame), clean_video=(frames, per_frame),
        noisy_action=(frames * steps, 1), clean_action=(frames * steps, 1),
    )  # fmt: skip
    kinds = []
    for video, count in ((True, per_frame), (False, steps)):
        for noisy in (True, False):
            kinds += [
                (f // chunk * 2 + (not video), noisy) for f in range(frames) for _ in range(count)
            ]

    def sees(q, k):
        (mine, noisy), (theirs, other) = kinds[q], kinds[k]
        if abs(mine - theirs) > window:
            return False
        if noisy and other:
            return mine == theirs
        return not other and (theirs < mine if noisy else theirs <= mine)

    expected = [[sees(q, k) for k in range(layout.tokens)] for q in range(layout.tokens)]
    found = layout.rows()
    assert matrix(found, layout.tokens) == expected
    assert most_ranges(found) <= 3


def test_pi0_is_block_causal():
    rows = "prefix sees prefix\nstate sees prefix, state\naction sees prefix, state, action"
    layout = Layout(rows, prefix=(1, 816), state=(1, 1), action=(50, 1))
    blocks = [0] * 816 + [1] + [2] * 50
    expected = [[blocks[k] <= blocks[q] for k in range(867)] for q in range(867)]
    found = layout.rows()
    assert matrix(found, 867) == expected
    assert round(pairs(found) / 867**2, 3) == 0.945
    assert found == ((0, 816, 0, 816), (816, 817, 0, 817), (817, 867, 0, 867))


def test_a_mask_that_hides_nothing_vanishes():
    found = Layout("a, b sees a, b", a=(2, 3), b=(4, 1)).rows()
    assert found == ((0, 10, 0, 10),)
    assert is_dense(found, 10)


def test_without_an_attend():
    assert Layout(None, a=(1, 2), b=(2, 1)).rows() == ((0, 4, 0, 4),)
    causal = Layout(None, a=(1, 2), b=(1, 1)).rows(causal=True)
    assert causal == ((0, 1, 0, 1), (1, 2, 0, 2), (2, 3, 0, 3))


# any mask


NAMES = ("a", "b", "c")
SIDES = st.recursive(
    st.sampled_from(["q", "k", "0", "1", "2", "3", "7"]),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
        lambda parts: f"({' '.join(parts)})"
    ),
    max_leaves=3,
)
RELATIONS = st.tuples(SIDES, st.sampled_from(sorted(COMPARE)), SIDES).map(" ".join)
ORDERS = st.sampled_from(["frame", "2 * frame + 1", "frame / 2", "7 - frame", "token / 3", "4"])
GROUPS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True).map(", ".join)


@st.composite
def attends(draw) -> str:
    orders = draw(st.dictionaries(st.sampled_from(NAMES), ORDERS))
    rows = [f"order {name} by {key}" for name, key in orders.items()]
    for _ in range(draw(st.integers(1, 4))):
        relations = draw(st.lists(RELATIONS, max_size=2))
        where = f" where {', '.join(relations)}" if relations else ""
        objects = draw(st.one_of(GROUPS, st.just("nothing")))
        rows.append(f"{draw(GROUPS)} sees {objects}{where if objects != 'nothing' else ''}")
    return "\n".join(rows)


@settings(max_examples=60, deadline=None)
@given(attends(), st.tuples(*[st.tuples(st.integers(1, 4), st.integers(1, 4))] * 3))
def test_ranges_are_the_matrix(rows, sizes):
    layout = Layout(rows, **dict(zip(NAMES, sizes, strict=True)))
    found = layout.rows()
    assert matrix(found, layout.tokens) == layout.matrix()
    assert found == canonical(
        ((q, q + 1), [(k, k + 1) for k, seen in enumerate(row) if seen])
        for q, row in enumerate(layout.matrix())
    )


@settings(max_examples=60, deadline=None)
@given(attends(), st.booleans(), st.tuples(*[st.tuples(st.integers(1, 3), st.integers(1, 3))] * 3))
def test_groups_see_each_other_where_their_tokens_do(rows, without, sizes):
    layout = Layout(None if without else rows, **dict(zip(NAMES, sizes, strict=True)))
    whole = matrix(layout.rows(causal=without), layout.tokens)
    expected = [
        (query.group.name, key.group.name)
        for query in layout.placed
        for key in layout.placed
        if query is not key
        and any(any(row[key.start : key.end]) for row in whole[query.start : query.end])
    ]
    found = visible_groups(layout.model, layout.placed, layout.attend, causal=without)
    assert [(query.group.name, key.group.name) for query, key in found] == expected


@settings(max_examples=25, deadline=None)
@given(attends(), st.sets(st.sampled_from(NAMES), min_size=1))
def test_deleting_tokens_keeps_the_rest(rows, kept):
    layout = Layout(rows, a=(2, 2), b=(3, 1), c=(1, 3))
    spans = tuple((p.start, p.end) for p in layout.placed if p.group.name in kept)
    alive = [place for start, end in spans for place in range(start, end)]
    whole = layout.matrix()
    expected = [[whole[query][key] for key in alive] for query in alive]
    assert matrix(restricted(layout.rows(), spans), len(alive)) == expected
