"""The head of the emitted file: where it comes from and what the compiler derived."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from wmdsl.check.model import Model
from wmdsl.plan.nodes import Plan

WIDTH = 96


def header(plan: Plan) -> tuple[str, ...]:
    """Lines of plain text: identity, streams, trunks, queries."""
    model = plan.model
    return (
        f"spec sha256 {model.sha256}",
        f"edition {model.edition}, wmdsl {_version()}; edit the spec, not this file",
        "lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)",
        "",
        *_table(("stream", "type", "rate", "segments", "batch"), _streams(model)),
        "",
        *_table(("trunk", "kind", "blocks", "width", "heads", "tokens"), _trunks(model)),
        "",
        *_table(("query", "answer", "steps", "sought | given"), _queries(plan)),
        "",
        *_parameters(plan),
    )


def _parameters(plan: Plan) -> list[str]:
    """The total; pretrained codecs count as published, which the module below need not hold."""
    total = f"{plan.parameters.total} parameters"
    named = [codec.name for codec in plan.model.codecs.values() if "from" in codec.attributes]
    if not named:
        return [total]
    return [f"{total}, pretrained codecs as published: their sizes below are stand-ins"]


def _version() -> str:
    from wmdsl import __version__

    return __version__


def _streams(model: Model) -> Iterator[tuple[str, ...]]:
    for stream in model.streams.values():
        shape = "x".join(str(size) for size in stream.shape)
        rate = f"{float(stream.rate_hz):g} Hz" if stream.rate_hz else "-"
        segments = ", ".join(f"{part.name} {part.length}" for part in stream.segments)
        window = [str(stream.window)] if stream.window else []
        batch = ", ".join(["B", *window, *(str(size) for size in stream.shape)])
        inside = "-" if stream.modality == "learned" else f"[{batch}]"
        yield stream.name, f"{stream.modality} {shape}", rate, segments, inside


def _trunks(model: Model) -> Iterator[tuple[str, ...]]:
    for trunk in model.trunks.values():
        tokens = " ".join(f"{group.name}:{group.count}" for group in trunk.groups)
        heads = f"{trunk.heads}x{trunk.head_dim}"
        yield trunk.name, trunk.kind, str(trunk.layers), str(trunk.width), heads, tokens


def _queries(plan: Plan) -> Iterator[tuple[str, ...]]:
    for query in plan.queries.values():
        steps = " ".join(f"{name} {count}" for name, count in query.steps.items())
        sought, given = (names(plan.model, part) for part in (query.sought, query.given))
        yield query.name, query.answerable, steps or "-", f"{sought} | {given}"


def names(model: Model, references: Sequence[str]) -> str:
    """Segments by reference; a stream with one segment goes by its own name."""
    streams = [model.streams[reference.partition(".")[0]] for reference in references]
    pairs = zip(references, streams, strict=True)
    return ", ".join(
        stream.name if len(stream.segments) == 1 else reference for reference, stream in pairs
    )


def _table(head: Sequence[str], rows: Iterator[tuple[str, ...]]) -> list[str]:
    """Columns aligned to the left; the last one goes on below itself where it is too long."""
    lines = [tuple(head), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    margin = sum(widths) + 2 * len(widths)
    out = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=True)]
        first, *more = textwrap.wrap(line[-1], WIDTH - margin) or [""]
        out.append("  ".join([*cells, first]).rstrip())
        out += [" " * margin + part for part in more]
    return out
