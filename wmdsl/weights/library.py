"""Classes of transformers and diffusers, imported when a checkpoint needs one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import nn

from wmdsl.weights import errors
from wmdsl.weights.named import Named
from wmdsl.weights.report import PartReport

if TYPE_CHECKING:
    from wmdsl.weights.source import Checkpoint


class Pretrained(nn.Module):
    """A library's model behind the methods of our own; a frozen one keeps out of training mode."""

    frozen = False

    def train(self, mode: bool = True) -> Pretrained:
        return super().train(mode and not self.frozen)


def imported(package: str) -> Any:
    """A package of the extra; WeightsError where it is not installed."""
    try:
        return import_module(package)
    except ImportError:
        raise errors.extra_missing(package.partition(".")[0]) from None


def model_of(
    named: Named, checkpoint: Checkpoint, package: str, classes: Mapping[str, str]
) -> tuple[Any, PartReport]:
    """The library's model of a checkpoint and what loading it used.

    Raises WeightsError where the class has no loader here, or lacks weights.
    """
    if checkpoint.kind not in classes:
        raise errors.no_loader(named, checkpoint.kind, tuple(classes))
    load = getattr(imported(package), classes[checkpoint.kind]).from_pretrained
    try:
        model, info = load(
            str(checkpoint.folder), use_safetensors=True, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError) as reason:
        raise errors.absent(named, checkpoint.folder, str(reason).strip().splitlines()[0]) from None
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise errors.misfit(named, [f"the checkpoint lacks {name}" for name in missing])
    used = tuple(sorted(model.state_dict()))
    unused = tuple(sorted(info["unexpected_keys"]))
    return model, PartReport(named.title, named.hub, used, (), unused)


def size(config: Any, *names: str) -> Any:
    """The first of these entries that a config has; configs of several models nest them."""
    for name in names:
        value = getattr(config, name, None)
        if value is not None:
            return value
    return None
