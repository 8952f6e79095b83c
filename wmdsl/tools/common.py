"""What the verbs share: `-P name=value`, the model behind a path, showing diagnostics."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from wmdsl.diagnostics import Diagnostic


def parameters_argument(parser: argparse.ArgumentParser) -> None:
    """`-P name=value`, as often as wanted; the values stand in `options.parameters`."""
    parser.add_argument(
        "-P", dest="parameters", metavar="NAME=VALUE", action=_Parameter, default={},
        help="a value for a parameter of the spec, as -P size=tiny",
    )  # fmt: skip


def weights_argument(parser: argparse.ArgumentParser) -> None:
    """`--weights`: what becomes of the pretrained weights that a spec names."""
    parser.add_argument(
        "--weights", metavar="random|hub|FOLDER",
        help="where the pretrained weights come from that the spec names: nowhere, the hub, or a "
        "folder with a checkpoint for each hub id; needed where it names any",
    )  # fmt: skip


def device_argument(parser: argparse.ArgumentParser) -> None:
    """`--device`: where the model computes."""
    parser.add_argument("--device", default="cpu", help="cpu or cuda; cuda:1 for the second GPU")


class _Parameter(argparse.Action):
    """Collects `name=value` into a dictionary."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:  # type: ignore[no-untyped-def]
        name, equals, value = str(values).partition("=")
        if not equals or not name or not value:
            parser.error(f"argument {option_string}: `{values}` is not {self.metavar}")
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), name: value})


def spec_path(text: str) -> tuple[str, str | None]:
    """`file.wm:model` names a model of a file; without a name the file's last model is meant."""
    path, colon, model = text.rpartition(":")
    if colon and path.endswith(".wm") and model.isidentifier():
        return path, model
    return text, None


def swap_argument(parser: argparse.ArgumentParser) -> None:
    """`--swap ENV=OTHER`, as often as wanted; the pairs stand in `options.swap`."""
    parser.add_argument(
        "--swap", metavar="ENV=OTHER", action=_Parameter, default={},
        help="also give ENV the instruction of OTHER",
    )  # fmt: skip


def expand(paths: Iterable[str]) -> list[str]:
    """Folders stand for the .wm files in them; an empty name stands for nothing, not for `.`."""
    found: list[str] = []
    for path in paths:
        folder = Path(path)
        inside = sorted(map(str, folder.rglob("*.wm"))) if path and folder.is_dir() else []
        found += inside or [path]
    return found


def show(diagnostics: Iterable[Diagnostic], stream: TextIO | None = None) -> None:
    """Diagnostics for people, coloured where the stream is a terminal and NO_COLOR is not set."""
    from wmdsl.diagnostics.render import to_text

    out = stream or sys.stderr
    out.write(to_text(diagnostics, colour=_coloured(out)))


def _coloured(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
