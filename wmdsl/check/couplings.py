"""Couplings: cross, condition, align and hand, and what each of them reads."""

from __future__ import annotations

from fractions import Fraction

from wmdsl.check import errors
from wmdsl.check.codecs import codec_named, encoded, geometry, kind_of, level_of
from wmdsl.check.model import (
    Align,
    CallValue,
    Condition,
    Cross,
    Hand,
    TokenGroup,
    TokenSource,
    Trunk,
    Value,
)
from wmdsl.check.names import (
    NAMED,
    Encoded,
    groups,
    groups_of_trunk,
    missing,
    segments,
    single,
    trunk_of,
)
from wmdsl.check.scope import Draft, Mistake
from wmdsl.check.sources import frames_of, lies, written
from wmdsl.check.values import Layers, attributes, integer, number
from wmdsl.source import Span
from wmdsl.syntax import ast
from wmdsl.vocabulary import CONDITIONS, DISTANCES, FORMS, GUARDS, Attribute

TAP = ("layer", "at", "stop")
TIMED = ("dit",)
ALIGNED = ("adaln_per_token", "inject")
SEQUENCES = ("prefix_tokens", "prefix_per_frame")


def build_couplings(draft: Draft) -> None:
    """Fill the tables of crosses, conditions, aligns and hands."""
    for declaration in draft.of("cross"):
        draft.crosses[declaration.name.text] = draft.attempt(_cross, declaration)
    for declaration in draft.of("condition"):
        draft.conditions[declaration.name.text] = draft.attempt(_condition, declaration)
    for declaration in draft.of("align"):
        draft.aligns[declaration.name.text] = draft.attempt(_align, declaration)
    for declaration in draft.of("hand"):
        draft.hands[declaration.name.text] = draft.attempt(_hand, declaration)


def clause_of(declaration: ast.Declaration, role: str) -> ast.Clause:
    """A part of the head that must be there."""
    clause = declaration.clause(role)
    if clause is None:
        raise Mistake(None if declaration.damaged else errors.attributes.head_missing(declaration))
    return clause


def sources(draft: Draft, declaration: ast.Declaration) -> tuple[TokenSource, ...]:
    """Everything the `source` clause lists."""
    found: list[TokenSource] = []
    for item in clause_of(declaration, "source").items:
        found.extend(_source(draft, single(item)))
    return tuple(found)


def _source(draft: Draft, expression: ast.Expression) -> tuple[TokenSource, ...]:
    if isinstance(expression, ast.Call) and expression.function.dotted == "tap":
        return (_tap(draft, expression),)
    if isinstance(expression, ast.Reference) and expression.path[0] in draft.trunks:
        trunk = trunk_of(draft, expression, "a trunk")
        found = groups_of_trunk(draft, trunk, expression)
        return (_inside(draft, trunk, found, expression.span),)
    return tuple(_outside(draft, read, expression.span) for read in encoded(draft, expression))


def _outside(draft: Draft, read: Encoded, span: Span) -> TokenSource:
    """A segment through a codec, outside of every trunk."""
    size = geometry(draft, read, span)
    return TokenSource(
        segment=read.segment,
        codec=read.codec.name if read.codec else "",
        trunk=None,
        groups=(),
        layer=None,
        time=None,
        stop=False,
        count=size.count,
        width=size.features,
        level=level_of(draft, read),
        span=span,
    )


def _inside(
    draft: Draft,
    trunk: Trunk,
    found: tuple[TokenGroup, ...],
    span: Span,
    layer: int | None = None,
    time: Fraction | None = None,
    stop: bool = False,
) -> TokenSource:
    """Hidden states of token groups of a trunk."""
    return TokenSource(
        segment=None,
        codec=None,
        trunk=trunk.name,
        groups=() if found == trunk.groups else tuple(group.name for group in found),
        layer=layer,
        time=time,
        stop=stop,
        count=sum(group.count for group in found),
        width=trunk.width,
        level=trunk_level(draft, trunk, found),
        span=span,
    )


