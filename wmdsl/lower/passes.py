"""One forward evaluation: tokens into trunks, codes, blocks, hidden states out.

The frame knows the values of clean segments; what is special in this pass (noisy tokens, their
times, handed frames) comes in as `Inputs`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import groupby, pairwise

from wmdsl.check.codecs import TIME
from wmdsl.check.model import Condition, TokenGroup, TokenSource
from wmdsl.check.sources import frames_of, lies, written
from wmdsl.lower.codecs import embodied
from wmdsl.lower.codes import CodeWriter, conditions_of
from wmdsl.lower.context import Context, number
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.frame import EACH, SIZE, Frame
from wmdsl.lower.inputs import GroupName, Inputs
from wmdsl.lower.program import Block, Expression, Name, expression, joined, me, of
from wmdsl.lower.spaces import (
    TIMED,
    Reading,
    crosses_of,
    embedding,
    readings,
    rotary,
    runs_method,
)
from wmdsl.plan.nodes import Pass, Placed, Space
from wmdsl.plan.roles import generates_by_segment
from wmdsl.plan.spaces import channels_into


class PassWriter:
    """Writes one pass into a frame; spaces one after the other, so that one may feed the next."""

    def __init__(
        self, frame: Frame, evaluation: Pass, inputs: Inputs, label: str, copy: str = ""
    ):
        self.frame = frame
        self.context: Context = frame.context
        self.evaluation = evaluation
        self.inputs = inputs
        self.label = label
        self.codes = CodeWriter(frame, evaluation, inputs)
        self.copy = copy  # that predicts, where a trunk stands in several
        self._embedded: dict[tuple[GroupName, Fraction | None], Expression | None] = {}
        self._channels: dict[tuple[str, str], Expression] = {}
        self._readings: dict[tuple[str, str | None], Expression] = {}
        self._written: set[tuple[str, Fraction | None]] = set()

    @property
    def model(self):
        return self.context.model

    def hoist(
        self, space: Space, moving: Iterable[str], constant: Collection[GroupName]
    ) -> None:
        """Embed ahead of a loop everything in a space but the groups of moving segments; `constant`
        groups apart from those whose states change."""
        moving = set(moving)
        for trunk in space.trunks:
            self._hoist_sources(trunk)
            self._hoist_channels(space, trunk)
            self._hoist_trunk(space, trunk, moving, constant)

    def _hoist_sources(self, trunk: str) -> None:
        """Encode what couplings read from outside of trunks."""
        readers = [*crosses_of(self.model, (trunk,)), *conditions_of(self.model, trunk)]
        for source in (source for reader in readers for source in reader.sources):
            if _outside(source):
                self.frame.source(source)
        for reading in readings(self.model, (trunk,)):
            cross = reading.cross
            worked = cross.embedded or cross.per_frame or cross.paired
            if worked and all(map(self._stays, cross.sources)):
                self._readings[cross.name, reading.trunk] = self._reading(reading)

    def _hoist_channels(self, space: Space, trunk: str) -> None:
        """What stands beside the features of groups, where it stays the same."""
        for group in (placed.group for placed in space.of_trunk(trunk)):
            for condition in channels_into(self.model, group):
                if all(map(self._stays, condition.sources)):
                    key, wanted = (condition.name, group.name), condition.name
                    value = self._beside(condition, group)
                    name = self.frame.keep(("channel", self.label, *key), wanted, value)
                    self._channels[key] = name

    def _stays(self, source: TokenSource) -> bool:
        """Whether no step of a loop that is about to begin changes what a source reads."""
        return _outside(source) or (source.trunk, source.time) in self._written

    def _hoist_trunk(
        self, space: Space, trunk: str, moving: set[str], constant: Collection[GroupName]
    ) -> None:
        """Neighbours that stay the same become one variable."""

        def kind(placed: Placed) -> tuple[bool, bool]:
            return self._moves(placed.group, moving), placed.key in constant

        for (moves, _), run in groupby(space.of_trunk(trunk), kind):
            if not moves:
                self._keep_run(space, trunk, list(run))

    def _moves(self, group: TokenGroup, moving: set[str]) -> bool:
        role = self.evaluation.roles[group.trunk, group.name]
        read = [*channels_into(self.model, group)]
        read += [film for film in self._films(group.trunk) if group.name in film.target_groups]
        if role == "prefix":
            read.append(self.model.conditions[group.name])
        if not all(self._stays(source) for condition in read for source in condition.sources):
            return True
        return role in ("noisy", "masked", "clean") and group.segment.reference in moving

    def _keep_run(self, space: Space, trunk: str, run: list[Placed]) -> None:
        names = "_".join(placed.group.name.replace(".", "_") for placed in run)
        wanted = f"{trunk}_{names}" if len(run) == 1 else f"{trunk}_given"
        tokens = joined([self._standing(space, placed) for placed in run])
        name = self.frame.keep(("run", self.label, space.time, run[0].key), wanted, tokens)
        for index, placed in enumerate(run):
            self._embedded[placed.key, space.time] = None if index else name

    def write(self, passes: str) -> None:
        """All spaces of the pass; `passes` names their masks."""
        for space in self.evaluation.spaces:
            self.write_space(space, passes)

    def write_space(self, space: Space, passes: str) -> None:
        """Tokens, codes and blocks of one space; its hidden states are held by the frame."""
        path, method = runs_method(self.context, space)
        drawn = self.inputs.schedules.get(space.name)
        mask = drawn or self.context.schedule(space, passes) or Name("None")
        schedule = [mask] if path.masked else []
        results = tuple(self.result(space, *result) for result in path.results)
        self.frame.body.assign(results, method(*self.arguments(space), *schedule))
        self.hold(space, path.results, results)

    def write_draws(self, space: Space, passes: str, draws: int) -> None:
        """As `write_space`, with so many noises of each sample."""
        self.frame.draws = draws
        with self.codes.of_rows(SIZE * draws):
            self.write_space(space, passes)
        self.frame.draws = 1

    def arguments(
        self, space: Space, told: Mapping[str, Expression] = {}
    ) -> tuple[Expression, ...]:
        """Tokens, codes, angles and what is read, in the order of a method over the space; `told`
        are the trunks whose codes stand already."""
        own = {placed.group.name for placed in space.groups}
        times = self.inputs.times.items()
        drawn = {name: at if name in own else self.frame.drawn(at) for name, at in times}
        self.frame.times = {**drawn, **self._held_times(space)}
        tokens = [self._trunk_tokens(space, trunk) for trunk in space.trunks]
        trunks = [self.model.trunks[name] for name in space.trunks]
        codes = [
            told[trunk.name] if trunk.name in told else self.codes.code(space, trunk.name)
            for trunk in trunks
            if trunk.kind in TIMED
        ]
        angles = [self._angles(space, trunk.name) for trunk in trunks if rotary(trunk)]
        sources = [self._read(reading) for reading in readings(self.model, space.trunks)]
        return (*tokens, *codes, *angles, *sources)

    def hold(
        self, space: Space, results: Iterable[tuple[str, int | None]], names: Iterable[Name]
    ) -> None:
        """The frame holds the hidden states that a method has put out."""
        for (trunk, layer), name in zip(results, names, strict=True):
            self.frame.hold((trunk, layer, space.time), name, space.of_trunk(trunk))
            self._written.add((trunk, space.time))

    def _held_times(self, space: Space) -> dict[str, Expression]:
        """The times of the noisy segments in a pass at one time."""
        if space.time is None:
            return {}
        return {
            placed.group.segment.reference: self.codes.held_time(space.time)
            for placed in space.groups
            if self.evaluation.roles[placed.key] == "noisy"
        }

    def _read(self, reading: Reading) -> Expression:
        """What a cross reads, as it was made ahead of a loop or is made here."""
        key = reading.cross.name, reading.trunk
        return self._readings[key] if key in self._readings else self._reading(reading)

    def _reading(self, reading: Reading) -> Expression:
        """One sequence [B, S, C], that of each frame [B F, S, C], or one for each block."""
        cross = reading.cross
        if cross.paired:
            value = self._by_block(reading)
        elif cross.per_frame:
            value = self._by_frame(reading)
        elif cross.embedded:
            value = self._sequence(reading)
        else:
            return joined([self.frame.source(source) for source in cross.sources])
        if isinstance(value, Name):
            return value
        return self.frame.keep(("reading", cross.name, reading.trunk), reading.name, value)

    def _sequence(self, reading: Reading) -> Expression:
        """The sources, each through its own embedding."""
        sources = [
            joined([self.frame.source(source) for source in items])
            for items in written(reading.cross.sources)
        ]
        module = embedding(self.context, reading)
        modules = [module] if len(sources) == 1 else [module[at] for at in range(len(sources))]
        return joined([own(source) for own, source in zip(modules, sources, strict=True)])

    def _by_frame(self, reading: Reading) -> Expression:
        cross = reading.cross
        frames = frames_of(self.model.trunks, cross.sources[0])[0]
        found = [part for source in cross.sources for part in self.frame.apart(source)]
        value = Block("framewise")(found, frames)
        for condition in self.model.conditions.values():
            if condition.trunk in cross.targets and condition.mechanisms[0].startswith("prefix"):
                raise Unsupported("tokens behind a prefix are not shared out", cross.span)
        if cross.embedded and len(written(cross.sources)) > 1:
            raise Unsupported("several sources are not embedded frame by frame", cross.span)
        return embedding(self.context, reading)(value) if cross.embedded else value

    def _by_block(self, reading: Reading) -> Expression:
        """The states of a trunk behind its blocks, for each block that reads one."""
        cross, (source,) = reading.cross, reading.cross.sources
        states, whole = self.frame.states(source)
        if whole and not cross.embedded and not source.stop:
            return states
        parts = [self.frame.part(source, states[at]) for at in range(max(cross.layers) + 1)]
        own = embedding(self.context, reading) if cross.embedded else None
        return expression([own(part) if own else part for part in parts])

    def result(self, space: Space, trunk: str, layer: int | None, part: str = "") -> Name:
        """The variable of hidden states; `part` where they are those of some groups only."""
        wanted = f"{trunk}_out" if layer is None else f"{trunk}_after_{layer}"
        wanted = f"{trunk}_states" if layer == EACH else wanted
        wanted = wanted if space.time is None else f"{wanted}_held"
        wanted = f"{wanted}_{part}" if part else wanted
        return self.frame.local(("result", trunk, layer, space.time, part), wanted)

    def output(self, group: TokenGroup, shift: bool = False) -> Expression:
        """What the head of a group makes of its hidden states; with `shift` of those of the token
        before each."""
        group = self._predicting(group)
        hidden, placed = self.frame.state(group)
        names = [other.group.name for other in placed]
        start = sum(other.group.count for other in placed[: names.index(group.name)])
        head, span = self.context.outward(group), slice(start, start + group.count)
        if not shift:
            states = hidden if len(placed) == 1 else hidden[:, span]
            return head(states, *embodied(self.context, group.segment))
        return head(self._one_earlier(group, hidden, span))

    def _predicting(self, group: TokenGroup) -> TokenGroup:
        """The group as it stands in the copy that predicts."""
        name = f"{self.copy}.{group.name}"
        copied = self.copy and (group.trunk, name) in self.evaluation.roles
        return replace(group, name=name, copy=self.copy) if copied else group

    def _one_earlier(self, group: TokenGroup, hidden: Expression, span: slice) -> Expression:
        """The states of the token in front of a group and of all its tokens but the last."""
        ahead = [
            left.group
            for space in self.evaluation.spaces
            for left, right in pairwise(space.of_trunk(group.trunk))
            if right.group.name == group.name
        ]
        if not ahead:
            message = f"{group.name} needs a token before it to predict its first one from"
            raise Unsupported(message, group.span)
        before, placed = self.frame.state(ahead[0])
        end = sum(other.group.count for other in placed)
        if before == hidden:
            return hidden[:, slice(span.start - 1, span.stop - 1)]
        if placed[-1].group.name != ahead[0].name:
            message = f"{group.name} is to be predicted from a token that others stand behind"
            raise Unsupported(message, group.span)
        own = hidden[:, slice(span.start, span.stop - 1)]
        return joined([before[:, slice(end - 1, end)], own])

    def _trunk_tokens(self, space: Space, trunk: str) -> Expression:
        found = [self._token(space, placed) for placed in space.of_trunk(trunk)]
        tokens = joined([part for part in found if part is not None])
        for condition in self._films(trunk):
            if not condition.target_groups:
                tokens = self._film(condition, tokens)
        if isinstance(tokens, Name):
            return tokens
        return self.frame.keep(("trunk", trunk, space.time), trunk, tokens, None)

    def _token(self, space: Space, placed: Placed) -> Expression | None:
        """Tokens of a group; None where the variable of an earlier neighbour holds them."""
        key = placed.key, space.time
        if key in self._embedded:
            return self._embedded[key]
        return self._standing(space, placed)

    def _standing(self, space: Space, placed: Placed) -> Expression:
        """The tokens that stand of a group: all of them, or those of some samples."""
        tokens = self._embed(space, placed.group)
        whole = self.model.trunks[placed.group.trunk].group(placed.group.base)
        if whole is None or whole.count == placed.group.count:
            return tokens
        return tokens[:, slice(placed.offset, placed.offset + placed.group.count)]

    def _embed(self, space: Space, group: TokenGroup) -> Expression:
        """Tokens of one group [B, T, W]."""
        role = self.evaluation.roles[group.trunk, group.name]
        if role == "prefix":
            return self._prefix(self.model.conditions[group.base])
        if role in ("learned", "placeholder"):
            tokens = self.context.inward(group)(self.codes.rows)
        else:
            chosen = embodied(self.context, group.segment)
            if chosen and self.frame.draws > 1:
                raise Unsupported("draws beside embodiments", group.span)
            tokens = self.context.inward(group)(self._features(space, group, role), *chosen)
            tokens = tokens if role == "noisy" else self.frame.drawn(tokens)
        for condition in channels_into(self.model, group):
            key = condition.name, group.name
            tokens = tokens + (self._channels.get(key) or self._beside(condition, group))
        for condition in self._films(group.trunk):
            if group.base in condition.target_groups:
                tokens = self._film(condition, tokens)
        return tokens

    def _prefix(self, condition: Condition) -> Expression:
        """The tokens that a condition puts in front of its trunk's tokens."""
        module = self.context.owned("condition", condition.name)
        if "prefix" not in condition.mechanisms:
            return module(joined([self.frame.source(source) for source in condition.sources]))
        return module(self.frame.pooled_sources(condition.sources))[:, None]

    def _beside(self, condition: Condition, group: TokenGroup) -> Expression:
        """What more channels add to the tokens of a group: the projection of a concatenation is
        the sum of projections."""
        parts = []
        for items in written(condition.sources):
            source = joined([self.frame.source(item) for item in items])
            match lies(items, group):
                case "over_frames":
                    source = of(source, "repeat")(1, group.frames, 1)
                case "within_frames":
                    source = of(source, "repeat_interleave")(group.per_frame, dim=1)
            parts.append(source)
        return self.context.owned("condition", condition.name)(joined(parts, axis=-1))

    def _features(self, space: Space, group: TokenGroup, role: str) -> Expression:
        key = group.trunk, group.name if role == "clean" else group.base
        reference = group.segment.reference
        if space.time is not None and role == "noisy":
            return self._through(group, self.inputs.held[reference, space.time])
        if key in self.inputs.features:
            return self.inputs.features[key]
        if key in self.inputs.tokens:
            return self._through(group, self.inputs.tokens[key])
        generate = generates_by_segment(self.model).get(reference)
        if generate is not None and generate.objective == "edm" and role == "clean":
            tokens = self.frame.tokens(group.segment, group.codec)
            return self._through(group, tokens / number(generate.attributes["deviation"]))
        return self.frame.features(group.segment, group.codec)

    def _through(self, group: TokenGroup, tokens: Expression) -> Expression:
        codec = self.model.codecs[group.codec]
        return self.frame.through(codec, group.segment, tokens)

    def _films(self, trunk: str) -> list[Condition]:
        return [c for c in conditions_of(self.model, trunk) if "film" in c.mechanisms]

    def _film(self, condition: Condition, tokens: Expression) -> Expression:
        module = self.context.owned("condition", condition.name)
        return module(tokens, self.frame.pooled_sources(condition.sources))

    def _angles(self, space: Space, trunk: str) -> Expression:
        """Rotary angles of the live tokens, each at its place among all tokens of the trunk."""
        angles = of(me, self.context.attributes.of(("angles", trunk), f"{trunk}_angles"))
        training = next(s for s in self.context.plan.train.spaces if s.name == space.name)
        whole = training.of_trunk(trunk)
        first = {placed.group.name: placed.start - whole[0].start for placed in whole}
        spans: list[tuple[int, int]] = []
        for placed in space.of_trunk(trunk):
            start = first[placed.group.base] + placed.offset
            end = start + placed.group.count
            if spans and spans[-1][1] == start:
                start = spans.pop()[0]
            spans.append((start, end))
        if spans == [(0, sum(placed.group.count for placed in whole))]:
            return angles
        return joined([angles[slice(*span)] for span in spans], axis=0)


def _outside(source: TokenSource) -> bool:
    """Whether a source is a segment that stands, not a state of a trunk or a noise level."""
    return source.segment is not None and source.codec != TIME
