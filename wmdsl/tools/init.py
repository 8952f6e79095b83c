"""`wmdsl init`: a spec that fits a data set, as a place to begin."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from wmdsl.data import keys
from wmdsl.data.lerobot import DatasetInfo, Feature

EXAMPLE = "wmdsl init --from data/arm -o mine.wm"
CHUNK_SECONDS = 0.2


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="source", required=True, type=Path, metavar="DATASET",
                        help="a LeRobot v3 data set; only its meta/ is read")  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, help="file to write; standard output if absent")


def run(options: argparse.Namespace) -> int:
    text = init(options.source)
    if options.out is None:
        sys.stdout.write(text)
    elif options.out.exists():
        print(f"error: {options.out} exists; name another file with -o", file=sys.stderr)
        return 2
    else:
        options.out.write_text(text, encoding="utf-8")
        print(f"{options.out}: next, `wmdsl check {options.out} --data {options.source}`")
    return 0


def init(root: str | Path) -> str:
    """The text of a spec: one stream per column, and a first policy over them.

    The policy imagines the first camera beside acting; from there the user changes the coupling.
    """
    info = DatasetInfo.read(root)
    return "\n".join(_lines(info)) + "\n"


def _lines(info: DatasetInfo) -> Iterator[str]:
    cameras = [feature for feature in info.features.values() if feature.is_camera]
    chunk = max(1, round(info.fps * CHUNK_SECONDS))
    name = re.sub(r"\W", "_", Path(info.root).resolve().name)
    yield "edition 2026"
    yield ""
    yield f'model {name if name[:1].isalpha() else "policy"} "made by `wmdsl init`" {{'
    for at, camera in enumerate(cameras):
        yield from _camera(info, camera, foresees=at == 0)
    yield from _vector(info, keys.STATE, "proprio", "now 1 step")
    yield f'  stream instruction: language[64] {{ key "{keys.TASK}" }}'
    yield from _vector(info, keys.ACTION, "action", f"future {chunk} steps")
    yield ""
    yield "  codec words: bytes"
    yield from (f"  codec {_name(camera)}_eyes: conv" for camera in cameras)
    if cameras:
        yield f"  codec patches: patch {{ size {_patch(cameras[0])} }}"
    yield ""
    yield from _policy(info, cameras)
    yield "}"


def _camera(info: DatasetInfo, camera: Feature, foresees: bool) -> Iterator[str]:
    sizes = ", ".join(str(size) for size in camera.image_shape)
    rate = camera.rate_hz or info.fps
    yield f"  stream {_name(camera)}: video[{sizes}] at {rate:g} Hz {{"
    yield "    now 1 frame"
    if foresees:
        yield f"    future {max(1, round(rate * CHUNK_SECONDS))} frames"
    yield f'    key "{camera.key}"'
    yield "  }"


def _vector(info: DatasetInfo, key: str, kind: str, segment: str) -> Iterator[str]:
    if key in info.features:
        size = info.features[key].shape[0]
        yield f'  stream {kind}: {kind}[{size}] at {info.fps:g} Hz {{ {segment}; key "{key}" }}'


def _policy(info: DatasetInfo, cameras: list[Feature]) -> Iterator[str]:
    now = [f"{_name(camera)}.now" for camera in cameras]
    eyes = [f"{_name(camera)}_eyes({_name(camera)}.now)" for camera in cameras]
    state = ["proprio"] if keys.STATE in info.features else []
    future = [f"{_name(cameras[0])}.future"] if cameras else []
    seen = ", ".join(["instruction", *now, *state])
    tokens = ["words(instruction)", *eyes, *state, *(f"patches({name})" for name in future)]
    yield "  trunk backbone: dit {"
    yield "    layers 4; width 192; heads 6x32"
    yield f"    tokens {', '.join([*tokens, 'action'])}"
    yield "  }"
    yield "  attend {"
    yield f"    {seen} sees {seen}"
    yield from (f"    {name} sees {seen}, {name}, action" for name in future)
    yield f"    action sees {', '.join([seen, *future, 'action'])}"
    yield "  }"
    yield from (f"  generate foresight: {name} by flow {{ weight 0.2 }}" for name in future)
    yield "  generate act: action by flow"
    yield f"  query policy: action | {seen} {{ steps 5 }}"


def _name(camera: Feature) -> str:
    return re.sub(r"\W", "_", camera.key.removeprefix(keys.IMAGE_PREFIX))


def _patch(camera: Feature) -> str:
    """Patches that divide the frame and leave about sixteen of them."""
    _, height, width = camera.image_shape
    return f"{_divisor(height)}x{_divisor(width)}"


def _divisor(size: int) -> int:
    return next(part for part in range(max(1, size // 4), 0, -1) if size % part == 0)