def trunk_level(draft: Draft, trunk: Trunk, found: tuple[TokenGroup, ...]) -> str:
    """Semantic for a language model; else that of the frames it carries, else of what it reads."""
    if trunk.kind == "decoder":
        return "semantic"
    streams = [draft.streams[group.segment.stream] for group in found]
    frames = any(stream.level in ("pixel", "latent", "3d") for stream in streams)
    return "latent" if frames or not streams else streams[0].level


def _tap(draft: Draft, call: ast.Call) -> TokenSource:
    """`tap(video_dit, layer 19, at 0.7, stop)`."""
    if not call.arguments:
        raise Mistake(errors.names.one_argument(call))
    head = single(call.arguments[0])
    if not isinstance(head, ast.Reference):
        raise Mistake(errors.names.one_argument(call))
    trunk = trunk_of(draft, head, "a trunk")
    options = _tap_options(call.arguments[1:])
    layer = options.get("layer")
    if layer is not None and layer > trunk.layers:
        raise Mistake(errors.shapes.too_deep(call.span, layer, trunk))
    found = groups_of_trunk(draft, trunk, head)
    return _inside(draft, trunk, found, call.span, layer, options.get("at"), "stop" in options)


def _tap_options(items: tuple[ast.Item, ...]) -> dict[str, Value]:
    options: dict[str, Value] = {}
    for item in items:
        word = item.terms[0]
        if not isinstance(word, ast.Reference) or word.dotted not in TAP:
            raise Mistake(errors.attributes.unknown_word(word.span, word.span.text, "tap", TAP))
        options[word.dotted] = _tap_value(word.dotted, item)
    return options


def _tap_value(name: str, item: ast.Item) -> Value:
    if name == "stop":
        return True
    rest = ast.Item(item.terms[1:], item.span)
    if name == "layer":
        row = Attribute("layer", "integer", "Blocks run before the tap.", minimum=0)
        return integer(row, _filled(row, rest))
    row = Attribute("at", "share", "Noise level at which the trunk is tapped.")
    value = _filled(row, rest).terms[0]
    if not isinstance(value, ast.Number):
        raise Mistake(errors.attributes.wrong_type(row, value))
    if not 0 <= value.value <= 1:
        raise Mistake(errors.attributes.out_of_range(row, value))
    return value.value


def _filled(row: Attribute, item: ast.Item) -> ast.Item:
    if len(item.terms) != 1:
        raise Mistake(errors.attributes.too_many_terms(row, item))
    return item


def blocks(layers: Layers, trunk: Trunk) -> tuple[int, ...]:
    """The numbers of the blocks that a pattern names in a trunk."""
    every = range(trunk.layers)
    words = {"all": every, "even": every[::2], "odd": every[1::2], "last": every[-1:]}
    if layers.word:
        return tuple(words[layers.word])
    found = layers.numbers or tuple(range(layers.low, layers.high + 1, layers.every))
    outside = next((block for block in found if block not in every), None)
    if outside is not None or not found:
        raise Mistake(errors.shapes.no_such_block(layers.span, outside, trunk))
    return tuple(found)


def _cross(draft: Draft, declaration: ast.Declaration) -> Cross:
    values = attributes(draft, FORMS["cross"], declaration)
    read = sources(draft, declaration)
    targets = [
        trunk_of(draft, single(item), "a trunk") for item in clause_of(declaration, "target").items
    ]
    for source in read:
        _check_not_itself(source, targets, declaration)
    if len({source.width for source in read}) > 1 and not values["embed"]:
        raise Mistake(errors.shapes.cross_widths_differ(declaration, read))
    layers = {blocks(values["layers"], trunk) for trunk in targets}
    if len(layers) > 1:
        raise Mistake(errors.shapes.targets_differ_in_depth(declaration, targets))
    for trunk in targets if values["per_frame"] else ():
        _check_frames(draft, declaration, read, trunk)
    for trunk in targets if values["paired"] else ():
        _check_paired(draft, declaration, read, trunk)
    return Cross(
        name=declaration.name.text,
        sources=read,
        targets=tuple(trunk.name for trunk in targets),
        layers=layers.pop(),
        gate=values["gate"],
        per_frame=values["per_frame"],
        frozen=values["frozen"],
        embedded=values["embed"],
        paired=values["paired"],
        span=declaration.span,
    )


