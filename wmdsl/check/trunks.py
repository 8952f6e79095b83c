"""Trunks, their token groups, and the joins between them."""

from __future__ import annotations

from wmdsl.check import errors
from wmdsl.check.codecs import encoded, geometry, kind_of
from wmdsl.check.model import CallValue, Join, TokenGroup, Trunk
from wmdsl.check.names import single, trunk_of
from wmdsl.check.scope import Draft, Mistake, Values
from wmdsl.check.values import attributes
from wmdsl.diagnostics import Diagnostic
from wmdsl.syntax import ast
from wmdsl.vocabulary import FORMS, TRUNKS

JOINED = ("layers", "heads", "kv_heads", "head_dim")
UNTOLD = {"unet": "own"}  # kinds that do not say whose times they are told
UNET_HEAD = 64
PLAIN = {"heads": (0, 0, 0), "ffn": 0, "qk_norm": "none", "positions": "none"}


def build_trunks(draft: Draft) -> None:
    """Fill `draft.trunks`."""
    for declaration in draft.of("trunk"):
        draft.trunks[declaration.name.text] = draft.attempt(_trunk, declaration)
    for declaration in draft.of("trunk"):
        with draft.guard():
            _check_start(draft, declaration)


def _trunk(draft: Draft, declaration: ast.Declaration) -> Trunk:
    kind = kind_of(declaration, "trunk", TRUNKS)
    values = attributes(draft, FORMS["trunk"], declaration, kind)
    groups = _groups(draft, declaration, values)
    transformer = kind.attribute("heads") is not None
    width = values["width"]
    heads, head_dim, kv_heads = _heads(values, declaration) if transformer else PLAIN["heads"]
    if kind.name == "unet":
        heads, head_dim, kv_heads = _unet_heads(values, declaration)
    return Trunk(
        name=declaration.name.text,
        kind=kind.name,
        layers=values["layers"],
        width=width,
        heads=heads,
        head_dim=head_dim,
        kv_heads=kv_heads,
        ffn=values["ffn"] or _ffn(kind.name, width) if transformer else PLAIN["ffn"],
        qk_norm=values["qk_norm"] if transformer else PLAIN["qk_norm"],
        positions=values["positions"] if transformer else PLAIN["positions"],
        told=values["told"] if kind.attribute("told") else UNTOLD.get(kind.name, "none"),
        groups=groups,
        frozen=values["frozen"],
        attributes={**values.complete(), "init": _start(values["init"])},
        span=declaration.span,
    )


def _start(items: tuple[ast.Item, ...] | None) -> str | CallValue | None:
    """Where weights start: a hub id, or `resize(trunk)`; `_check_start` has judged the items."""
    match [term for item in items or () for term in item.terms]:
        case [ast.Text(value=hub)]:
            return hub
        case [ast.Reference(), ast.Reference() as other]:
            return CallValue("resize", (other.dotted,))
    return None


def _check_start(draft: Draft, declaration: ast.Declaration) -> None:
    """`init` names a hub id, or a trunk of the same kind and depth whose weights are resized."""
    attribute = declaration.attribute("init")
    if attribute is None:
        return
    match [term for item in attribute.items for term in item.terms]:
        case [ast.Text()]:
            return
        case [ast.Reference(path=("resize",)), ast.Reference() as other]:
            source, own = trunk_of(draft, other, "a trunk"), draft.trunks[declaration.name.text]
        case [first, *_]:
            raise Mistake(errors.attributes.start_wanted(first))
        case _:
            return
    if own is not None and (source.kind, source.layers) != (own.kind, own.layers):
        raise Mistake(errors.attributes.resize_differs(attribute, source, own))


