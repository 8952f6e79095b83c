"""One training step, every query and every planner on random data: proof that a spec runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

import wmdsl
from wmdsl.check.model import Planner
from wmdsl.runtime import errors
from wmdsl.runtime.sample import random_batch
from wmdsl.weights import start

SIZE = 2


def smoke(
    path: str | Path,
    parameters: Mapping[str, object] | None = None,
    seed: int = 0,
    weights: str | None = None,
) -> Iterator[str]:
    """Compile at size `tiny` where the spec has it, step once, ask everything; a line for each.

    `weights` is where pretrained weights come from, as `wmdsl.weights.start` takes it.  Raises
    RunError where a loss or an answer is not finite.
    """
    torch.manual_seed(seed)
    module = wmdsl.compile(path, **_tiny(path, dict(parameters or {})))
    model = module.plan.model
    report = start(module, weights)
    yield from report.lines() if report else ()
    yield f"{model.name}: {sum(v.numel() for v in module.parameters()) / 1e6:.2f} M parameters"
    optimizer = torch.optim.AdamW([v for v in module.parameters() if v.requires_grad], lr=1e-4)
    losses = module.loss(random_batch(model, SIZE, seed=seed),
                         generator=torch.Generator().manual_seed(seed))  # fmt: skip
    losses["loss"].backward()
    optimizer.step()
    module.after_step()
    _require_finite("loss", losses["loss"])
    yield "loss " + "  ".join(
        f"{name} {float(value.detach()):.4g}" for name, value in losses.items()
    )
    module.eval()
    for name in model.queries:
        answer = module.query(name, random_batch(model, SIZE, name, seed),
                              generator=torch.Generator().manual_seed(seed))  # fmt: skip
        for stream, value in answer.items():
            _require_finite(f"query {name}", value)
            yield f"query {name}: {stream} {tuple(value.shape)}"
    for planner in model.planners.values():
        yield _searched(module, planner, seed)


def _searched(module: nn.Module, planner: Planner, seed: int) -> str:
    """A search towards a random goal."""
    model = module.plan.model
    batch = random_batch(model, SIZE, seed=seed)
    aims = random_batch(model, SIZE, seed=seed + 1)
    goal = {segment.stream: aims[segment.stream][:, :1] for _, segment in planner.goal}
    draws = torch.Generator().manual_seed(seed)
    found = module.search(planner.name, batch, goal, draws)
    for value in found.values():
        _require_finite(f"planner {planner.name}", value)
    return f"planner {planner.name}: score {[round(float(one), 4) for one in found['score']]}"


def _tiny(path: str | Path, parameters: dict[str, object]) -> dict[str, object]:
    """The parameters, with `size=tiny` where the spec has such a size and none was asked for."""
    from wmdsl import driver

    if "size" in parameters:
        return parameters
    trial = {**parameters, "size": "tiny"}
    has_tiny = not any(found.severity == "error" for found in driver.diagnose(path, trial))
    return trial if has_tiny else parameters


def _require_finite(what: str, value: torch.Tensor) -> None:
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise errors.RunError(
            "WM874", f"{what} is not finite on random data", what,
            "look at the scales of the streams and the time laws of the objectives",
        )  # fmt: skip
