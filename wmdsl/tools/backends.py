"""Which attention back end runs each space of a plan, and why the others refuse.

The answers come from the rules that the kernels choose by, without torch and without a GPU: for an
eager call in a batch of 1, and where a larger batch runs on another back end, from which on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from wmdsl.plan.nodes import Plan, Space
from wmdsl_kernels import Schedule, toolchain
from wmdsl_kernels.attention.refusals import turning_batch, verdicts
from wmdsl_kernels.attention.request import Request

DEVICES = ("cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")

Verdict = tuple[str, bool, str]
"""Back end, whether it accepts, why not."""


@dataclass(frozen=True)
class Dispatch:
    """What the back ends say to one attention space on one kind of device."""

    passes: tuple[str, ...]
    """"training" and the names of queries: all passes in which the space looks like this."""
    space: str
    device: str
    dtype: str
    verdicts: tuple[Verdict, ...]
    """Of a batch of 1."""
    batched: tuple[str, int] | None = None
    """The back end that runs larger batches, and from which on; None where it is the same."""

    @property
    def runs(self) -> str | None:
        """The back end that runs the space in a batch of 1; None where all refuse."""
        return _first(self.verdicts)


def dispatches(plan: Plan, dtype: str, query: str | None = None) -> list[Dispatch]:
    """Every distinct attention space of training and the queries, or of one query, by device."""
    passes: dict[tuple[str, Request], list[str]] = {}
    for name, training, space in _spaces(plan, query):
        for device in DEVICES:
            request = _request(plan, space, device, dtype, training)
            same = passes.setdefault((space.name, request), [])
            if name not in same:
                same.append(name)
    return [_dispatch(space, request, names) for (space, request), names in passes.items()]


def as_text(found: Sequence[Dispatch]) -> str:
    """A section of the report."""
    lines = [f"attention back ends in {found[0].dtype}"] if found else []
    for entry in found:
        lines.append(f"  {entry.space} ({', '.join(entry.passes)}) on {entry.device}")
        lines.append(f"    runs on {_runs(entry)}" if entry.runs else "    runs nowhere")
        lines += [f"    not {name}: {why}" for name, ok, why in entry.verdicts if not ok]
    return "\n".join([*lines, ""])


def as_records(found: Sequence[Dispatch]) -> list[dict[str, object]]:
    """Plain data: one record per space and device."""
    return [
        {
            "space": entry.space,
            "passes": list(entry.passes),
            "device": entry.device,
            "dtype": entry.dtype,
            "runs": entry.runs,
            "batched": entry.batched and dict(zip(("runs", "from"), entry.batched, strict=True)),
            "refusals": {name: why for name, ok, why in entry.verdicts if not ok},
        }
        for entry in found
    ]


def _dispatch(space: str, request: Request, passes: list[str]) -> Dispatch:
    answers, batched = _verdicts(request), None
    batch = turning_batch(request)
    if batch is not None:
        runs = _first(_verdicts(replace(request, batch=batch)))
        batched = (runs, batch) if runs and runs != _first(answers) else None
    return Dispatch(tuple(passes), space, request.device, request.dtype, answers, batched)


def _verdicts(request: Request) -> tuple[Verdict, ...]:
    return tuple(verdicts(request, lambda name: _missing(name, request.device)))


def _first(answers: Sequence[Verdict]) -> str | None:
    return next((name for name, accepted, _ in answers if accepted), None)


def _runs(entry: Dispatch) -> str:
    if entry.batched is None:
        return f"{entry.runs}"
    return "{} ({} from a batch of {})".format(entry.runs, *entry.batched)


def _spaces(plan: Plan, query: str | None) -> Iterator[tuple[str, bool, Space]]:
    """(pass, whether it needs gradients, space) in the plan's order."""
    if query is None:
        asked = plan.queries.values()
        yield from (("training", True, space) for space in plan.train.spaces)
    else:
        asked = [{**plan.canonical_queries, **plan.queries}[query]]
    for each in asked:
        for step in each.chain:
            yield from ((each.name, False, space) for space in step.evaluation.spaces)


def _request(plan: Plan, space: Space, device: str, dtype: str, training: bool) -> Request:
    trunk = plan.model.trunks[space.trunks[0]]
    schedule = Schedule.from_ranges(space.tokens, space.tokens, space.ranges)
    return Request(
        device=device,
        dtype=dtype,
        batch=1,
        query_length=space.tokens,
        key_length=space.tokens,
        query_heads=trunk.heads,
        key_heads=trunk.kv_heads,
        head_dim=trunk.head_dim,
        schedule=None if space.dense else schedule,
        needs_gradient=training,
    )


def _missing(name: str, device: str) -> str | None:
    """What this machine lacks for its own processor; another machine may hold the GPU."""
    return toolchain.compiler_missing() if name == "cpu" and device == "cpu" else None
