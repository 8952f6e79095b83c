"""Numbers of weights, by owner, exactly as the emitted module holds them.

w width, a heads x head dim, g key heads x head dim, f feed-forward width, c features, s source
width, v rows of a table, n tokens.  The blocks of `wmdsl.blocks` have these formulas beside them;
a test counts the emitted modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from math import prod

from wmdsl.check.codecs import FREQUENCIES, conv_kernel, conv_strides
from wmdsl.check.model import (
    Align,
    Codec,
    Condition,
    Cross,
    Model,
    Segment,
    TokenGroup,
    Trunk,
)
from wmdsl.check.sources import written
from wmdsl.plan.nodes import Parameters
from wmdsl.plan.roles import training_roles
from wmdsl.plan.unet import unet_weights

BYTE_ROWS = 257
MASK_CHANNELS = 16
SHRUNK_CHANNELS = 16
LEARNED = ("learned", "placeholder")


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    return inputs * outputs + outputs * bias


def count_parameters(model: Model) -> Parameters:
    """Weights of the trained module, by owner; owners without weights are left out."""
    counts = {owner: count for owner, count, _ in _owners(model) if count}
    frozen = frozenset(owner for owner, count, still in _owners(model) if count and still)
    return Parameters(counts, frozen)


def _owners(model: Model) -> Iterator[tuple[str, int, bool]]:
    """(owner, weights, whether frozen)."""
    for codec in used_codecs(model):
        yield f"codec.{codec.name}", codec_weights(model, codec), codec.frozen
    for trunk in model.trunks.values():
        still = trunk.frozen or adapted(trunk)
        yield f"trunk.{trunk.name}", trunk_weights(model, trunk), still
        yield f"lora.{trunk.name}", lora_weights(model, trunk), trunk.frozen
    for cross in model.crosses.values():
        yield f"cross.{cross.name}", cross_weights(model, cross), cross.frozen
    for condition in model.conditions.values():
        yield f"condition.{condition.name}", condition_weights(model, condition), False
    for hand in model.hands.values():
        channels = model.streams[hand.segment.stream].shape[0]
        masked = hand.mask != "none"
        yield f"hand.{hand.name}", masked * frame_mask_weights(channels), False
    for generate in model.generates.values():
        heads = sum(head_weights(model, *name) for name in generate.groups)
        yield f"head.{generate.name}", heads, False
    for align in model.aligns.values():
        yield f"align.{align.name}", projector_weights(align), False
        copies = align.teacher.name in ("frozen", "ema")
        copied = codec_weights(model, model.codecs[align.target_codec]) if copies else 0
        yield f"teacher.{align.name}", copied, True


def used_codecs(model: Model) -> list[Codec]:
    """Codecs that some token group, coupling or align reads through."""
    read = {group.codec for trunk in model.trunks.values() for group in trunk.groups}
    read |= {
        source.codec
        for coupling in (*model.crosses.values(), *model.conditions.values())
        for source in coupling.sources
    }
    read |= {align.target_codec for align in model.aligns.values()}
    return [
        codec
        for codec in model.codecs.values()
        if codec.name in read or read & set(_pools_of(model, codec))
    ]


# codecs


def codec_weights(model: Model, codec: Codec) -> int:
    """Weights of a codec; published counts of pretrained ones, 0 where none is known."""
    weigh = _CODEC_WEIGHTS.get(codec.kind)
    if weigh is None:
        return codec.attributes.get("parameters") or 0
    streams = (model.streams[name] for name in read_streams(model, codec))
    copies = max((banks(model, stream.segments[0]) for stream in streams), default=0)
    return weigh(model, codec) * max(copies, 1)


def banks(model: Model, segment: Segment | None) -> int:
    """Embodiments that have projections of their own of a segment; 0 where all share them."""
    return len(model.streams[segment.stream].attributes["embodiments"] or ()) if segment else 0


def read_streams(model: Model, codec: Codec) -> list[str]:
    """Names of the streams that go through a codec, in order of the spec."""
    groups = [group for trunk in model.trunks.values() for group in trunk.groups]
    read = [(group.codec, group.segment.stream) for group in groups]
    read += [
        (source.codec, source.segment.stream)
        for coupling in (*model.crosses.values(), *model.conditions.values())
        for source in coupling.sources
        if source.segment is not None
    ]
    read += [(align.target_codec, align.target.stream) for align in model.aligns.values()]
    names = {codec.name, *_pools_of(model, codec)}
    return list(dict.fromkeys(stream for name, stream in read if name in names))


def _pools_of(model: Model, codec: Codec) -> list[str]:
    """Names of the codecs that put out means of its tokens."""
    pools = [pool for pool in model.codecs.values() if pool.kind == "pool"]
    return [pool.name for pool in pools if pool.attributes["of"].dotted == codec.name]


def _sample_shape(model: Model, codec: Codec) -> tuple[int, ...]:
    return model.streams[read_streams(model, codec)[0]].shape


def _conv(model: Model, codec: Codec) -> int:
    shape = _sample_shape(model, codec)
    channels = codec.attributes["channels"]
    widths = (shape[0] if len(shape) == 3 else 1, *channels)
    areas = [conv_kernel(stride) ** 2 for stride in conv_strides(codec)]
    stages = sum(
        linear(area * before, after) + 2 * after
        for area, (before, after) in zip(areas, pairwise(widths), strict=True)
    )
    return stages + (codec.attributes["readout"] == "keypoints") * _keypoints(shape, codec)


def _keypoints(shape: tuple[int, ...], codec: Codec) -> int:
    """Weights of the read-out: 1 x 1 key point maps, the half-size map, the projection."""
    last, points = codec.attributes["channels"][-1], codec.attributes["points"]
    halved = linear(9 * last, SHRUNK_CHANNELS) + 2 * SHRUNK_CHANNELS
    read = 2 * points + SHRUNK_CHANNELS * prod(shrunk_map(shape, codec))
    return linear(last, points) + halved + linear(read, codec.attributes["tokens"] * last)


def shrunk_map(shape: tuple[int, ...], codec: Codec) -> tuple[int, int]:
    """Rows and columns of the half-size map that a key point read-out flattens."""
    shrink = prod(conv_strides(codec))
    rows, columns = (side // shrink for side in shape[-2:])
    return -(-rows // 2), -(-columns // 2)


def _bytes(model: Model, codec: Codec) -> int:
    width, layers = codec.attributes["width"], codec.attributes["layers"]
    length = _sample_shape(model, codec)[0]
    block = 4 * width + heads_weights(width, width, width) + _gelu_weights(width, 4 * width)
    table = (BYTE_ROWS + length) * width
    return table + layers * block + 2 * width + width * codec.attributes["tokens"]


def _mlp(model: Model, codec: Codec) -> int:
    features, hidden = _sample_shape(model, codec)[0], codec.attributes["hidden"]
    return linear(features, hidden) + linear(hidden, features)


_CODEC_WEIGHTS: Mapping[str, Callable[[Model, Codec], int]] = {
    "conv": _conv,
    "bytes": _bytes,
    "mlp": _mlp,
}


# trunks


def heads_weights(width: int, queries: int, keys: int, bias: bool = True) -> int:
    """w (a + 2 g) + a w, with biases."""
    return linear(width, queries + 2 * keys, bias) + linear(queries, width, bias)


def norm_weights(trunk: Trunk) -> int:
    """RMS norms of queries and keys."""
    per_head = 2 * trunk.head_dim
    joint = (trunk.heads + trunk.kv_heads) * trunk.head_dim
    return {"none": 0, "per_head": per_head, "across_heads": joint}[trunk.qk_norm]


def _gelu_weights(width: int, ffn: int) -> int:
    return linear(width, ffn) + linear(ffn, width)


def block_weights(trunk: Trunk) -> int:
    """One block of a trunk."""
    width = trunk.width
    heads = heads_weights(width, query_width(trunk), key_width(trunk), trunk.kind != "decoder")
    match trunk.kind:
        case "dit":
            own = _modulation_weights(trunk) + _gelu_weights(width, trunk.ffn)
        case "vit":
            own = 4 * width + _gelu_weights(width, trunk.ffn)
        case "decoder":
            own = 2 * width + 3 * width * trunk.ffn
        case _:
            return linear(width, width)
    return own + heads + norm_weights(trunk)


def _modulation_weights(trunk: Trunk) -> int:
    """What turns the time code into the six numbers of one block."""
    width, rank = trunk.width, trunk.attributes["rank"]
    return {
        "per_block": linear(width, 6 * width),
        "shared": 6 * width,
        "low_rank": linear(width, rank) + linear(rank, 6 * width),
    }[trunk.attributes["modulation"]]


def query_width(trunk: Trunk) -> int:
    return trunk.heads * trunk.head_dim


def key_width(trunk: Trunk) -> int:
    return trunk.kv_heads * trunk.head_dim


def trunk_weights(model: Model, trunk: Trunk) -> int:
    """Blocks, final norm, time code and the way in of every token group."""
    published = trunk.attributes.get("parameters")
    if published:
        return published
    roles = training_roles(model)
    apart = LEARNED if adapted(trunk) else ()
    inward = sum(
        group_weights(model, group, roles[trunk.name, group.name])
        for group in trunk.groups
        if roles[trunk.name, group.name] not in apart
    )
    blocks = unet_weights(trunk) if trunk.kind == "unet" else trunk.layers * block_weights(trunk)
    return blocks + _final_weights(trunk) + inward


def adapted(trunk: Trunk) -> bool:
    """Whether adapters of low rank are trained beside the trunk's frozen weights."""
    return bool(trunk.attributes.get("lora"))