def _check_frames(
    draft: Draft, declaration: ast.Declaration, read: tuple[TokenSource, ...], trunk: Trunk
) -> None:
    """All sources have as many frames, over which the tokens of the target are shared out."""
    counts = [frames for source in read for frames in frames_of(draft.trunks, source)]
    tokens = sum(group.count for group in trunk.groups)
    uneven = any(source.count % counts[0] for source in read)
    if len(set(counts)) > 1 or tokens % counts[0] or uneven or len(trunk.groups) > 1:
        raise Mistake(errors.shapes.frames_do_not_share(declaration, counts, trunk, tokens))


def _check_paired(
    draft: Draft, declaration: ast.Declaration, read: tuple[TokenSource, ...], trunk: Trunk
) -> None:
    """Block by block, a whole trunk of the same depth is read."""
    source = draft.trunks.get(read[0].trunk)
    plain = len(read) == 1 and source is not None and read[0].layer is None
    if not plain or source.layers != trunk.layers:
        raise Mistake(errors.shapes.blocks_do_not_pair(declaration, trunk))


def _check_not_itself(
    source: TokenSource, targets: list[Trunk], declaration: ast.Declaration
) -> None:
    if source.trunk in [trunk.name for trunk in targets]:
        raise Mistake(errors.couplings.reads_itself(declaration, source.trunk))


def _condition(draft: Draft, declaration: ast.Declaration) -> Condition:
    mechanism = kind_of(declaration, "condition", CONDITIONS)
    attributes(draft, FORMS["condition"], declaration, mechanism)
    if not mechanism.runs:
        draft.cannot_run("WM804", f"conditioning by {mechanism.name}", declaration.span)
    read = sources(draft, declaration)
    clause = clause_of(declaration, "target")
    if len(clause.items) > 1:
        raise Mistake(errors.names.one_target(clause))
    reference = single(clause.items[0])
    if not isinstance(reference, ast.Reference):
        raise Mistake(errors.names.segment_wanted(reference))
    if reference.dotted in draft.codecs:
        return _condition_codec(draft, declaration, mechanism.name, read, reference)
    trunk, found = _condition_target(draft, reference)
    for source in read:
        _check_not_itself(source, [trunk], declaration)
    if mechanism.name.startswith("adaln") and trunk.kind not in TIMED:
        raise Mistake(errors.couplings.no_modulation(declaration, mechanism.name, trunk))
    if mechanism.name in ALIGNED:
        _check_aligned(draft, declaration, read, trunk, found)
    if mechanism.name == "channel":
        _check_channels(declaration, read, found)
    if mechanism.name == "prefix_per_frame":
        count, frames = sum(part.count for part in read), sum(group.frames for group in found)
        if count % frames:
            raise Mistake(errors.shapes.frames_do_not_share(declaration, [frames], trunk, count))
    if mechanism.name in SEQUENCES and len({source.width for source in read}) > 1:
        raise Mistake(errors.shapes.prefix_widths_differ(declaration, read))
    return Condition(
        name=declaration.name.text,
        sources=read,
        trunk=trunk.name,
        codec=None,
        target_groups=() if found == trunk.groups else tuple(group.name for group in found),
        mechanisms=(mechanism.name,),
        span=declaration.span,
    )


def _condition_codec(
    draft: Draft,
    declaration: ast.Declaration,
    mechanism: str,
    read: tuple[TokenSource, ...],
    reference: ast.Reference,
) -> Condition:
    """Only a codec with channels can be scaled and shifted."""
    codec = codec_named(draft, reference)
    if mechanism not in ("film", "channel") or codec.kind not in ("conv", "vae", "vit"):
        raise Mistake(errors.couplings.no_modulation(declaration, mechanism, codec))
    if mechanism == "channel":
        draft.cannot_run("WM804", "conditioning of a codec by channel", declaration.span)
    name = declaration.name.text
    return Condition(name, read, None, codec.name, (), (mechanism,), declaration.span)


