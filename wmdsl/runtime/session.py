"""A trained module in closed loop: observations in, chunks of actions out, with a memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wmdsl.check.model import Query, Segment, Stream
from wmdsl.data import keys
from wmdsl.runtime import errors
from wmdsl.runtime.binding import image_streams, offsets
from wmdsl.runtime.chunks import Chunks
from wmdsl.runtime.device import CPU, device_of, moved, noise_of
from wmdsl.runtime.graphs import asker
from wmdsl.runtime.history import History, looks_between, tracks_of
from wmdsl.runtime.pace import pace_of

Observation = Mapping[str, Any]
Bounds = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How a query is asked again and again.

    `execute` counts the actions of a chunk that are executed before the next one, `ensemble` is
    the decay of temporal ensembling: both as the query declares them where they are absent.
    `prefetch` acts on what was seen one chunk ago, so that an answer may be computed while the
    chunk before it is executed: in a thread, or with `background` off at once, to the same
    result.  `bounds` (lowest, highest) are those to which the robot clips what it executes.
    A blind session shows the model black images, and zeros in place of the `blank` streams.
    With `graph` a GPU replays the query as CUDA graphs: the same numbers, without Python's time.
    """

    execute: int | None = None
    ensemble: float | None = None
    prefetch: bool = False
    background: bool = True
    bounds: Bounds | None = None
    seed: int = 0
    blind: bool = False
    blank: tuple[str, ...] = ()
    graph: bool = False


class _Answer(NamedTuple):
    """What is to be done from now on [n, ahead, A] in control steps, and kept predictions of
    other streams [n, frames, *sample]."""

    actions: np.ndarray
    predicted: dict[str, np.ndarray]


@dataclass(slots=True, eq=False)
class _Episode:
    """One episode: the control step of its next observation, and what it remembers."""

    history: History
    chunks: Chunks
    step: int = 0


