"""Work and memory of a pass: matrix products and attention, K and V.

FLOPs are twice the multiply-adds, for one sample, forward; attention counts exactly the visible
pairs.  Norms, activations, softmax and look-ups are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod

from wmdsl.check.codecs import conv_kernel, conv_strides
from wmdsl.check.model import Codec, Cross, Model, TokenGroup, TokenSource, Trunk
from wmdsl.plan.nodes import Generation, Pass, Placed, Space
from wmdsl.plan.parameters import (
    SHRUNK_CHANNELS,
    code_matrices,
    key_width,
    query_width,
    shared_code_matrices,
    shrunk_map,
    source_width,
    token_matrices,
    vocabulary,
)
from wmdsl.plan.spaces import channels_into, draws
from wmdsl.plan.split import Split, ahead
from wmdsl.plan.unet import tokens_at, unet_products

BYTES_FP32 = 4
SILENT_ROLES = ("learned", "placeholder")


def hoisted_flops(model: Model, chain: Iterable[Generation]) -> int:
    """All steps of all generations: tokens that stay are embedded once, but run in every step that
    changes anything in their space."""
    return 2 * sum(_hoisted(model, step) for step in chain)


def remembered_flops(
    model: Model, parts: Iterable[tuple[Generation, Iterable[Split]]]
) -> int:
    """What of these is saved where the K and V of tokens that stay are kept."""
    return 2 * sum(_saved(model, step, split) for step, found in parts for split in found)


def repeated_flops(model: Model, chain: Iterable[Generation]) -> int:
    """All steps with everything computed anew in each, encoders included."""
    passes = ((step, pass_flops(model, step.evaluation, _moving(step))) for step in chain)
    return sum(step.evaluations * flops for step, flops in passes)


def _moving(step: Generation) -> set[str]:
    return {*step.segments, *step.joint}


def _hoisted(model: Model, step: Generation) -> int:
    once, repeated = (
        sum(_space_products(model, step.evaluation, space, _moving(step)) for space in spaces)
        for spaces in ahead(step)
    )
    entering = sum(_entering(model, step, space) for space in ahead(step)[1])
    return once + entering + step.evaluations * (repeated - entering)


def _entering(model: Model, step: Generation, space: Space) -> int:
    """Encoding and embedding of what is not generated."""
    still = (placed for placed in space.groups if placed.group.name not in _moving(step))
    tokens = sum(_inward(model, placed, step.evaluation.roles[placed.key]) for placed in still)
    return tokens + sum(_embeddings(model, name, outside=True) for name in space.trunks)


def _saved(model: Model, step: Generation, parts: Split) -> int:
    """What the steps of a loop need not do for tokens that stay: all but one of their runs, and in
    that one everything behind the keys and values of its last block."""
    space = parts.still
    run = sum(_blocks(model, space, name) + _crosses(model, space, name) for name in space.trunks)
    width = query_width(model.trunks[space.trunks[0]])
    seen = 2 * space.rows.pairs * width
    behind = seen + sum(_behind_keys(model, space, name) for name in space.trunks)
    whole = run + seen * space.layers
    return (step.evaluations - 1) * whole + (0 if _last_block_is_read(parts) else behind)


def _last_block_is_read(parts: Split) -> bool:
    return any(layer is None or layer == parts.still.layers for _, layer in parts.taps)


def _behind_keys(model: Model, space: Space, name: str) -> int:
    """Of one block: the way back from attention, crosses and the feed-forward part."""
    trunk, tokens = model.trunks[name], _tokens(space.of_trunk(name))
    last = space.layers - 1
    crosses = sum(
        _cross(model, trunk, cross, tokens)
        for cross in model.crosses.values()
        if name in cross.targets and last in cross.layers
    )
    projected = trunk.width * (query_width(trunk) + 2 * key_width(trunk))
    return tokens * (token_matrices(trunk) - projected) + crosses


def pass_flops(model: Model, evaluation: Pass, predicted: Iterable[str]) -> int:
    """One forward pass whose heads put out the predicted segments."""
    return 2 * sum(
        _space_products(model, evaluation, space, set(predicted)) for space in evaluation.spaces
    )


def training_flops(model: Model, evaluation: Pass, predicted: Iterable[str]) -> int:
    """The pass of training: what several noises of a sample share is computed once."""
    total = 0
    for space in evaluation.spaces:
        shared = sum(
            _inward(model, placed, evaluation.roles[placed.key])
            for placed in space.groups
            if evaluation.roles[placed.key] != "noisy"
        )
        whole = _space_products(model, evaluation, space, set(predicted))
        total += shared + draws(model, space) * (whole - shared)
    return 2 * total


def _space_products(model: Model, evaluation: Pass, space: Space, predicted: set[str]) -> int:
    first = model.trunks[space.trunks[0]]
    mixed = {"mlp": first.width, "unet": 0}.get(first.kind, 2 * query_width(first))
    attention = space.rows.pairs * mixed * space.layers
    inward = sum(_inward(model, placed, evaluation.roles[placed.key]) for placed in space.groups)
    blocks = sum(_blocks(model, space, name) for name in space.trunks)
    crosses = sum(_crosses(model, space, name) for name in space.trunks)
    crosses += sum(_embeddings(model, name) for name in space.trunks)
    return attention + inward + blocks + crosses + sum(_heads(model, space, predicted))


def _inward(model: Model, placed: Placed, role: str) -> int:
    group = placed.group
    width = model.trunks[group.trunk].width
    beside = group.count * width * sum(map(source_width, channels_into(model, group)))
    if role in SILENT_ROLES or vocabulary(model, group) is not None:
        return beside
    return beside + group.count * group.features * width + codec_products(model, group)


def codec_products(model: Model, group: TokenGroup) -> int:
    """Multiply-adds of a group's codec; pretrained ones count one per weight and token."""
    codec = model.codecs.get(group.codec)
    if codec is None:
        return 0
    match codec.kind:
        case "conv":
            return group.frames * _conv(model, codec, group)
        case "bytes":
            return _bytes(model, codec, group)
        case "mlp":
            return 2 * group.count * group.features * codec.attributes["hidden"]
        case "vae" | "vit" | "text_encoder":
            return group.count * (codec.attributes["parameters"] or 0)
    return 0


