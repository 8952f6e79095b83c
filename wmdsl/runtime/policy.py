"""A trained module as a policy: observations of an environment in, chunks of actions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wmdsl.check.model import Query, Segment, Stream
from wmdsl.data.text import encode_text
from wmdsl.runtime import errors
from wmdsl.runtime.binding import image_streams
from wmdsl.runtime.observing import frame

Observation = Mapping[str, Any]


class ModulePolicy:
    """Asks one query of a module for every chunk; blind policies see zeroed images.

    `execute` is the number of control steps of a chunk that are executed before asking again.
    """

    def __init__(
        self, module: nn.Module, query: str = "policy", *, seed: int = 0, blind: bool = False
    ) -> None:
        self.module = module.eval()
        self.model = module.plan.model
        self.query = _declared(module, query)
        self.action = _action_segment(self.model.streams, self.query)
        self.blind = image_streams(self.model) if blind else ()
        self.seed = seed
        self.streams = _observed_streams(self.model.streams, self.query)
        self.execute = self.query.execute or self.action.length
        self.reset(0)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the images that must be rendered; none for a blind policy."""
        images = set(image_streams(self.model)) - set(self.blind)
        looked = (key for stream in self.streams if stream.name in images for key in stream.keys)
        return tuple(dict.fromkeys(looked))

    def reset(self, count: int) -> None:
        """Begin `count` episodes; the noise of every episode batch starts from the same seed."""
        self.generator = torch.Generator().manual_seed(self.seed)

    @torch.inference_mode()
    def act(self, observations: Sequence[Observation]) -> np.ndarray:
        """Chunks [n, execute, action size] in the units of the data set."""
        batch = {stream.name: self._tensor(stream, observations) for stream in self.streams}
        answer = self.module.query(self.query.name, batch, generator=self.generator)
        return answer[self.action.stream][:, : self.execute].float().numpy()

    def _tensor(self, stream: Stream, observations: Sequence[Observation]) -> Tensor:
        if stream.name in self.blind:
            return torch.zeros(len(observations), 1, *stream.sample)
        values = [_value(stream, observation) for observation in observations]
        return torch.from_numpy(np.stack(values))


def _value(stream: Stream, observation: Observation) -> np.ndarray:
    """One stream of one observation with its window axis: images [1, C, H, W] in 0..1."""
    if stream.modality == "language":
        return encode_text(observation["task"], stream.shape[0])
    if stream.modality in ("video", "image"):
        return frame(stream, observation)[None]
    return np.asarray(observation[stream.key]).astype(np.float32)[None]


def _declared(module: nn.Module, name: str) -> Query:
    plan = module.plan
    if name not in plan.model.queries:
        raise errors.unanswerable(
            name,
            "the spec declares no such query",
            f"it declares {', '.join(plan.model.queries) or 'none'}",
        )
    if plan.queries[name].answerable == "no":
        raise errors.unanswerable(name, plan.queries[name].because, "see `wmdsl plan --query`")
    return plan.model.queries[name]


def _action_segment(streams: Mapping[str, Stream], query: Query) -> Segment:
    for segment in query.all_sought:
        if streams[segment.stream].modality == "action":
            return segment
    raise errors.unanswerable(
        query.name,
        "it seeks no action, so it cannot drive a robot",
        "name a query that seeks an action with --query",
    )


def _observed_streams(streams: Mapping[str, Stream], query: Query) -> tuple[Stream, ...]:
    for segment in query.given:
        if not segment.observed:
            raise errors.unanswerable(
                query.name,
                f"{segment.reference} is given, and no camera films the future",
                "evaluate a query whose givens are observed",
            )
        if any(offset < 0 for offset in segment.offsets):
            raise errors.unanswerable(
                query.name,
                f"{segment.reference} looks back, and closed-loop evaluation keeps no history yet",
                "give only `now 1 frame` or `now 1 step`",
            )
    return tuple(streams[name] for name in dict.fromkeys(s.stream for s in query.given))
