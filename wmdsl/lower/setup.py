"""`__init__`: the modules of every declaration."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from wmdsl.check.codecs import TIME, conv_strides
from wmdsl.check.model import (
    Align,
    CallValue,
    Codec,
    Condition,
    Cross,
    Hand,
    Stream,
    TokenGroup,
    Trunk,
)
from wmdsl.check.sources import written
from wmdsl.check.streams import spacing
from wmdsl.lower.codecs import direct
from wmdsl.lower.context import Context, generated, grid_of, group_name, number
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.pretrained import (
    autoencoder,
    frame_encoder,
    groups_in,
    quantizer,
    text_encoder,
    tokenizer,
)
from wmdsl.lower.program import (
    Block,
    Body,
    Call,
    Expression,
    Method,
    Name,
    Parameter,
    expression,
    me,
    nn,
    of,
    repeated,
    torch,
)
from wmdsl.lower.spaces import TIMED, Reading, cross_module, embedding, rotary, shares_modulation
from wmdsl.plan.parameters import (
    LEARNED,
    adapted,
    banks,
    read_streams,
    shrunk_map,
    source_width,
    table_rows,
    used_codecs,
    vocabulary,
)
from wmdsl.plan.spaces import prefix_group, prefixes
from wmdsl.plan.unet import middle, strides

HEADS = {"none": "Heads", "per_head": "NormedHeads", "across_heads": "JointlyNormedHeads"}
BLOCKS = {"vit": "ViTBlock", "decoder": "DecoderBlock"}
NORMALISED = ("zscore", "minmax", "quantile")
COPIED = ("frozen", "ema")
WEIGHTLESS = ("patch", "linear", "bins", "embed", "pool", "latent_frame", TIME)
PRETRAINED = {
    "vae": autoencoder,
    "vit": frame_encoder,
    "vq": quantizer,
    "text_encoder": text_encoder,
    "tokenizer": tokenizer,
}


def constructor(context: Context) -> Method:
    """`__init__` of the emitted class."""
    body, model = Body(), context.model
    body.do(of(Name("super")(), "__init__")())
    for stream in model.streams.values():
        _statistics(body, stream)
    for codec in used_codecs(model):
        _codec(context, body, codec)
    for trunk in model.trunks.values():
        _trunk(context, body, trunk)
    for trunk in model.trunks.values():
        _resize(context, body, trunk)
    for cross in model.crosses.values():
        _cross(context, body, cross)
    for condition in model.conditions.values():
        _condition(context, body, condition)
    for align in model.aligns.values():
        _align(context, body, align)
    for hand in model.hands.values():
        _hand(context, body, hand)
    return Method("__init__", (Parameter("self", ""),), "", "", body.statements)


def _register(body: Body, name: str, value: Expression, persistent: bool = True) -> None:
    more = {} if persistent else {"persistent": False}
    body.do(of(me, "register_buffer")(name, value, **more))


def _statistics(body: Body, stream: Stream) -> None:
    """Mean and scale of a stream of numbers; the identity until the data set's are loaded."""
    if stream.normalise in NORMALISED:
        body.section(f"stream {stream.name}, normalised by {stream.normalise}", stream.span)
        _register(body, f"{stream.name}_mean", of(torch, "zeros")(*stream.shape))
        _register(body, f"{stream.name}_scale", of(torch, "ones")(*stream.shape))


def codec_module(context: Context, codec: Codec) -> Expression | None:
    """The constructor of a codec's weights; None where it has none."""
    streams = read_streams(context.model, codec)
    if codec.kind in WEIGHTLESS:
        return None
    module = _one_codec(context, codec, streams)
    read = (context.model.streams[name].segments[0] for name in streams)
    counts = {banks(context.model, segment) for segment in read}
    if len(counts) > 1:
        what = f"codec {codec.name} reads streams with and without embodiments"
        raise Unsupported(what, codec.span)
    return _banked(module, counts.pop())


def _banked(module: Expression, count: int) -> Expression:
    """A module, or one for each embodiment."""
    return Block("Bank")(repeated(module, count)) if count else module


