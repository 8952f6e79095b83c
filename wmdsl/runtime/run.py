"""The run directory: what a training leaves behind, written so that no kill can spoil it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wmdsl.runtime import errors


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths of one run and the atomic ways to fill them."""

    path: Path

    @property
    def spec(self) -> Path:
        return self.path / "model.wm"

    @property
    def source(self) -> Path:
        return self.path / "model.py"

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def statistics(self) -> Path:
        return self.path / "stats.json"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def training(self) -> Path:
        return self.path / "train.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.path / "eval.json"

    @property
    def faithful(self) -> Path:
        return self.path / "faithful.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint_steps(self) -> list[int]:
        """Steps of all whole checkpoints, ascending."""
        folders = self.checkpoints.glob("step-*") if self.checkpoints.is_dir() else ()
        return sorted(int(folder.name.removeprefix("step-")) for folder in folders)

    def read_json(self, path: Path) -> dict:
        """The JSON of a file in this run; raises RunError where it is missing or broken."""
        if not path.is_file():
            raise errors.missing(path, f"{self.path} is no finished run; `wmdsl train` makes one")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise errors.broken(path, "it is broken; restore it, or train again") from None

    def read_text(self, path: Path) -> str:
        if not path.is_file():
            raise errors.missing(path, f"{self.path} is no run; `wmdsl train` makes one")
        return path.read_text(encoding="utf-8")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(draft, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except OSError as reason:
        draft.unlink(missing_ok=True)
        raise errors.unwritable(path, reason) from reason


def write_json(path: Path, value: Mapping[str, object]) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=False) + "\n")


def replace_folder(draft: Path, final: Path) -> None:
    """Put a finished folder in its place; the old one goes only when the new one stands."""
    if final.exists():
        old = final.with_name(f".{final.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(final, old)
        os.replace(draft, final)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(draft, final)
