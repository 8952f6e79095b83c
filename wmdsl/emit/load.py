"""Import of emitted text: the module that runs is the file that `emit` prints."""

from __future__ import annotations

import hashlib
import linecache
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType, ModuleType, TracebackType
from typing import Any

import torch
from torch import nn

from wmdsl.diagnostics.problem import SpecError
from wmdsl.lower.densities import density_name
from wmdsl.lower.names import class_name
from wmdsl.lower.queries import method_name
from wmdsl.lower.questions import density_refusal, refusal
from wmdsl.plan.named import questions
from wmdsl.plan.nodes import Plan

PLACE = re.compile(r"([\w.<>-]+:\d+)\)?\.?(?:\"\"\")?$")
SMALLEST_SCALE = 1e-6


class Compiled:
    """What a module compiled from a spec has beside its emitted methods."""

    plan: Plan
    spec: str  # canonical text
    source: str  # emitted text
    answers: tuple[str, ...]  # names that `query` takes
    density_source: Callable[[], str]  # emits the file of log-densities
    _densities: nn.Module | None = None

    def loss(
        self, batch: Mapping[str, torch.Tensor], *arguments: Any, **keywords: Any
    ) -> dict[str, torch.Tensor]:
        self._check(batch)
        with _located(self._file, self.spec):
            return super().loss(batch, *arguments, **keywords)

    def query(
        self,
        name: str,
        batch: Mapping[str, torch.Tensor],
        generator: torch.Generator | None = None,
        steps: int | None = None,
        draws: int = 1,
    ) -> dict[str, torch.Tensor]:
        """The answer to a declared query or a canonical one; `steps` and `draws` as emitted.

        Raises SpecError with the compiler's diagnostic for one that has no answer, ValueError for
        a batch whose streams do not fit each other.
        """
        if name not in self.answers:
            _refuse(self.plan, name)
        self._check(batch)
        for option, value in (("steps", steps), ("draws", draws)):
            if value is not None and value < 1:
                raise ValueError(f"{option} is {value}; it must be at least 1")
        with _located(self._file, self.spec):
            return super().query(name, batch, generator, steps, draws)

    def _check(self, batch: Mapping[str, torch.Tensor]) -> None:
        """What the emitted code would take amiss: samples of other counts, which broadcast, and
        values that are no tensor or of another kind of number."""
        streams = self.plan.model.streams
        held = [name for name in batch if name in streams]
        for name in held:
            x, whole = batch[name], streams[name].modality in ("language", "token")
            if not isinstance(x, torch.Tensor) or x.is_floating_point() == whole:
                found = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
                wanted = "whole numbers" if whole else "floating-point numbers"
                raise ValueError(f"batch[{name!r}] is {found}; it must be a tensor of {wanted}")
        counts = {name: len(batch[name]) for name in held}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} of {name}" for name, count in counts.items())
            raise ValueError(f"the batch holds samples of different counts: {told}")

    def log_density(
        self, name: str, batch: Mapping[str, torch.Tensor], *arguments: Any, **keywords: Any
    ) -> dict[str, torch.Tensor]:
        """How likely the answers that a batch holds are as answers to a query, in nats [B].

        `log_density(name, batch, generator, steps)`; along a flow also `probes`, the random
        directions of its divergence, None: exact.  Raises SpecError with the reason where the plan
        says that there is none.  Not for `torch.inference_mode`: it takes gradients.
        """
        asked = questions(self.plan).get(name)
        if asked is None:
            known = ", ".join(self.answers)
            raise ValueError(f"there is no query {name!r}; there are {known}")
        self._check(batch)
        if not asked.chain:
            _refuse(self.plan, name)
        found = density_refusal(self.plan, name)
        if found is not None:
            raise SpecError((found,))
        scorer = self._scorer()
        with _located(scorer._file, self.spec):
            return getattr(scorer, density_name(asked))(batch, *arguments, **keywords)

    def _scorer(self) -> nn.Module:
        """The module of the emitted log-densities, with the weights that stand here."""
        if self._densities is None:
            found = load_source(self.density_source(), self.plan)
            object.__setattr__(self, "_densities", found)  # no part of this module's own state
        self._densities.to(next(self.parameters()))
        self._densities.load_state_dict(self.state_dict(), assign=True)
        return self._densities.train(self.training)

    def search(self, name: str, *arguments: Any, **keywords: Any) -> dict[str, torch.Tensor]:
        """What a declared planner finds: `search(name, batch, goal, generator, warm)`.

        `goal` holds one sample [B, 1, ...] of every stream that the planner compares; the answer
        has the actions of the whole plan and their `score` [B].
        """
        planners = self.plan.model.planners
        if name not in planners:
            known = ", ".join(planners) or "none"
            raise ValueError(f"there is no planner {name!r}; there are {known}")
        with _located(self._file, self.spec):
            return getattr(self, f"search_{name}")(*arguments, **keywords)

    def after_step(self) -> None:
        """Move the teachers, where the spec has any; call it after each optimizer step."""
        move = getattr(super(), "after_step", None)
        if move is not None:
            move()

    def load_statistics(self, statistics: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
        """Set what numbers are normalised with, from {stream or its column: {"mean": ...}}.

        Raises KeyError for a stream whose statistics are missing, ValueError for what cannot be.
        """
        for stream in self.plan.model.streams.values():
            if hasattr(self, f"{stream.name}_mean"):
                found = statistics.get(stream.name) or statistics[stream.key]
                own = getattr(self, f"{stream.name}_mean"), getattr(self, f"{stream.name}_scale")
                for buffer, values in zip(own, _affine(stream.normalise, found), strict=True):
                    if values.shape != buffer.shape or not values.isfinite().all():
                        wanted = f"{buffer.numel()} finite numbers of {stream.name}"
                        raise ValueError(f"{wanted} are wanted, not {values.tolist()}")
                    buffer.copy_(values)


def load_source(text: str, plan: Plan) -> nn.Module:
    """The module of an emitted text, with `plan`, `spec` and `source` beside its methods."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    name = f"wmdsl_emitted_{plan.model.name}_{digest}"
    file = f"<{plan.model.name}.py {digest}>"
    python = ModuleType(name)
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    sys.modules[name] = python
    exec(compile(text, file, "exec"), python.__dict__)
    emitted = getattr(python, class_name(plan.model.name))
    own = {"__module__": name, "_file": file, "__doc__": emitted.__doc__}
    module = type(emitted.__name__, (Compiled, emitted), own)()
    module.plan, module.spec, module.source = plan, plan.model.canonical, text
    module.answers = tuple(
        asked for asked, question in questions(plan).items()
        if hasattr(emitted, method_name(question))
    )  # fmt: skip
    return module


def _refuse(plan: Plan, name: str) -> None:
    """Raise what the compiler says of a canonical question that the emitted file leaves out."""
    found = refusal(plan, name)
    if found is not None:
        raise SpecError((found,))


def _affine(kind: str, found: Mapping[str, Sequence[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and scale; a number that never changes keeps its size."""
    read = {
        "zscore": ("mean", "std"),
        "minmax": ("min", "max"),
        "quantile": ("q01", "q99"),
    }[kind]
    first, second = (torch.as_tensor(found[name], dtype=torch.float64) for name in read)
    if kind == "zscore":
        mean, scale = first, second
    else:
        mean, scale = (first + second) / 2, (second - first) / 2
    return mean, torch.where(scale > SMALLEST_SCALE, scale, 1.0)


@contextmanager
def _located(file: str, spec: str) -> Iterator[None]:
    """Errors raised inside emitted code quote the line of the canonical spec it came from."""
    try:
        yield
    except Exception as error:
        place = _place_of(error.__traceback__, file)
        if place:
            line = spec.splitlines()[int(place.rpartition(":")[2]) - 1]
            error.add_note(f"in what {place} declares: {line.strip()}")
        raise


def _place_of(trace: TracebackType | None, file: str) -> str | None:
    """The line of the spec of the innermost emitted statement that has one."""
    found = None
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == file:
            found = _place_near(file, trace.tb_lineno, _last_line(code, trace), code) or found
        trace = trace.tb_next
    return found


def _last_line(code: CodeType, trace: TracebackType) -> int:
    positions = list(code.co_positions())[trace.tb_lasti // 2]
    return positions[1] or trace.tb_lineno


def _place_near(file: str, first: int, last: int, code: CodeType) -> str | None:
    """The remark of the statement, else the comment that heads it inside its function."""
    for number in range(first, last + 1):
        match = PLACE.search(linecache.getline(file, number).rstrip())
        if match:
            return match[1]
    for number in range(first - 1, code.co_firstlineno - 1, -1):
        line = linecache.getline(file, number).strip()
        match = PLACE.search(line) if line.startswith(("#", '"""')) else None
        if match:
            return match[1]
    return None
