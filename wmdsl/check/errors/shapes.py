"""Sizes that do not fit: frames, heads, widths, depths."""

from __future__ import annotations

from collections.abc import Sequence

from wmdsl.check.errors.wording import either, error, listed
from wmdsl.check.model import Codec, Segment, Stream, TokenGroup, TokenSource, Trunk
from wmdsl.diagnostics import Diagnostic
from wmdsl.source import Span
from wmdsl.syntax import ast


def bad_part(item: ast.Item) -> Diagnostic:
    return error("WM124", f"`{item.span.text}` is no part of a vector", item.span,
                 help="write a name and how many numbers it has, as `xyz 3 m`")  # fmt: skip


def parts_differ(parts: Span, total: int, type_: Span, size: int) -> Diagnostic:
    return error("WM202", f"the parts have {total} numbers, the stream has {size}", parts,
                 f"these add up to {total}", (type_, f"this says {size}"),
                 help=f"add or remove a part, or write `[{total}]`")  # fmt: skip


def bad_view(item: ast.Item) -> Diagnostic:
    return error("WM124", f"`{item.span.text}` is no view of a canvas", item.span,
                 help="write a name and a size in pixels for each, as `head 256x320`, or names "
                 "only")  # fmt: skip


def view_with_size(item: ast.Item, arrange: str) -> Diagnostic:
    return error("WM124", f"`{item.span.text}` has a size, but views arranged as {arrange} have "
                 "that of the stream", item.span, help="write the name only")  # fmt: skip


def keys_for_views(declaration: ast.Declaration, keys: int, views: int) -> Diagnostic:
    labels = [(declaration.attribute("views").span, f"views: {views}")] * (views > 1)
    return error("WM202", f"stream `{declaration.name.text}` names {keys} columns for "
                 f"{views} cameras", declaration.attribute("key").span,
                 f"columns: {keys}", *labels, help="write one column for each view")  # fmt: skip


def views_without_frames(declaration: ast.Declaration, shape: tuple[int, ...]) -> Diagnostic:
    return error("WM201", f"stream `{declaration.name.text}` has views, but its samples are "
                 f"{list(shape)}", declaration.attribute("views").span,
                 help="only frames have views")  # fmt: skip


def canvas_not_filled(declaration: ast.Declaration, frame: tuple[int, int]) -> Diagnostic:
    height, width = frame
    return error("WM202", f"the views do not fill the canvas of {height} x {width}",
                 declaration.attribute("views").span, "left to right, row by row",
                 (declaration.clause("type").span, f"{height} x {width}"),
                 help="give the views of a row one height, and rows the whole width")  # fmt: skip


def codec_needs_frame(span: Span, codec: Codec, stream: Stream) -> Diagnostic:
    return error("WM201", f"codec `{codec.name}` reads frames; `{stream.name}` has the shape "
                 f"{list(stream.shape)}", span, f"a {codec.kind} codec",
                 (stream.span, "the stream"),
                 help="frames are [channels, height, width]")  # fmt: skip


def strides_for_channels(span: Span, codec: Codec, strides: int, channels: int) -> Diagnostic:
    return error("WM202", f"codec `{codec.name}` has {strides} strides for {channels} channels",
                 codec.span, "one stride for each stage, or one for all", (span, "read here"),
                 help=f"write {channels} numbers behind `strides`, or one")  # fmt: skip


def codec_needs_vector(span: Span, codec: Codec, stream: Stream) -> Diagnostic:
    return error("WM201", f"codec `{codec.name}` reads vectors; `{stream.name}` has the shape "
                 f"{list(stream.shape)}", span, f"a {codec.kind} codec",
                 (stream.span, "the stream"), help="use a codec of kind `patch`")  # fmt: skip


def frame_not_divided(
    span: Span, stream: Stream, codec: Codec, size: tuple[int, int], cell: tuple[int, ...]
) -> Diagnostic:
    height, width = size
    heights, widths = _near(cell[0], height), _near(cell[1], width)
    fits = dict.fromkeys(f"{h}x{w}" for h, w in zip(heights, widths, strict=True))
    return error("WM203", f"{height}x{width} of `{stream.name}` do not divide into "
                 f"{cell[0]}x{cell[1]}", span, "through this codec", (codec.span, "the codec"),
                 (stream.span, "the stream"), help=f"sizes that fit: {listed(fits)}")  # fmt: skip