def _ffn(kind: str, width: int) -> int:
    """4 x width; of a gated feed-forward 8/3 x width, rounded up to a multiple of 32."""
    return 4 * width if kind != "decoder" else -(-8 * width // 96) * 32


def _heads(values: Values, declaration: ast.Declaration) -> tuple[int, int, int]:
    """Heads, head dim and key heads; the head dim must suit the rotary positions."""
    heads, head_dim, kv_heads = values["heads"]
    attribute = declaration.attribute("heads")
    if head_dim is None:
        if values["width"] % heads:
            width = declaration.attribute("width")
            raise Mistake(
                errors.shapes.heads_do_not_divide(attribute, heads, width, values["width"])
            )
        head_dim = values["width"] // heads
    if heads % kv_heads:
        raise Mistake(errors.shapes.key_heads_do_not_divide(attribute, heads, kv_heads))
    positions = values["positions"]
    if positions.startswith("rope") and not _splits(head_dim, positions):
        rope = declaration.attribute("positions")
        raise Mistake(errors.shapes.rope_cannot_split(attribute, head_dim, rope, positions))
    return heads, head_dim, kv_heads


def _unet_heads(values: Values, declaration: ast.Declaration) -> tuple[int, int, int]:
    """Heads of 64 channels, or one; as many resolutions as blocks lead down, at most."""
    half = max(values["layers"] // 2, 1)
    if values["levels"] > half:
        raise Mistake(errors.shapes.too_many_levels(declaration.attribute("levels"), half))
    heads = values["width"] // UNET_HEAD if values["width"] % UNET_HEAD == 0 else 1
    return heads, values["width"] // heads, heads


def _splits(head_dim: int, positions: str) -> bool:
    """Rotary pairs need an even size; three axes need a pair each."""
    return head_dim % 2 == 0 and (positions == "rope_1d" or head_dim >= 6)


def _groups(draft: Draft, declaration: ast.Declaration, values: Values) -> tuple[TokenGroup, ...]:
    """The token groups in order, each segment once; an entry in error is left out."""
    found: dict[str, TokenGroup] = {}
    failed = 0
    for item in values["tokens"]:
        made = draft.attempt(_entry, declaration.name.text, item)
        failed += made is None
        for group in made or ():
            if group.name in found:
                draft.report(
                    errors.names.listed_twice(group.name, found[group.name].span, group.span)
                )
            found.setdefault(group.name, group)
    if failed:
        raise Mistake
    return tuple(found.values())


def _entry(draft: Draft, trunk: str, item: ast.Item) -> tuple[TokenGroup, ...]:
    expression = single(item)
    groups = []
    for read in encoded(draft, expression):
        size = geometry(draft, read, expression.span)
        groups.append(
            TokenGroup(
                name=read.segment.reference,
                trunk=trunk,
                segment=read.segment,
                codec=read.codec.name if read.codec else "",
                frames=size.frames,
                per_frame=size.per_frame,
                grid=size.grid,
                features=size.features,
                span=expression.span,
            )
        )
    return tuple(groups)


def build_joins(draft: Draft) -> None:
    """Fill `draft.joins`; a trunk stands in one join at most."""
    joined: dict[str, ast.Declaration] = {}
    for declaration in draft.of("join"):
        join = draft.attempt(_join, declaration)
        draft.joins[declaration.name.text] = join
        for name in join.trunks if join else ():
            if name in joined:
                draft.report(errors.couplings.joined_twice(name, joined[name], declaration))
            joined.setdefault(name, declaration)


def _join(draft: Draft, declaration: ast.Declaration) -> Join:
    attributes(draft, FORMS["join"], declaration)
    clause = declaration.clause("members")
    if clause is None:
        raise Mistake(None if declaration.damaged else errors.attributes.head_missing(declaration))
    trunks = [trunk_of(draft, single(item), "a trunk") for item in clause.items]
    names = [trunk.name for trunk in trunks]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise Mistake(errors.couplings.join_needs_two(clause, names))
    first = trunks[0]
    for other in trunks[1:]:
        for size in JOINED:
            if getattr(first, size) != getattr(other, size):
                draft.report(_join_mismatch(draft, declaration, size, first, other))
    return Join(declaration.name.text, tuple(names), declaration.span)


def _join_mismatch(
    draft: Draft, declaration: ast.Declaration, size: str, left: Trunk, right: Trunk
) -> Diagnostic:
    """Both sides of what keeps two trunks from attending as one."""
    attribute = "layers" if size == "layers" else "heads"
    sides = [
        (trunk, draft.spec.find(trunk.name, "trunk").attribute(attribute))
        for trunk in (left, right)
    ]
    return errors.shapes.join_differs(declaration, size, sides)