def _condition_target(
    draft: Draft, reference: ast.Reference
) -> tuple[Trunk, tuple[TokenGroup, ...]]:
    if reference.path[0] in draft.trunks:
        trunk = trunk_of(draft, reference, "a trunk")
        return trunk, groups_of_trunk(draft, trunk, reference)
    name = reference.path[0]
    if name not in draft.streams:
        known, other = {**draft.trunks, **draft.codecs}, draft.spec.find(name, *NAMED)
        what = "a trunk, its tokens or a codec"
        raise missing(draft, name, errors.names.unknown_trunk(reference, what, known, other))
    return _one_trunk(draft, reference)


def _one_trunk(draft: Draft, reference: ast.Reference) -> tuple[Trunk, tuple[TokenGroup, ...]]:
    """The one trunk in which a stream stands, and its groups there."""
    found = groups(draft, reference)
    names = list(dict.fromkeys(group.trunk for group in found))
    if len(names) > 1:
        raise Mistake(errors.couplings.stands_in_several(reference, names))
    return draft.trunks[names[0]], found


def _check_aligned(
    draft: Draft,
    declaration: ast.Declaration,
    read: tuple[TokenSource, ...],
    trunk: Trunk,
    found: tuple[TokenGroup, ...],
) -> None:
    """Per-token sources need as many tokens as the target, or a whole share of them."""
    wanted = sum(group.count for group in found)
    for source in read:
        if wanted % source.count:
            raise Mistake(errors.shapes.tokens_do_not_align(declaration, source.count, wanted))


def _check_channels(
    declaration: ast.Declaration, read: tuple[TokenSource, ...], found: tuple[TokenGroup, ...]
) -> None:
    """What stands beside the features of a group lies along its tokens or its frames."""
    for source in written(read):
        for group in found:
            if lies(source, group) is None:
                count = sum(part.count for part in source)
                raise Mistake(errors.shapes.no_channels(declaration, count, group))


def _align(draft: Draft, declaration: ast.Declaration) -> Align:
    distance = kind_of(declaration, "align", DISTANCES)
    values = attributes(draft, FORMS["align"], declaration, distance)
    source = _align_source(draft, declaration, values["layer"])
    clause = clause_of(declaration, "target")
    (item,) = clause.items if len(clause.items) == 1 else (None,)
    if item is None:
        raise Mistake(errors.names.one_target(clause))
    target = encoded(draft, single(item))
    if len(target) > 1:
        raise Mistake(errors.names.one_segment(item.span, [read.segment for read in target]))
    size = geometry(draft, target[0], item.span)
    if source.count != size.count:
        raise Mistake(
            errors.shapes.align_counts_differ(source, clause.span, size.frames, size.per_frame)
        )
    if values["projector"] == "none" and source.width != size.features:
        raise Mistake(errors.shapes.align_widths_differ(source, clause.span, size.features))
    _check_guard(declaration, values["gradient"], values["guard"], values["teacher"])
    if values["guard"] and not GUARDS[values["guard"].name].runs:
        draft.cannot_run("WM806", f"the guard {values['guard'].name}", declaration.span)
    return Align(
        name=declaration.name.text,
        source=source,
        target=target[0].segment,
        target_codec=target[0].codec.name if target[0].codec else "",
        target_count=size.count,
        target_width=size.features,
        target_level=level_of(draft, target[0]),
        distance=distance.name,
        over=values.get("over", "feature"),
        temperature=values.get("temperature", Fraction(1, 10)),
        projector=values["projector"],
        teacher=values["teacher"],
        gradient=values["gradient"],
        guard=values["guard"],
        weight=weight(draft, values["weight"], apart=True),
        attributes=values.complete(),
        span=declaration.span,
    )


