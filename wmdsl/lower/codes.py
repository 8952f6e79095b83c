"""What tokens are told: codes of noise levels, and conditions that act through them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from wmdsl.check.model import Condition, Model, TokenGroup, Trunk
from wmdsl.lower.context import Context, number
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.frame import CLEAN, LIKE, SIZE, Frame
from wmdsl.lower.inputs import Inputs
from wmdsl.lower.program import Block, Expression, expression, joined, of
from wmdsl.plan.nodes import Pass, Space


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens in a row: row r of their code belongs to `lengths[r]` of them.  `group` is the one
    group of a run whose tokens are told apart."""

    time: Expression
    lengths: tuple[int, ...]
    conditions: tuple[str, ...]
    group: TokenGroup | None = None


def conditions_of(model: Model, trunk: str) -> list[Condition]:
    return [c for c in model.conditions.values() if c.trunk == trunk]


class CodeWriter:
    """Writes the codes of the spaces of one pass; `clean` is the time of what is not noisy."""

    def __init__(self, frame: Frame, evaluation: Pass, inputs: Inputs):
        self.frame = frame
        self.context: Context = frame.context
        self.model: Model = frame.context.model
        self.evaluation = evaluation
        self.inputs = inputs
        self.clean, self.rows = CLEAN, SIZE

    @contextmanager
    def of_rows(self, rows: Expression) -> Iterator[None]:
        """For a batch of so many rows instead of one for each sample."""
        kept = self.clean, self.rows
        self.clean, self.rows = of(LIKE, "new_zeros")(rows, 1), rows
        yield
        self.clean, self.rows = kept

    @contextmanager
    def in_numbers(self, times: Mapping[str, Expression]) -> Iterator[None]:
        """With plain numbers for times, those of the segments given."""
        kept = self.clean, self.rows, self.inputs.times
        self.clean, self.rows, self.inputs.times = expression(0), None, dict(times)
        yield
        self.clean, self.rows, self.inputs.times = kept

    def code(self, space: Space, trunk_name: str) -> Expression:
        """What each run of a trunk's tokens is told."""
        trunk = self.model.trunks[trunk_name]
        if trunk.kind == "unet":
            return self._codes(space, trunk)
        rows, lengths = self._rows_of(space, trunk, self._runs(space, trunk_name))
        for condition in self._adaln(trunk_name):
            if not condition.target_groups and "adaln" in condition.mechanisms:
                rows = rows + self._condition(condition)[:, None]
        name = ("code", trunk_name, space.time)
        wanted = f"{trunk_name}_code"
        return self.frame.keep(name, wanted, Block("Runs")(rows, lengths))

    def told(
        self, space: Space, trunk: Trunk, times: Mapping[str, Expression]
    ) -> tuple[Expression, tuple[int, ...]]:
        """What `folded` takes for a step, where it follows from times alone: plain numbers, and
        the tokens of each run."""
        with self.in_numbers(times):
            runs = self._runs(space, trunk.name)
            lengths = tuple(length for run in runs for length in run.lengths)
            if trunk.told == "own":
                return expression([run.time for run in runs for _ in run.lengths]), lengths
            found = self._all_times(space) if trunk.told == "all" else [self.clean]
            return expression(found), (sum(lengths),)

    def folds(self, space: Space, trunk: Trunk) -> bool:
        """Whether a trunk's codes in a loop follow from its steps alone."""
        return trunk.kind == "dit" and space.time is None and not self._adaln(trunk.name)

    def stands(self, space: Space, trunk: Trunk) -> bool:
        """Whether a trunk's codes follow from the weights alone: no token is on its way."""
        roles = {self.evaluation.roles[placed.key] for placed in space.of_trunk(trunk.name)}
        still = space.time is not None or "noisy" not in roles
        return trunk.kind == "dit" and still and not self._adaln(trunk.name)

    def _codes(self, space: Space, trunk: Trunk) -> Expression:
        """One code for each video of a U-Net [B, G, W]."""
        groups = [placed.group for placed in space.of_trunk(trunk.name)]
        if any(self._rows(space, group) > 1 for group in groups):
            raise Unsupported("a U-Net is told one time for each video", trunk.span)
        told = joined([self._time(space, group) for group in groups])
        value = of(self.context.owned("trunk", trunk.name), "time")(told)
        return self.frame.keep(("code", trunk.name, space.time), f"{trunk.name}_code", value)

    def _rows_of(
        self, space: Space, trunk: Trunk, runs: list[Run]
    ) -> tuple[Expression, tuple[int, ...]]:
        """Rows of the code before conditions of the whole trunk, and the tokens of each row."""
        time = of(self.context.owned("trunk", trunk.name), "time")
        lengths = tuple(length for run in runs for length in run.lengths)
        apart = any(run.conditions for run in runs)
        if trunk.told != "own":
            if apart:
                raise Unsupported("conditions of single tokens need `told own`", trunk.span)
            if trunk.told == "none":
                return time(self.clean), (sum(lengths),)
            told = time(joined(self._all_times(space)))
            return of(told, "sum")(dim=1, keepdim=True), (sum(lengths),)
        if apart:
            return joined([self._conditioned(time, trunk.name, run) for run in runs]), lengths
        return time(joined([run.time for run in runs])), lengths

    def _adaln(self, trunk: str) -> list[Condition]:
        return [c for c in conditions_of(self.model, trunk) if c.mechanisms[0].startswith("adaln")]

    def _condition(self, condition: Condition) -> Expression:
        """The pooled source as a code [B, W]."""
        module = self.context.owned("condition", condition.name)
        return module(self.frame.pooled_sources(condition.sources))

    def _runs(self, space: Space, trunk: str) -> list[Run]:
        runs: list[Run] = []
        for placed in space.of_trunk(trunk):
            run = self._run(space, placed.group)
            last = runs[-1] if runs else None
            if last and _alike(last, run):
                runs[-1] = Run(run.time, (last.lengths[0] + run.lengths[0],), run.conditions)
            else:
                runs.append(run)
        return runs

    def _run(self, space: Space, group: TokenGroup) -> Run:
        time, rows = self._time(space, group), self._rows(space, group)
        conditions, per_token = [], False
        for condition in self._adaln(group.trunk):
            aligned = "adaln_per_token" in condition.mechanisms
            if group.base in self._targets(condition, aligned):
                conditions.append(condition.name)
                per_token |= aligned
        if per_token and rows > 1:
            raise Unsupported("per-token codes and per-frame times do not mix", group.span)
        if per_token:
            return Run(time, (1,) * group.count, tuple(conditions), group)
        return Run(time, (group.count // rows,) * rows, tuple(conditions))

    def _targets(self, condition: Condition, aligned: bool) -> tuple[str, ...]:
        if condition.target_groups or not aligned:
            return condition.target_groups
        return tuple(group.name for group in self.model.trunks[condition.trunk].groups)

    def _conditioned(self, time: Expression, trunk: str, run: Run) -> Expression:
        rows = time(run.time)
        for name in run.conditions:
            condition = self.model.conditions[name]
            if "adaln_per_token" in condition.mechanisms:
                rows = rows + self._aligned(condition, run)
            else:
                rows = rows + self._condition(condition)[:, None]
        return rows

    def _aligned(self, condition: Condition, run: Run) -> Expression:
        """One code per token of the group that the run is made of."""
        sources = joined([self.frame.source(source) for source in condition.sources], axis=-1)
        codes = self.context.owned("condition", condition.name)(sources)
        targets = [
            self.model.trunks[condition.trunk].group(n) for n in self._targets(condition, True)
        ]
        wanted, given = sum(group.count for group in targets), condition.sources[0].count
        if wanted > given:
            codes = of(codes, "repeat_interleave")(wanted // given, dim=1)
        if targets == [run.group]:
            return codes
        ahead = targets[: [group.name for group in targets].index(run.group.name)]
        start = sum(group.count for group in ahead)
        return codes[:, slice(start, start + run.group.count)]

    def _time(self, space: Space, group: TokenGroup) -> Expression:
        role = self.evaluation.roles[group.trunk, group.name]
        if group.copy and group.name in self.inputs.times:
            return self.inputs.times[group.name]
        if role not in ("noisy", "pinned"):
            return self.clean
        if space.time is not None:
            return self.held_time(space.time)
        return self.inputs.times[group.segment.reference]

    def held_time(self, time: Fraction) -> Expression:
        if self.rows is None:
            return number(time)
        return of(LIKE, "new_full")((self.rows, 1), number(time))

    def _pure_noise(self) -> Expression:
        return expression(1) if self.rows is None else of(LIKE, "new_ones")(self.rows, 1)

    def _rows(self, space: Space, group: TokenGroup) -> int:
        """Rows of the code of a group: one, or one per frame."""
        role = self.evaluation.roles[group.trunk, group.name]
        if group.copy and group.name in self.inputs.per_frame:
            return group.frames
        if role != "noisy" or space.time is not None:
            return 1
        return group.frames if group.segment.reference in self.inputs.per_frame else 1

    def _all_times(self, space: Space) -> list[Expression]:
        """The times of all segments that training generates in this space.

        What a query has deleted counts as pure noise.
        """
        times: dict[str, Expression] = {}
        training = next(s for s in self.context.plan.train.spaces if s.name == space.name)
        live = {placed.key for placed in space.groups}
        for placed in training.groups:
            if self.context.plan.train.roles[placed.key] == "noisy":
                noise = self._pure_noise()
                time = self._time(space, placed.group) if placed.key in live else noise
                times.setdefault(placed.group.segment.reference, time)
        if set(times) & self.inputs.per_frame:
            raise Unsupported("per-frame times need `told own`", training.groups[0].group.span)
        return list(times.values()) or [self.clean]


def _alike(left: Run, right: Run) -> bool:
    """Whether two runs may share one row."""
    single = len(left.lengths) == len(right.lengths) == 1 and not (left.group or right.group)
    return single and (left.time, left.conditions) == (right.time, right.conditions)
