"""Roll-outs to compare: a model's, and the baselines that foresee nothing.

Shape suffixes: B tracks, C chunks, T control steps of a chunk, A action, H W image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from wmdsl.blocks.rollout import roll
from wmdsl.data import keys
from wmdsl.environments.counterfactual import Situation
from wmdsl.lower.questions import emitted
from wmdsl.plan.advance import Advance
from wmdsl.progress import Progress
from wmdsl.runtime.faithful.probe import Probe
from wmdsl.runtime.faithful.windows import Course, windows

TOGETHER = 48  # tracks asked at once
Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class RollOut:
    """`frames` at the end of each chunk [B, C, 3, H, W] in 0..1; `recovered` are the actions that
    the model's inverse query reads off neighbouring frames [B, C, T, A], where it has one.
    """

    frames: Tensor
    recovered: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Imagination:
    """How a module is rolled out; `read` names the states read off imagined frames by the probe."""

    module: nn.Module
    advance: Advance
    inverse: str | None
    read: str | None
    probe: Probe

    @property
    def held(self) -> tuple[str, ...]:
        """Streams whose last real samples stay throughout."""
        return tuple(name for name in self.advance.held if name != self.read)


def imagination(module: nn.Module, advance: Advance, probe: Probe) -> Imagination:
    """Rolls out `advance`; a state that is not predicted is read off the imagined frames."""
    model = module.plan.model
    read = [
        name
        for name in advance.held
        if model.streams[name].key == keys.STATE and model.streams[name].window == 1
    ]
    return Imagination(module, advance, _inverse(module, advance), next(iter(read), None), probe)


def _inverse(module: nn.Module, advance: Advance) -> str | None:
    """The declared query that reads the action off frames, if there is one."""
    wanted = f"{advance.action}.future"
    for query in emitted(module.plan):
        if query.answerable != "no" and query.sought == (wanted,):
            if f"{advance.frames}.future" in query.given:
                return query.name
    return None


def imagine(
    how: Imagination, start: Batch, actions_BCTA: Tensor, seed: int, bar: Progress
) -> RollOut:
    """What the module foresees for the actions, from the true windows at the start."""
    found = []
    for first in range(0, len(actions_BCTA), TOGETHER):
        part = slice(first, first + TOGETHER)
        batch = {name: values[part] for name, values in start.items()}
        generator = torch.Generator().manual_seed(seed * 2**20 + first)
        found.append(_imagine(how, batch, actions_BCTA[part], generator))
        bar.advance(len(found[-1].frames))
    return _joined(found)


@torch.inference_mode()
def _imagine(
    how: Imagination, batch: Batch, actions_BCTA: Tensor, generator: torch.Generator
) -> RollOut:
    advance = how.advance
    asker = _Asker(how, generator)
    places = dict(advance.places) | ({how.read: (1,)} if how.read else {})
    answers = roll(asker, batch, advance.action, actions_BCTA, places, generator)
    frames = answers[advance.frames][:, :, advance.arrives[advance.frames]]
    return RollOut(frames, torch.stack(asker.recovered, 1) if how.inverse else None)


class _Asker:
    """The controllable query, with what else the suite wants from each chunk."""

    def __init__(self, how: Imagination, generator: torch.Generator):
        self.how, self.generator = how, generator
        self.recovered: list[Tensor] = []

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        how, advance = self.how, self.how.advance
        answer = how.module.query(advance.query, batch, generator=generator)
        if how.read:
            last = answer[advance.frames][:, advance.arrives[advance.frames]]
            answer = {**answer, how.read: how.probe(last)[:, None]}
        if how.inverse:
            past = len(advance.places.get(advance.action, ()))
            acted = {advance.action: batch[advance.action][:, :past]} if past else {}
            known = {**{n: batch[n] for n in batch if n != advance.action}, **acted}
            seen = {n: torch.cat([batch[n], answer[n]], 1) for n in advance.predicted}
            self.recovered.append(_recover(how, {**known, **seen}, generator))
        return answer


def _recover(how: Imagination, batch: Batch, generator: torch.Generator) -> Tensor:
    return how.module.query(how.inverse, batch, generator=generator)[how.advance.action]


def simulator(
    how: Imagination, situations: Sequence[Situation], course: Course, seed: int
) -> RollOut:
    """The truth in the place of an imagination: the ceiling, and the floor of what is read."""
    model, advance = how.module.plan.model, how.advance
    frames, recovered = [], []
    for number, row in enumerate(course.boundaries):
        batch = windows(model, situations, course, row)
        start = model.streams[advance.frames].start("future")
        frames.append(batch[advance.frames][:, start + advance.arrives[advance.frames]])
        if how.inverse:
            generator = torch.Generator().manual_seed(seed * 2**20 + number)
            with torch.inference_mode():
                recovered.append(_recover(how, batch, generator))
    return RollOut(torch.stack(frames, 1), torch.stack(recovered, 1) if how.inverse else None)


def copy_last(model: object, advance: Advance, start: Batch, course: Course) -> RollOut:
    """Nothing ever moves: the last real frame at every horizon."""
    stream = model.streams[advance.frames]  # type: ignore[attr-defined]
    last = start[advance.frames][:, stream.start("future") - 1]
    return RollOut(last[:, None].expand(-1, course.chunks, -1, -1, -1))


def start_of(model: object, advance: Advance, situations: Sequence[Situation], course: Course):  # type: ignore[no-untyped-def]
    """The true windows at the start, and the actions of all tracks [B, C, T, A]."""
    batch = windows(model, situations, course, 0)  # type: ignore[arg-type]
    if advance.action not in advance.places:
        batch.pop(advance.action)
    actions = torch.stack(
        [torch.from_numpy(track.actions) for place in situations for track in place.tracks]
    )
    return batch, actions.unflatten(1, (course.chunks, course.steps))


def _joined(parts: Sequence[RollOut]) -> RollOut:
    frames = torch.cat([part.frames for part in parts])
    if parts[0].recovered is None:
        return RollOut(frames)
    return replace(parts[0], frames=frames, recovered=torch.cat([p.recovered for p in parts]))