def _align_source(draft: Draft, declaration: ast.Declaration, layer: int | None) -> TokenSource:
    clause = clause_of(declaration, "source")
    if len(clause.items) > 1:
        raise Mistake(errors.names.one_target(clause))
    expression = single(clause.items[0])
    if not isinstance(expression, ast.Reference):
        raise Mistake(errors.names.segment_wanted(expression))
    if expression.path[0] in draft.trunks:
        trunk = trunk_of(draft, expression, "a trunk")
        found = groups_of_trunk(draft, trunk, expression)
    else:
        trunk, found = _one_trunk(draft, expression)
    if layer is not None and layer > trunk.layers:
        raise Mistake(errors.shapes.too_deep(declaration.attribute("layer").span, layer, trunk))
    return _inside(draft, trunk, found, expression.span, layer)


def _check_guard(
    declaration: ast.Declaration, gradient: bool, guard: CallValue | None, teacher: CallValue
) -> None:
    """A gradient into the target needs a guard, and a target that has weights to train."""
    if gradient and teacher.name != "same":
        raise Mistake(errors.training.gradient_into_teacher(declaration, teacher.name))
    if gradient and guard is None:
        raise Mistake(errors.training.guard_needed(declaration, GUARDS))


def weight(draft: Draft, items: tuple[ast.Item, ...], apart: bool = False) -> Fraction:
    """The weight of a loss term; `apart` where it may be another one for some data sources."""
    plain = Fraction(1)
    row = Attribute("weight", "real", "Weight of the loss term.", minimum=0)
    for item in items:
        first = item.terms[0]
        value = number(row, ast.Item((first,), item.span))
        if value == 0:
            draft.report(errors.training.weightless(item))
        if len(item.terms) > 1 and not apart:
            draft.cannot_run("WM807", "a weight by data source of what is generated", item.span)
        elif len(item.terms) > 1:
            _check_source(item)
        else:
            plain = value
    return plain


def _check_source(item: ast.Item) -> None:
    """`1 on human_video`."""
    words = item.terms[1:]
    if len(words) != 2 or not all(isinstance(word, ast.Reference) for word in words):
        raise Mistake(errors.layouts.source_malformed(item))
    if words[0].dotted != "on":
        raise Mistake(errors.layouts.source_malformed(item))


def _hand(draft: Draft, declaration: ast.Declaration) -> Hand:
    values = attributes(draft, FORMS["hand"], declaration)
    clause, target = clause_of(declaration, "source"), clause_of(declaration, "target")
    for part in (clause, target):
        if len(part.items) > 1:
            raise Mistake(errors.names.one_target(part))
    found = segments(draft, single(clause.items[0]))
    futures = [segment for segment in found if not segment.observed]
    if len(futures) != 1:
        raise Mistake(errors.couplings.hand_needs_future(clause.span, found))
    reference = single(target.items[0])
    receiver = _receiver(draft, reference, futures[0].reference, declaration)
    return Hand(
        name=declaration.name.text,
        segment=futures[0],
        trunk=receiver,
        training=values["training"],
        mask=values["mask"],
        sparsity=values["sparsity"],
        payload=values["payload"],
        span=declaration.span,
    )


def _receiver(
    draft: Draft, reference: ast.Expression, segment: str, declaration: ast.Declaration
) -> str:
    """A trunk that holds the segment, or a planner or extern, which has no runtime yet."""
    if not isinstance(reference, ast.Reference):
        raise Mistake(errors.names.segment_wanted(reference))
    if draft.spec.find(reference.dotted, "planner", "extern"):
        draft.used_externs.add(reference.dotted)
        draft.cannot_run("WM804", "a hand-over to a planner or extern", declaration.span)
        return reference.dotted
    trunk = trunk_of(draft, reference, "a trunk, planner or extern")
    if trunk.group(segment) is None:
        raise Mistake(errors.couplings.nobody_receives(declaration, segment, trunk))
    return trunk.name