def lora_weights(model: Model, trunk: Trunk) -> int:
    """Adapters, and the learned tokens that are trained beside them."""
    if not adapted(trunk):
        return 0
    roles = training_roles(model)
    learned = sum(
        group_weights(model, group, "learned")
        for group in trunk.groups
        if roles[trunk.name, group.name] in LEARNED
    )
    return trunk.layers * lora_matrices(trunk) + learned


def lora_matrices(trunk: Trunk) -> int:
    """Weights, and multiply-adds of one token, of the adapters of one block."""
    if not adapted(trunk):
        return 0
    width, queries, keys = trunk.width, query_width(trunk), key_width(trunk)
    attention = width + queries + 2 * keys + queries + width
    feeding = (3 if trunk.kind == "decoder" else 2) * (width + trunk.ffn)
    return trunk.attributes["lora"] * (attention + feeding)


def _final_weights(trunk: Trunk) -> int:
    width = trunk.width
    time_code = linear(FREQUENCIES, width) + linear(width, width)
    if trunk.attributes.get("modulation") == "shared":
        time_code += linear(width, 6 * width)
    return {
        "dit": linear(width, 2 * width) + time_code,
        "vit": 2 * width,
        "decoder": width,
        "unet": 2 * width + time_code,
    }.get(trunk.kind, 0)