class Session:
    """Asks one query for every chunk of actions; the state between the calls is all in here.

    One episode is driven chunk by chunk by `step`, or step by step by `next_action`; several beside
    each other by `act`.  Windows are filled with what was observed and executed, padded at the
    start of an episode as in training; an action is held for the control steps that it covers.
    `execute` counts the control steps of a chunk that are executed.
    """

    def __init__(
        self,
        module: nn.Module,
        query: str = "policy",
        settings: SessionSettings | None = None,
        *,
        control_hz: Fraction | int | None = None,
        camera_hz: Fraction | int | None = None,
    ) -> None:
        """The robot is controlled at `control_hz`, the rate of the actions if absent; cameras were
        recorded at `camera_hz` for training, as often as their streams if absent.

        A session is where its module is.  Raises RunError for a query that cannot act, and for
        rates and settings that do not fit.
        """
        self.module = module.eval()
        self.settings = settings or SessionSettings()
        model = module.plan.model
        self.query = _declared(module, query)
        self._ask = asker(module, query, self.settings.graph)
        self.action = _action_segment(model.streams, self.query)
        stream = model.streams[self.action.stream]
        hertz = Fraction(control_hz or stream.rate_hz)
        self.pace = pace_of(stream, self.action, self.query, hertz, self.settings.execute)
        self.execute = self.pace.execute
        self.decay = self._decay()
        if self.settings.prefetch and self.pace.ahead < 2 * self.execute:
            raise errors.chunk_too_short(
                query, f"a chunk of {self.pace.ahead} control steps is used up when the next one "
                f"begins, {self.execute} steps later",
                "execute at most half of a chunk, or do not prefetch",
            )  # fmt: skip
        seen_hz = None if camera_hz is None else Fraction(camera_hz)
        hidden = (*self.settings.blank, *(image_streams(model) if self.settings.blind else ()))
        self.tracks = tracks_of(model, self.query, stream, hertz, seen_hz, hidden)
        self.between = looks_between(self.tracks, self.execute)
        self._kept = self._predictions(hertz)
        self._pool: ThreadPoolExecutor | None = None
        self._pending: tuple[list[_Episode], list[int], Future | _Answer] | None = None
        self.reset(1)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the images that must be rendered; none for a blind policy."""
        looked = [key for track in self.tracks if track.seen for key in track.stream.keys]
        return tuple(key for key in dict.fromkeys(looked) if key.startswith(keys.IMAGE_PREFIX))

    def reset(self, count: int = 1) -> None:
        """Forget everything; up to `count` episodes will run beside each other.

        The noise of what follows starts from the seed again.
        """
        self._collect()
        self._episodes: dict[int, _Episode] = {}
        self._queue: deque[np.ndarray] = deque()
        self._shown: dict[int, Observation] = {}
        self.used: tuple[int, ...] = ()
        self.generator = noise_of(self.module, self.settings.seed)

    def step(
        self,
        observation: Observation,
        between: Mapping[int, Observation] | None = None,
        executed: np.ndarray | None = None,
    ) -> np.ndarray:
        """The actions [execute, A] of the next control steps, from what is seen now.

        `between` are the observations inside the last chunk that `self.between` asks for, by the
        number of actions executed before them; `executed` the actions [execute, A] of the last
        chunk where the robot did others than it was told.
        """
        begun = self._episodes[0].step if 0 in self._episodes else 0
        told = {"slot": 0, "step": begun, "between": between or {}, "executed": executed}
        return self.act([{**observation, **told}])[0]

    def next_action(self, observation: Observation) -> np.ndarray:
        """One action [A]: for a loop that observes and asks at every control step.

        The rest of a chunk waits in a queue, and what `between` asks for is kept on the way.
        """
        if not self._queue:
            self._queue.extend(self.step(observation, self._shown))
            self._shown = {}
        elif (number := self.execute - len(self._queue)) in self.between:
            self._shown[number] = observation
        return self._queue.popleft()

    def act(self, observations: Sequence[Observation]) -> np.ndarray:
        """Chunks [n, execute, A] of episodes beside each other, in the units of the data set.

        Beside what is seen an observation holds `slot`, which tells the episodes apart, and `step`,
        the control steps since its start: 0 begins anew.  `between` and `executed` are those of
        `step`.  `self.used` then tells from which control step each chunk was inferred.
        """
        live = [self._look(observation) for observation in observations]
        self._collect()
        fresh = [e for e in live if e.step == 0 or not self.settings.prefetch]
        if fresh:
            steps = [episode.step for episode in fresh]
            self._keep(fresh, steps, self._infer(self._batch(fresh)))
        self._prefetch([episode for episode in live if episode not in fresh])
        chunks = np.stack([self._give(episode) for episode in live])
        self.used = tuple(episode.chunks.newest for episode in live)
        return chunks

    def _look(self, observation: Observation) -> _Episode:
        """Remember an observation and what lies before it."""
        slot, step = observation["slot"], observation["step"]
        if step == 0:
            self._episodes[slot] = _Episode(History(self.tracks), Chunks(self.decay))
        episode = self._episodes[slot]
        if step != episode.step:
            raise ValueError(f"the next observation is that of step {episode.step}, not {step}")
        if observation.get("executed") is not None:
            done = np.asarray(observation["executed"], np.float32)
            episode.history.act(step - len(done), done)
        for number, seen in observation.get("between", {}).items():
            episode.history.see(step - self.execute + number, seen)
        episode.history.see(step, observation)
        return episode

    def _batch(self, episodes: Sequence[_Episode]) -> dict[str, Tensor]:
        windows = [episode.history.windows(episode.step) for episode in episodes]
        return {
            track.stream.name: torch.from_numpy(np.stack([w[track.stream.name] for w in windows]))
            for track in self.tracks
        }

    @torch.inference_mode()
    def _infer(self, batch: dict[str, Tensor]) -> _Answer:
        answer = moved(self._ask(moved(batch, device_of(self.module)), self.generator), CPU)
        actions = answer[self.action.stream].float().numpy()
        held = np.repeat(actions, self.pace.hold, axis=1)[:, self.pace.behind :]
        return _Answer(held, {name: answer[name].float().numpy() for name in self._kept})

    def _give(self, episode: _Episode) -> np.ndarray:
        """The actions of the next control steps, which count as executed."""
        actions = episode.chunks.actions(episode.step, self.execute)
        if self.settings.bounds is not None:
            low, high = (np.asarray(end, np.float32) for end in self.settings.bounds)
            actions = np.clip(actions, low, high)
        episode.history.act(episode.step, actions)
        episode.step += self.execute
        return actions

    def _prefetch(self, episodes: list[_Episode]) -> None:
        """Begin to compute what will be executed behind the next chunk."""
        if not episodes:
            return
        batch = self._batch(episodes)
        steps = [episode.step for episode in episodes]
        if not self.settings.background:
            self._pending = episodes, steps, self._infer(batch)
            return
        self._pool = self._pool or ThreadPoolExecutor(1, "wmdsl-session")
        self._pending = episodes, steps, self._pool.submit(self._infer, batch)

    def _collect(self) -> None:
        """Take in what was computed since the last call."""
        if self._pending is None:
            return
        episodes, steps, found = self._pending
        self._pending = None
        self._keep(episodes, steps, found.result() if isinstance(found, Future) else found)

    def _keep(self, episodes: Sequence[_Episode], steps: Sequence[int], answer: _Answer) -> None:
        for number, (episode, step) in enumerate(zip(episodes, steps, strict=True)):
            episode.chunks.add(step, answer.actions[number])
            for name, rows in self._kept.items():
                samples = answer.predicted[name][number]
                episode.history.predict(name, [step + row for row in rows], samples)

    def _predictions(self, control_hz: Fraction) -> dict[str, tuple[int, ...]]:
        """Streams whose predictions are kept until reality arrives, with their control steps."""
        if self.query.attributes["cache"] != "predicted":
            return {}
        read = {track.stream.name: track.stream for track in self.tracks if track.seen}
        found = {}
        for segment in self.query.all_sought:
            if segment.stream in read and segment.stream not in found:
                stream = read[segment.stream]
                start = stream.start(segment.name)
                rows = offsets(stream, control_hz)[start : start + segment.length]
                found[stream.name] = rows
        return found

    def _decay(self) -> float | None:
        """The decay of temporal ensembling: of the settings, else of the query."""
        declared = self.query.attributes["ensemble"]
        wanted = declared if self.settings.ensemble is None else self.settings.ensemble
        if wanted is None:
            return None
        if self.pace.ahead == self.execute:
            raise errors.chunk_too_short(
                self.query.name, "no two chunks speak of one step: each is executed whole",
                "execute fewer steps than are predicted, or take no ensemble",
            )  # fmt: skip
        return float(wanted)


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
