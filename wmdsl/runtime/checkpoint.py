"""Checkpoints: tensors in safetensors, the rest in JSON; loading one never executes code."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wmdsl.runtime import errors
from wmdsl.runtime.run import RunDirectory, replace_folder, write_json

KEPT = 2


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors whole or not at all; no space raises RunError and leaves the old file."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, draft
        )
        with open(draft, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except (OSError, SafetensorError) as reason:
        draft.unlink(missing_ok=True)
        cause = reason if isinstance(reason, OSError) else OSError(str(reason))
        raise errors.unwritable(path, cause) from reason


def load_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise errors.missing(path, "the run has no weights yet; `wmdsl train` makes them")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as reason:
        raise errors.RunError(
            "WM873",
            f"cannot be read: {reason}",
            path,
            "the file is truncated or no safetensors file",
        ) from None


def load_into(module: nn.Module, path: Path) -> None:
    """Load weights strictly; every name and shape that does not fit is reported at once."""
    tensors, own = load_tensors(path), module.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - own.keys())
    shapes = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(own[name].shape)}"
        for name in sorted(own.keys() & tensors.keys())
        if tensors[name].shape != own[name].shape
    ]
    if missing or surplus or shapes:
        raise errors.misfit(path, missing, surplus, shapes)
    module.load_state_dict(tensors)


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: dict[Tensor, str]
) -> dict[str, Tensor]:
    """The optimizer's state by parameter name, as `exp_avg/<name>`."""
    return {
        f"{key}/{names[parameter]}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: dict[Tensor, str], tensors: dict[str, Tensor]
) -> None:
    by_name = {name: parameter for parameter, name in names.items()}
    for path, value in tensors.items():
        key, name = path.split("/", 1)
        parameter = by_name[name]
        like = value if key == "step" else parameter
        optimizer.state[parameter][key] = torch.empty_like(like).copy_(value)


def save_checkpoint(
    run: RunDirectory,
    step: int,
    model: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    random_states: dict[str, Tensor],
    position: dict[str, object],
) -> None:
    """One folder with all that a bitwise resume needs; older ones beyond the last two go."""
    draft = run.checkpoints / f".step-{step:06d}"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    except OSError as reason:
        raise errors.unwritable(draft, reason) from reason
    names = {parameter: name for name, parameter in model.named_parameters()}
    save_tensors(draft / "model.safetensors", dict(model.state_dict()))
    save_tensors(draft / "average.safetensors", average)
    save_tensors(draft / "optimizer.safetensors", optimizer_tensors(optimizer, names))
    save_tensors(draft / "random.safetensors", random_states)
    write_json(draft / "position.json", {"step": step, **position})
    replace_folder(draft, run.checkpoints / f"step-{step:06d}")
    for old in run.checkpoint_steps()[:-KEPT]:
        shutil.rmtree(run.checkpoints / f"step-{old:06d}", ignore_errors=True)


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, object]]:
    """Restore model and optimizer; return the averaged weights, random states and position."""
    load_into(model, folder / "model.safetensors")
    names = {parameter: name for name, parameter in model.named_parameters()}
    restore_optimizer(optimizer, names, load_tensors(folder / "optimizer.safetensors"))
    return (
        load_tensors(folder / "average.safetensors"),
        load_tensors(folder / "random.safetensors"),
        load_position(folder),
    )


def load_position(folder: Path) -> dict[str, object]:
    """Step, stage and place in the data of a checkpoint."""
    path = folder / "position.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise errors.broken(path, "it is missing, or no JSON any more") from None