def _near(cell: int, size: int) -> tuple[int, int]:
    """The divisors of `size` next below and next above `cell`."""
    divisors = [number for number in range(1, size + 1) if size % number == 0]
    below = [number for number in divisors if number <= cell]
    above = [number for number in divisors if number >= cell]
    return below[-1], (above or divisors)[0 if above else -1]


def frames_not_divided(span: Span, segment: Segment, codec: Codec, deep: int) -> Diagnostic:
    count = segment.length
    fits = sorted({count - count % deep, count - count % deep + deep} - {0})
    return error("WM203", f"`{segment.reference}` has {count} frames; codec `{codec.name}` takes "
                 f"{deep} at a time", span, "", (segment.span, f"{count} frames"),
                 (codec.span, f"{deep} frames make one latent frame"),
                 help=f"take {' or '.join(map(str, fits))} frames")  # fmt: skip


def channels_needed(codec: Codec, span: Span) -> Diagnostic:
    return error("WM122", f"codec `{codec.name}` does not say its `channels`", codec.span,
                 "needs `channels`", (span, "read here"),
                 help="add `channels`: the numbers in one latent cell")  # fmt: skip


def heads_do_not_divide(
    heads: ast.Attribute, count: int, width: ast.Attribute, size: int
) -> Diagnostic:
    fits = sorted(range(1, size + 1), key=lambda n: (size % n > 0, abs(n - count)))[:2]
    return error("WM204", f"{count} heads do not divide the width {size}", heads.span,
                 f"{count} heads", (width.span, f"width {size}"),
                 help=f"take {' or '.join(str(n) for n in sorted(fits))} heads, or name the head "
                 f"dim: `heads {count}x32`")  # fmt: skip


def key_heads_do_not_divide(heads: ast.Attribute, count: int, kv: int) -> Diagnostic:
    fits = [number for number in range(1, count + 1) if count % number == 0]
    return error("WM205", f"{kv} key heads do not divide {count} heads", heads.span,
                 "every key head serves equally many heads",
                 help=f"`kv` may be {either(fits)}")  # fmt: skip


def rope_cannot_split(
    heads: ast.Attribute, head_dim: int, positions: ast.Attribute, kind: str
) -> Diagnostic:
    wanted = "even" if kind == "rope_1d" else "even and at least 6"
    near = max(head_dim - head_dim % 2, 2 if kind == "rope_1d" else 6)
    return error("WM206", f"{kind} cannot split a head dim of {head_dim}", heads.span,
                 f"head dim {head_dim}", (positions.span, "rotates pairs of channels"),
                 help=f"the head dim must be {wanted}, as {near}")  # fmt: skip


def join_differs(
    join: ast.Declaration, size: str, sides: Sequence[tuple[Trunk, ast.Attribute]]
) -> Diagnostic:
    (left, first), (right, second) = sides
    here, there = getattr(left, size), getattr(right, size)
    what = {"kv_heads": "key heads", "head_dim": "head dim"}.get(size, size)
    return error("WM207", f"`{left.name}` and `{right.name}` cannot attend as one: {what} "
                 f"{here} and {there}", join.span, "joined here",
                 (first.span, f"{what} {here}"), (second.span, f"{what} {there}"),
                 help="joined trunks share layers, heads, key heads and head dim; width and ffn "
                 "are each trunk's own")  # fmt: skip


def align_counts_differ(
    source: TokenSource, target: Span, frames: int, per_frame: int
) -> Diagnostic:
    count = frames * per_frame
    return error("WM208", f"{source.count} tokens are aligned with {count}", source.span,
                 f"{source.count} tokens", (target, f"{frames} x {per_frame} = {count} tokens"),
                 help=f"make both {count}, as `learned[{count}]`, or pool the target")  # fmt: skip