def _one_codec(context: Context, codec: Codec, streams: list[str]) -> Expression:
    attributes = codec.attributes
    if codec.kind in PRETRAINED:
        return PRETRAINED[codec.kind](codec, context.model.streams[streams[0]])
    shape = context.model.streams[streams[0]].shape
    if codec.kind == "conv" and attributes["readout"] == "keypoints":
        return Block("ConvKeypoints")(
            shape[0],
            attributes["channels"],
            conv_strides(codec),
            shrunk=shrunk_map(shape, codec),
            points=attributes["points"],
            tokens=attributes["tokens"],
        )
    if codec.kind == "conv":
        return Block("ConvGrid")(shape[0], attributes["channels"], conv_strides(codec))
    if codec.kind == "mlp":
        return Block("Perceptron")(shape[0], attributes["hidden"])
    if codec.kind == "bytes":
        return _bytes_encoder(codec, shape[0])
    raise Unsupported(f"codecs of kind {codec.kind} do not run yet", codec.span)


def _bytes_encoder(codec: Codec, length: int) -> Expression:
    width = codec.attributes["width"]
    heads = 1 if width % 32 else width // 32
    return Block("BytesEncoder")(
        length,
        width,
        layers=codec.attributes["layers"],
        heads=heads,
        tokens=codec.attributes["tokens"],
    )


def _codec(context: Context, body: Body, codec: Codec) -> None:
    module = codec_module(context, codec)
    if module is not None:
        if direct(codec) and not codec.frozen and _is_target(context, codec):
            message = f"codec {codec.name} cannot be trained by what is generated through it"
            raise Unsupported(message, codec.span)
        body.section(f"codec {codec.name}: {codec.kind}", codec.span)
        _own(body, context.owned("codec", codec.name), module, codec.frozen)


def _is_target(context: Context, codec: Codec) -> bool:
    """Whether a loss compares with what the codec puts out."""
    groups = [group for trunk in context.model.trunks.values() for group in trunk.groups]
    return any(group.codec == codec.name and generated(context.model, group) for group in groups)


def _own(body: Body, target: Expression, module: Expression, frozen: bool = False) -> None:
    body.assign(target, of(module, "requires_grad_")(False) if frozen else module)


def _trunk(context: Context, body: Body, trunk: Trunk) -> None:
    """A table of modules, in order of the data flow."""
    shape = f"{trunk.layers} blocks, width {trunk.width}"
    if trunk.heads:
        shape = f"{shape}, {trunk.heads} heads x {trunk.head_dim}"
    body.section(f"trunk {trunk.name}: {trunk.kind}, {shape}", trunk.span)
    parts: dict[str, Expression] = {}
    for group in trunk.groups:
        count = banks(context.model, group.segment)
        parts[f"{group_name(context.model, group)}_in"] = _banked(
            _inward(context, trunk, group), count
        )
    if trunk.kind in TIMED:
        parts["time"] = Block("TimeCode")(trunk.width)
        if shares_modulation(trunk):
            parts["shared"] = Block("AdaLN")(trunk.width, count=6)
    if trunk.kind == "unet":
        parts["blocks"] = _unet(trunk)
    else:
        parts["blocks"] = of(nn, "ModuleList")(repeated(_block(trunk), trunk.layers))
    if trunk.kind != "mlp":
        parts["norm"] = _final_norm(trunk)
    for group in trunk.groups:
        if generated(context.model, group):
            size = vocabulary(context.model, group) or group.features
            head = Block("Head")(trunk.width, size)
            count = banks(context.model, group.segment)
            parts[f"{group_name(context.model, group)}_out"] = _banked(head, count)
    table = Call(Name("dict"), (), tuple(parts.items()))
    _own(body, context.owned("trunk", trunk.name), of(nn, "ModuleDict")(table), trunk.frozen)
    if adapted(trunk):
        outside = [name for name in parts if name.endswith("_out")] + _learned(context, trunk)
        own, rank = context.owned("trunk", trunk.name), trunk.attributes["lora"]
        body.do(Block("adapt")(own, rank, trained=outside))
    if rotary(trunk):
        name = context.attributes.of(("angles", trunk.name), f"{trunk.name}_angles")
        _register(body, name, _angles(context, trunk), persistent=False)


def _resize(context: Context, body: Body, trunk: Trunk) -> None:
    """Blocks that start as those of another trunk, resized."""
    start = trunk.attributes["init"]
    if isinstance(start, CallValue):
        blocks = [
            of(context.owned("trunk", name), "blocks") for name in (trunk.name, *start.arguments)
        ]
        body.section(f"{trunk.name} starts as {start.arguments[0]}, resized", trunk.span)
        body.do(Block("resize")(*blocks))