def _conv(model: Model, codec: Codec, group: TokenGroup) -> int:
    shape = model.streams[group.segment.stream].shape
    before, size = (shape[0] if len(shape) == 3 else 1), list(shape[-2:])
    total = 0
    for after, stride in zip(codec.attributes["channels"], conv_strides(codec), strict=True):
        size = [-(-side // stride) for side in size]
        total += conv_kernel(stride) ** 2 * before * after * prod(size)
        before = after
    if codec.attributes["readout"] == "grid":
        return total
    points, tokens = codec.attributes["points"], codec.attributes["tokens"]
    cells = prod(shrunk_map(shape, codec))
    read = 2 * points + SHRUNK_CHANNELS * cells
    halved = 9 * before * SHRUNK_CHANNELS * cells
    return total + before * points * prod(size) + halved + read * tokens * before


def _bytes(model: Model, codec: Codec, group: TokenGroup) -> int:
    length = model.streams[group.segment.stream].shape[0]
    width, layers = codec.attributes["width"], codec.attributes["layers"]
    return layers * (12 * length * width * width + 2 * length * length * width)


def _blocks(model: Model, space: Space, name: str) -> int:
    trunk, groups = model.trunks[name], space.of_trunk(name)
    if trunk.kind == "unet":
        return unet_products(trunk, space, groups)
    each = _tokens(groups) * token_matrices(trunk) + len(groups) * code_matrices(trunk)
    return space.layers * each + len(groups) * shared_code_matrices(trunk)


def _crosses_into(model: Model, name: str) -> list[Cross]:
    return [cross for cross in model.crosses.values() if name in cross.targets]


def _embeddings(model: Model, name: str, outside: bool = False) -> int:
    """What embeds the sources of a trunk's crosses; `outside`, of those that read no trunk."""
    width, total = model.trunks[name].width, 0
    for cross in _crosses_into(model, name):
        still = all(read.segment is not None for read in cross.sources)
        if cross.embedded and (still or not outside):
            total += sum(read.count * (read.width + width) * width for read in cross.sources)
    return total


def _crosses(model: Model, space: Space, name: str) -> int:
    trunk, groups = model.trunks[name], space.of_trunk(name)
    unet = trunk.kind == "unet"
    return sum(
        _cross(model, trunk, cross, tokens_at(trunk, groups, block) if unet else _tokens(groups))
        for cross in _crosses_into(model, name)
        for block in cross.layers
        if block < space.layers
    )


def _cross(model: Model, trunk: Trunk, cross: Cross, tokens: int) -> int:
    queries, keys = query_width(trunk), key_width(trunk)
    source = sum(_seen_by_each(model, cross, read) for read in cross.sources)
    wide = [trunk.width if cross.embedded else read.width for read in cross.sources]
    inward = sum(
        read.count * width * 2 * keys for read, width in zip(cross.sources, wide, strict=True)
    )
    return 2 * tokens * trunk.width * queries + inward + 2 * tokens * source * queries


def _seen_by_each(model: Model, cross: Cross, read: TokenSource) -> int:
    """Tokens of a source that one token of the target reads."""
    if not cross.per_frame:
        return read.count
    if read.segment is not None:
        return read.count // read.segment.length
    groups = model.trunks[read.trunk or ""].groups
    read_groups = [group for group in groups if not read.groups or group.name in read.groups]
    return sum(group.per_frame for group in read_groups)


def _heads(model: Model, space: Space, predicted: set[str]) -> Iterator[int]:
    """Of each predicted segment; a pass at a tap's own time is read by no head."""
    for generate in model.generates.values() if space.time is None else ():
        for trunk, name in generate.groups:
            group = model.trunks[trunk].group(name)
            if trunk in space.trunks and group.segment.reference in predicted:
                out = vocabulary(model, group) or group.features
                yield group.count * model.trunks[trunk].width * out


def key_value_bytes(model: Model, evaluation: Pass) -> int:
    """fp32 bytes of the keys and values of all live tokens in all blocks that run."""
    return sum(
        _keys(model, space, name) * 2 * key_width(model.trunks[name]) * BYTES_FP32
        for space in evaluation.spaces
        for name in space.trunks
    )


def _keys(model: Model, space: Space, name: str) -> int:
    """Tokens that are keys, over all blocks that run; a U-Net has two attentions in each."""
    trunk, groups = model.trunks[name], space.of_trunk(name)
    if trunk.kind == "unet":
        return 2 * sum(tokens_at(trunk, groups, block) for block in range(space.layers))
    return _tokens(groups) * space.layers


def _tokens(groups: Iterable[Placed]) -> int:
    return sum(placed.group.count for placed in groups)
