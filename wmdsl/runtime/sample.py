"""Random batches of the right shapes: what `smoke` and latency measurements feed a module."""

from __future__ import annotations

import torch
from torch import Tensor

from wmdsl.check.model import Model, Stream
from wmdsl.runtime.binding import VIDEO


def random_batch(
    model: Model, size: int, query: str | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """Every stream with data, in raw units; with `query` only the streams it is given."""
    generator = torch.Generator().manual_seed(seed)
    asked = model.queries[query].given if query else None
    names = {segment.stream for segment in asked} if asked is not None else set(model.streams)
    return {
        stream.name: _values(stream, size, generator)
        for stream in model.streams.values()
        if stream.keys and stream.name in names
    }


def _values(stream: Stream, size: int, generator: torch.Generator) -> Tensor:
    window = (stream.window,) if stream.rate_hz is not None else ()
    shape = (size, *window, *stream.sample)
    if stream.modality == "language":
        return torch.randint(1, 257, shape, generator=generator)
    if stream.modality == "token":
        vocabulary = stream.attributes["sizes"][0]
        return torch.randint(0, vocabulary, shape, generator=generator)
    if stream.modality in VIDEO:
        return torch.rand(shape, generator=generator)
    return torch.randn(shape, generator=generator)