def align_widths_differ(source: TokenSource, target: Span, features: int) -> Diagnostic:
    return error("WM209", f"width {source.width} is compared with width {features} without a "
                 "projector", source.span, f"width {source.width}",
                 (target, f"width {features}"), help="write `projector linear`")  # fmt: skip


def no_such_block(span: Span, block: int | None, trunk: Trunk) -> Diagnostic:
    found = "the range names none" if block is None else f"there is no block {block}"
    return error("WM210", f"trunk `{trunk.name}` has {trunk.layers} blocks; {found}", span, "",
                 (trunk.span, f"blocks 0 to {trunk.layers - 1}"),
                 help=f"blocks are counted from 0 to {trunk.layers - 1}")  # fmt: skip


def too_deep(span: Span, layer: int, trunk: Trunk) -> Diagnostic:
    return error("WM210", f"trunk `{trunk.name}` has {trunk.layers} blocks; {layer} cannot have "
                 "run", span, "too deep", (trunk.span, f"{trunk.layers} blocks"),
                 help=f"`layer` is the number of blocks that have run, {trunk.layers} at most",
                 )  # fmt: skip


def targets_differ_in_depth(cross: ast.Declaration, targets: Sequence[Trunk]) -> Diagnostic:
    depths = ", ".join(f"`{trunk.name}` {trunk.layers}" for trunk in targets)
    return error("WM210", f"the targets differ in depth: {depths}", cross.span, "",
                 help="write one cross for each target")  # fmt: skip


def cross_widths_differ(cross: ast.Declaration, sources: Sequence[TokenSource]) -> Diagnostic:
    return _sequence_of_widths(sources, f"write `embed` in cross `{cross.name.text}`")


def prefix_widths_differ(
    condition: ast.Declaration, sources: Sequence[TokenSource]
) -> Diagnostic:
    return _sequence_of_widths(
        sources, f"write a condition of its own for each source of `{condition.name.text}`"
    )


def _sequence_of_widths(sources: Sequence[TokenSource], help_line: str) -> Diagnostic:
    first = sources[0]
    other = next(source for source in sources if source.width != first.width)
    return error("WM209", f"widths {first.width} and {other.width} are read as one sequence",
                 other.span, f"width {other.width}", (first.span, f"width {first.width}"),
                 help=help_line)  # fmt: skip


def too_many_levels(levels: ast.Attribute, most: int) -> Diagnostic:
    return error("WM126", f"{most} blocks lead down", levels.span, "too many resolutions",
                 help=f"write {most} or less, or more layers")  # fmt: skip


def frames_do_not_share(
    declaration: ast.Declaration, frames: Sequence[int], trunk: Trunk, tokens: int
) -> Diagnostic:
    counts = " and ".join(dict.fromkeys(map(str, frames)))
    return error("WM208", f"{tokens} tokens are not shared out over {counts} frames",
                 declaration.span, "frame by frame", (trunk.span, "the target"),
                 help="let each frame have as many tokens, all of one group")  # fmt: skip


def blocks_do_not_pair(cross: ast.Declaration, trunk: Trunk) -> Diagnostic:
    return error("WM210", f"blocks of `{trunk.name}` have no blocks to be paired with", cross.span,
                 "block by block", (trunk.span, f"{trunk.layers} layers"),
                 help=f"read one trunk of {trunk.layers} layers, without `tap`")  # fmt: skip


def no_channels(declaration: ast.Declaration, count: int, group: TokenGroup) -> Diagnostic:
    shape = f"{group.frames} x {group.per_frame}"
    return error("WM208", f"{count} source tokens do not lie along the {shape} of `{group.name}`",
                 declaration.span, "token by token", (group.span, f"{shape} tokens"),
                 help=f"name as many tokens, those of one frame ({group.per_frame}), or one for "
                 f"each frame ({group.frames})")  # fmt: skip


def tokens_do_not_align(declaration: ast.Declaration, source: int, target: int) -> Diagnostic:
    return error("WM208", f"{source} source tokens do not spread over {target} target tokens",
                 declaration.span, "token by token",
                 help="use `adaln`, which pools the source, or equal counts")  # fmt: skip