def _inward(context: Context, trunk: Trunk, group: TokenGroup) -> Expression:
    """What makes tokens of a group's features."""
    role = context.plan.train.roles[trunk.name, group.name]
    if role in ("learned", "placeholder"):
        return Block("Places")(group.count, trunk.width)
    rows, learned = table_rows(context.model, group, role), trunk.positions == "learned"
    if rows is not None and learned:
        return Block("Symbols")(rows, trunk.width, group.count)
    if rows is not None:
        return of(nn, "Embedding")(rows, trunk.width)
    if learned:
        return Block("Tokens")(group.features, trunk.width, group.count)
    return of(nn, "Linear")(group.features, trunk.width)


def _learned(context: Context, trunk: Trunk) -> list[str]:
    """Names of the parts that are tables of learned tokens."""
    roles = context.plan.train.roles
    groups = [group for group in trunk.groups if roles[trunk.name, group.name] in LEARNED]
    return [f"{group_name(context.model, group)}_in" for group in groups]


def _unet(trunk: Trunk) -> Expression:
    for group in trunk.groups:
        grid_of(group)
    sizes = trunk.width, trunk.heads, trunk.head_dim
    return Block("unet_blocks")(*sizes, strides=strides(trunk), middle=middle(trunk))


def _block(trunk: Trunk) -> Expression:
    if trunk.kind == "mlp":
        return Block("MeanLayer")(trunk.width, trunk.width)
    sizes = trunk.width, trunk.heads, trunk.kv_heads, trunk.head_dim
    bias = {"bias": False} if trunk.kind == "decoder" else {}
    heads = Block(HEADS[trunk.qk_norm])(*sizes, **bias)
    if trunk.kind == "dit":
        return Block("DiTBlock")(trunk.width, heads, _adaln(trunk), trunk.ffn)
    return Block(BLOCKS[trunk.kind])(trunk.width, heads, trunk.ffn)


def _adaln(trunk: Trunk) -> Expression:
    """What turns the time code into the six numbers of one block."""
    match trunk.attributes["modulation"]:
        case "shared":
            return Block("AdaLNTable")(trunk.width, count=6)
        case "low_rank":
            return Block("LowRankAdaLN")(trunk.width, count=6, rank=trunk.attributes["rank"])
    return Block("AdaLN")(trunk.width, count=6)


def _final_norm(trunk: Trunk) -> Expression:
    if trunk.kind == "dit":
        return Block("ModulatedNorm")(trunk.width)
    if trunk.kind in ("vit", "unet"):
        return of(nn, "LayerNorm")(trunk.width)
    return of(nn, "RMSNorm")(trunk.width, eps=1e-6)


def _angles(context: Context, trunk: Trunk) -> Expression:
    """Angles of all tokens of the trunk, prefixes first."""
    model = context.model
    ahead = [prefix_group(model, found) for found in prefixes(model, trunk.name)]
    count = sum(group.count for group in (*ahead, *trunk.groups))
    if trunk.positions == "rope_1d":
        return Block("angles_1d")(count, trunk.head_dim)
    blocks = [part for group in ahead for part in _ahead_of(context, trunk, group)]
    for group in trunk.groups:
        if group.grid is None and trunk.positions == "rope_fractional":
            blocks.append(_moments(context, trunk, group))
        elif group.grid is None:
            blocks.append(Block("line")(group.count))
        else:
            blocks.append(Block("cells")(_first_frame(context, group), group.frames, *group.grid))
    return Block("angles_3d")(expression(blocks), trunk.head_dim)


def _moments(context: Context, trunk: Trunk, group: TokenGroup) -> Expression:
    """Places of tokens in time, counted in frames of the last video of their trunk."""
    videos = [other for other in trunk.groups if other.grid is not None]
    if not group.segment.offsets:
        return Block("line")(group.count)
    if not videos:
        raise Unsupported("positions in frames need a video in the trunk", trunk.span)
    frame = _apart(context, videos[-1])
    start = _begins(context, group) - _begins(context, videos[-1])
    first = _first_frame(context, videos[-1]) + start / frame
    step = _apart(context, group) / frame
    return Block("moments")(number(first), number(step), group.frames, group.per_frame)


def _apart(context: Context, group: TokenGroup) -> Fraction:
    """Seconds from one frame of tokens to the next."""
    samples = Fraction(spacing(group.segment) * group.segment.length, group.frames)
    return samples / context.stream(group.segment).rate_hz


def _begins(context: Context, group: TokenGroup) -> Fraction:
    """Seconds from now to the first sample of a group."""
    return group.segment.offsets[0] / context.stream(group.segment).rate_hz


