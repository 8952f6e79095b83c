"""A query asked chunk by chunk on its own predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor


def roll(
    ask: Callable[..., dict[str, Tensor]],
    batch: Mapping[str, Tensor],
    action: str,
    actions_BNTA: Tensor,
    places: Mapping[str, tuple[int, ...]],
    generator: Generator | None,
) -> dict[str, Tensor]:
    """What follows N chunks of T actions: by stream, the samples predicted by each [B, N, F, ...].

    `places` says which of the known and the predicted samples of a stream are known to the next
    chunk, and which of the past and the given actions where there is a past; every other given
    stays as it is.
    """
    known = {**batch, **{name: batch[name][:, : len(at)] for name, at in places.items()}}
    answers = []
    for chunk_BTA in actions_BNTA.unbind(1):
        past = [known[action]] if action in places else []
        answer = ask({**known, action: torch.cat([*past, chunk_BTA], dim=1)}, generator=generator)
        added = {**answer, action: chunk_BTA}
        for name, at in places.items():
            known[name] = torch.cat([known[name], added[name]], dim=1)[:, list(at)]
        answers.append(answer)
    return {name: torch.stack([one[name] for one in answers], dim=1) for name in answers[0]}