def group_weights(model: Model, group: TokenGroup, role: str) -> int:
    """The projection and the learned places of a token group."""
    return _projection(model, group, role) * max(banks(model, group.segment), 1)


def _projection(model: Model, group: TokenGroup, role: str) -> int:
    trunk = model.trunks[group.trunk]
    if role in ("learned", "placeholder"):
        return group.count * trunk.width
    places = group.count * trunk.width if trunk.positions == "learned" else 0
    rows = table_rows(model, group, role)
    if rows is not None:
        return rows * trunk.width + places
    return linear(group.features, trunk.width) + places


def table_rows(model: Model, group: TokenGroup, role: str) -> int | None:
    """Rows of the table of a group of indices, one more for the mask; None for features."""
    symbols = vocabulary(model, group)
    return None if symbols is None else symbols + (role == "masked")


def vocabulary(model: Model, group: TokenGroup) -> int | None:
    """How many values an index of the group has; None where its tokens are features."""
    codec = model.codecs.get(group.codec)
    match codec.kind if codec else "":
        case "bins":
            return codec.attributes["bins"] + codec.attributes["markers"]
        case "embed":
            return model.streams[group.segment.stream].attributes["sizes"][0]
        case "fast" | "tokenizer":
            return codec.attributes["vocabulary"]
        case "vq":
            return codec.attributes["codes"]
    return None


