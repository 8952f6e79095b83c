"""A small spec that tests vary, and its typed model."""

from pathlib import Path

from wmdsl.check import check
from wmdsl.check.model import Model
from wmdsl.diagnostics import Diagnostics
from wmdsl.resolve import resolve
from wmdsl.source import Source
from wmdsl.syntax import parse

EXAMPLES = Path(__file__).parents[3] / "examples"

POLICY = """edition 2026
model policy {
  stream camera: video[3, 64, 48] at 20 Hz { now 2 frames; future 4 frames }
  stream text: language[32]
  stream state: proprio[5] at 80 Hz { past 3 steps; now 1 step }
  stream action: action[7] at 80 Hz { future 16 steps }
  codec eyes: conv { channels 8, 16, 24 }
  codec patches: patch { size 16x8 }
  codec words: bytes { width 48; tokens 2 }
  trunk doer: dit {
    layers 2; width 64; heads 2x32
    tokens words(text), eyes(camera.now), state, patches(camera.future), action
  }
  generate foresight: camera.future by flow
  generate act: action by flow
  query policy: action | camera.now, text, state
}
"""


def model_of(text: str, name: str = "policy.wm") -> Model:
    """The model of a spec without mistakes."""
    diagnostics = Diagnostics()
    model = check(resolve(parse(Source(name, text), diagnostics), {}, diagnostics), diagnostics)
    assert [(entry.code, entry.message) for entry in diagnostics] == []
    return model


def example(path: str) -> Model:
    """The model of a file under `examples`."""
    return model_of((EXAMPLES / path).read_text(encoding="utf-8"), str(EXAMPLES / path))