def _first_frame(context: Context, group: TokenGroup) -> int:
    """The place in time of a group's first frame, counted as its codec groups frames."""
    stream, codec = context.stream(group.segment), context.codec(group)
    at = [part.reference for part in stream.segments].index(group.segment.whole)
    skipped = stream.start(group.segment.name) - stream.start(stream.segments[at].name)
    before = sum(groups_in(codec, part) for part in stream.segments[:at])
    return before + skipped * groups_in(codec, group.segment) // group.segment.length


def _ahead_of(context: Context, trunk: Trunk, prefix: TokenGroup) -> Iterator[Expression]:
    """Places of a prefix: in a row, or at the frames that it stands in front of."""
    condition = context.model.conditions[prefix.name]
    if "prefix_per_frame" not in condition.mechanisms:
        yield Block("line")(prefix.count)
        return
    for group in trunk.groups:
        if group.name in (condition.target_groups or (group.name,)):
            first = context.stream(group.segment).start(group.segment.name)
            yield Block("leads")(first, group.frames, prefix.per_frame)


def _cross(context: Context, body: Body, cross: Cross) -> None:
    names = ", ".join(cross.targets)
    body.section(f"cross {cross.name} -> {names}", cross.span)
    kind = "GatedCrossAttention" if cross.gate == "zero" else "CrossAttention"
    for name in cross.targets:
        trunk = context.model.trunks[name]
        if not trunk.heads:
            raise Unsupported(f"a trunk of kind {trunk.kind} has no heads to read with", cross.span)
        source = trunk.width if cross.embedded else cross.sources[0].width
        sizes = trunk.width, source, trunk.heads, trunk.kv_heads, trunk.head_dim
        reader, target = Block(kind)(*sizes), cross_module(context, cross, name)
        if len(cross.layers) == trunk.layers:
            readers = of(nn, "ModuleList")(repeated(reader, trunk.layers))
        else:
            table = {str(layer): reader for layer in cross.layers}
            readers = of(nn, "ModuleDict")(expression(table))
        _own(body, target, readers, cross.frozen)
        if cross.embedded:
            _embedding(context, body, Reading(cross, name))


def _embedding(context: Context, body: Body, reading: Reading) -> None:
    """One embedding for each source that is written."""
    width = context.model.trunks[reading.trunk].width
    items = written(reading.cross.sources)
    parts = [Block("SourceEmbedding")(read[0].width, width) for read in items]
    module = parts[0] if len(parts) == 1 else of(nn, "ModuleList")(parts)
    _own(body, embedding(context, reading), module, reading.cross.frozen)


def _condition(context: Context, body: Body, condition: Condition) -> None:
    mechanism = condition.mechanisms[0]
    body.section(f"condition {condition.name} by {mechanism}", condition.span)
    source = source_width(condition)
    if condition.codec is not None:
        channels = context.model.codecs[condition.codec].attributes["channels"][-1]
        module = Block("Film")(source, channels)
    elif mechanism == "film":
        module = Block("Film")(source, context.model.trunks[condition.trunk].width)
    else:
        module = of(nn, "Linear")(source, context.model.trunks[condition.trunk].width)
    body.assign(context.owned("condition", condition.name), module)


def _align(context: Context, body: Body, align: Align) -> None:
    """The projector, and the teacher where it has weights of its own."""
    body.section(
        f"align {align.name} by {align.distance}, {align.teacher.name} teacher", align.span
    )
    source, target = align.source.width, align.target_width
    projector = context.owned("align", align.name)
    if align.projector == "linear":
        body.assign(projector, of(nn, "Linear")(source, target))
    elif align.projector == "mlp":
        layers = (of(nn, "Linear")(source, source), of(nn, "GELU")())
        body.assign(projector, of(nn, "Sequential")(*layers, of(nn, "Linear")(source, target)))
    codec = context.model.codecs.get(align.target_codec)
    if align.teacher.name in COPIED and codec is not None and not direct(codec):
        own = context.owned("codec", codec.name)
        copy = of(Name("copy"), "deepcopy")(own)
        _own(body, context.owned("teacher", align.name), copy, frozen=True)


def _hand(context: Context, body: Body, hand: Hand) -> None:
    if hand.mask == "none":
        return
    body.section(f"hand {hand.name}: a learned {hand.mask} mask", hand.span)
    kind = "SoftMask" if hand.mask == "soft" else "HardMask"
    channels = context.stream(hand.segment).shape[0]
    body.assign(context.owned("hand", hand.name), Block(kind)(channels))