def head_weights(model: Model, trunk: str, name: str) -> int:
    """The read-out of a generated group."""
    group = model.trunks[trunk].group(name)
    size = vocabulary(model, group) or group.features
    return linear(model.trunks[trunk].width, size) * max(banks(model, group.segment), 1)


# couplings


def cross_weights(model: Model, cross: Cross) -> int:
    """One cross-attention per target trunk and block; sources are read as one sequence."""
    targets = (model.trunks[name] for name in cross.targets)
    return sum(_reader_weights(cross, trunk, cross.sources[0].width) for trunk in targets)


def _reader_weights(cross: Cross, trunk: Trunk, source: int) -> int:
    """Cross-attention of one target, and what embeds each source at its width.

    A published count of the target's weights holds them.
    """
    if trunk.attributes.get("parameters"):
        return 0
    if not cross.embedded:
        return len(cross.layers) * _cross_block(trunk, source, cross.gate)
    second = linear(trunk.width, trunk.width)
    items = written(cross.sources)
    embedding = sum(linear(read[0].width, trunk.width) + second for read in items)
    return embedding + len(cross.layers) * _cross_block(trunk, trunk.width, cross.gate)


def _cross_block(trunk: Trunk, source: int, gate: str) -> int:
    width, queries = trunk.width, query_width(trunk)
    around = 2 * width + linear(width, queries) + linear(queries, width)
    return around + linear(source, 2 * key_width(trunk)) + (width if gate == "zero" else 0)


def source_width(condition: Condition) -> int:
    """Width of what a condition's weights read: side by side, of a sequence that of one token."""
    widths = [source.width for source in condition.sources]
    if "channel" in condition.mechanisms:
        return sum(items[0].width for items in written(condition.sources))
    sequence = {"prefix_tokens", "prefix_per_frame"} & set(condition.mechanisms)
    return widths[0] if sequence else sum(widths)


def condition_weights(model: Model, condition: Condition) -> int:
    source = source_width(condition)
    if condition.codec is not None:
        return linear(source, 2 * model.codecs[condition.codec].attributes["channels"][-1])
    width = model.trunks[condition.trunk].width
    wide = {"film": 2 * width}
    return sum(linear(source, wide.get(mechanism, width)) for mechanism in condition.mechanisms)


def frame_mask_weights(channels: int) -> int:
    return linear(9 * channels, MASK_CHANNELS) + linear(9 * MASK_CHANNELS, 1)


def projector_weights(align: Align) -> int:
    source, target = align.source.width, align.target_width
    return {
        "none": 0,
        "linear": linear(source, target),
        "mlp": linear(source, source) + linear(source, target),
    }[align.projector]


# work: weights that every token, or every row of codes, is multiplied with


def token_matrices(trunk: Trunk) -> int:
    """Multiply-adds of one token in one block, attention left out."""
    width = trunk.width
    heads = heads_weights(width, query_width(trunk), key_width(trunk), bias=False)
    match trunk.kind:
        case "dit" | "vit":
            return heads + 2 * width * trunk.ffn + lora_matrices(trunk)
        case "decoder":
            return heads + 3 * width * trunk.ffn + lora_matrices(trunk)
    return width * width


def code_matrices(trunk: Trunk) -> int:
    """Multiply-adds of one row of codes in one block."""
    width, rank = trunk.width, trunk.attributes.get("rank")
    return {"per_block": 6 * width * width, "low_rank": 7 * width * (rank or 0)}.get(
        trunk.attributes.get("modulation"), 0
    )


def shared_code_matrices(trunk: Trunk) -> int:
    """Multiply-adds of one row of codes for all blocks together."""
    shared = trunk.attributes.get("modulation") == "shared"
    return 6 * trunk.width * trunk.width if shared else 0
