"""Small specs for tests of the plan: one arm, one camera, one instruction."""

from pathlib import Path

from tests.rules import ROOT
from wmdsl import driver
from wmdsl.diagnostics import Diagnostics
from wmdsl.plan.nodes import Plan, QueryPlan
from wmdsl.source import Source

PARADIGMS = ROOT / "examples" / "paradigms"

ARM = """
  stream camera: video[3, 16, 16] at 10 Hz { now 1 frame; future 2 frames }
  stream joints: proprio[4] at 20 Hz { now 1 step }
  stream task: language[16]
  stream action: action[4] at 20 Hz { future 4 steps }
  codec words: bytes
  codec eyes: conv { channels 8, 16 }
  codec patches: patch { size 8x8 }
"""
SEEN = "task, camera.now, joints"
ONE_TRUNK = """
  trunk all: dit {
    layers 2; width 32; heads 2x16
    tokens words(task), eyes(camera.now), joints, patches(camera.future), action
  }
"""
TWO_TRUNKS = """
  trunk seer: dit {
    layers 3; width 32; heads 2x16; tokens words(task), eyes(camera.now), patches(camera.future)
  }
"""
POLICY = "query policy: action | camera.now, joints, task"


def compiled(*parts: str) -> tuple[Plan | None, Diagnostics]:
    """The plan of `model m { ARM, parts }`, with the diagnostics of all stages."""
    text = "\n".join(["edition 2026", "model m {", ARM, *parts, "}", ""])
    diagnostics = Diagnostics()
    seen: dict[str, Plan] = {}
    options = driver.Options(observe=seen.__setitem__)
    found = driver.run(Source("m.wm", text), options, diagnostics)
    return found or seen.get("plan"), diagnostics


def plan_of(*parts: str) -> Plan:
    """The plan of a spec that must be clean."""
    found, diagnostics = compiled(*parts)
    assert not diagnostics.has_errors, [entry.message for entry in diagnostics]
    return found


def example(path: str | Path, **parameters: object) -> Plan:
    """The plan of an example, by its path below `examples`."""
    return driver.front(str(Path("examples") / path), parameters)


def dropped(query: QueryPlan) -> dict[str, str]:
    return {entry.what: entry.how for entry in query.dropped}


def errors_of(*parts: str) -> list[tuple[str, str]]:
    """(code, message) of every error of a spec."""
    _, diagnostics = compiled(*parts)
    return [(entry.code, entry.message) for entry in diagnostics if entry.severity == "error"]
