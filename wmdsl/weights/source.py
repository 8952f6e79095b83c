"""Where checkpoints lie: a folder by hub id, or the hub's local cache and network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from wmdsl.weights import errors
from wmdsl.weights.library import imported
from wmdsl.weights.named import Named

# Text that describes a checkpoint; its weights come from safetensors alone, and none of its code.
DESCRIPTIONS = ("*.json", "*.txt", "*.model")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One model of a checkpoint: the folder of its weights and its `config.json`."""

    folder: Path
    config: Mapping[str, object]

    @property
    def kind(self) -> str:
        """`T5`-like model type of transformers, or the class of diffusers."""
        return str(self.config.get("model_type") or self.config.get("_class_name") or "unknown")


def find(named: Named, source: str, component: str) -> Checkpoint:
    """The checkpoint of a part; `component` is its folder where the hub id is a whole pipeline.

    Raises WeightsError where there is none.
    """
    hub, _, subfolder = named.hub.partition(":")
    component = subfolder or component
    root = _downloaded(named, hub, component) if source == "hub" else Path(source) / hub
    inner = root / component
    folder = inner if component and (inner / "config.json").is_file() else root
    file = folder / "config.json"
    if not file.is_file():
        raise errors.absent(named, root, "there is no config.json of transformers or diffusers")
    try:
        return Checkpoint(folder, json.loads(file.read_text(encoding="utf-8")))
    except ValueError:
        raise errors.absent(named, file, "it is no JSON") from None


def _downloaded(named: Named, hub: str, component: str) -> Path:
    """The snapshot of a repository: a pipeline's one component, else its safetensors."""
    snapshot_download = imported("huggingface_hub").snapshot_download
    faults = imported("huggingface_hub.errors")
    texts = [*DESCRIPTIONS, *(f"*/{pattern}" for pattern in DESCRIPTIONS)]
    try:
        root = Path(snapshot_download(hub, allow_patterns=texts))
        piece = component and (root / component / "config.json").is_file()
        weights = f"{component}/*.safetensors" if piece else "*.safetensors"
        return Path(snapshot_download(hub, allow_patterns=[*texts, weights]))
    except (faults.HfHubHTTPError, OSError, ValueError) as reason:
        first = str(reason).strip().splitlines()[0]
        raise errors.absent(named, f"hub:{hub}", first) from None


def tensors(named: Named, checkpoint: Checkpoint, prefix: str = "") -> dict[str, Tensor]:
    """The weights of a checkpoint whose names begin with `prefix`, by their whole names."""
    from safetensors import safe_open

    found = {}
    for file in _files(named, checkpoint):
        with safe_open(file, "pt") as stored:
            names = (name for name in stored.keys() if name.startswith(prefix))  # noqa: SIM118
            found |= {name: stored.get_tensor(name) for name in names}
    return found


def names_of(named: Named, checkpoint: Checkpoint) -> list[str]:
    """The names of all weights of a checkpoint, none of which is read."""
    from safetensors import safe_open

    found: list[str] = []
    for file in _files(named, checkpoint):
        with safe_open(file, "pt") as stored:
            found += stored.keys()
    return found


def _files(named: Named, checkpoint: Checkpoint) -> list[Path]:
    files = sorted(checkpoint.folder.glob("*.safetensors"))
    if not files:
        raise errors.absent(named, checkpoint.folder, "it holds no safetensors")
    return files
