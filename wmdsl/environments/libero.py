"""LIBERO: 130 language-conditioned kitchen and table tasks at 20 Hz, by its published protocol.

OSC_POSE deltas, two cameras rotated by half a turn as the published policies see them, the
benchmark's own initial states, ten settling steps, success by `check_success` at any step. The
package fetches its assets from a hub at first use; where they are missing this adapter refuses.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from wmdsl.data import keys
from wmdsl.environments.base import Environment, EnvironmentSpec, EnvironmentUnavailable

CONTROL_HZ = 20
SETTLING_STEPS = 10
# Steps of the longest demonstration of a suite, rounded up; the field evaluates with these.
MAX_STEPS = {"spatial": 280, "object": 280, "goal": 300, "10": 520, "90": 400}
TASKS_OF_SUITE = {"spatial": 10, "object": 10, "goal": 10, "10": 10, "90": 90}
CAMERAS = {"corner": "agentview", "wrist": "robot0_eye_in_hand"}
STATE_NAMES = (
    *(f"hand_{axis}" for axis in "xyz"),
    *(f"hand_rotation_{axis}" for axis in "xyz"),
    "finger_left",
    "finger_right",
)
ACTION_NAMES = (
    *(f"delta_{axis}" for axis in "xyz"),
    *(f"delta_rotation_{axis}" for axis in "xyz"),
    "gripper",
)
_REST = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)
_INSTALL = (
    "pip install 'wmdsl[libero]' with torch and torchvision pinned in a constraints file, "
    "in an environment of its own"
)


def tasks() -> tuple[str, ...]:
    """Names `<suite>-<number>`: spatial-0 .. spatial-9, object, goal, 10, 90-0 .. 90-89."""
    return tuple(
        f"{suite}-{number}" for suite, count in TASKS_OF_SUITE.items() for number in range(count)
    )


def create(task: str, supersample: int) -> Libero:
    """The environment of one task of `tasks()`."""
    return Libero(task, supersample)


def spec_of(task: str) -> EnvironmentSpec:
    """The facts of a task; the instruction is read from the package."""
    suite, number = _parts(task)
    return EnvironmentSpec(
        name=f"libero/{task}",
        control_hz=CONTROL_HZ,
        cameras=tuple(CAMERAS),
        state_names=STATE_NAMES,
        action_names=ACTION_NAMES,
        action_low=(-1.0,) * len(ACTION_NAMES),
        action_high=(1.0,) * len(ACTION_NAMES),
        max_steps=MAX_STEPS[suite],
        instruction=_benchmark(suite).get_task(number).language,
    )


class Libero(Environment):
    """One task. The seed chooses among the benchmark's initial states (mostly 50)."""

    def __init__(self, task: str, supersample: int) -> None:
        self.spec = spec_of(task)
        suite, number = _parts(task)
        self._supersample = supersample
        self._states = _benchmark(suite).get_task_init_states(number)
        self._simulator = _build(_benchmark(suite).get_task_bddl_file_path(number))
        self._steps = 0

    def reset(self, seed: int) -> dict[str, Any]:
        """See Environment. Seeds of one purpose that follow each other take the states in turn."""
        self._simulator.reset()
        # Purposes interleave in the seeds (see `seeds`): halving makes them consecutive.
        raw = self._simulator.set_init_state(self._states[seed // 2 % len(self._states)])
        for _ in range(SETTLING_STEPS):
            raw, *_ = self._simulator.step(_REST)
        self._steps = 0
        return self._observation(raw)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], bool, bool]:
        """See Environment."""
        action = np.asarray(action, dtype=np.float32)
        if action.shape != (len(ACTION_NAMES),) or not np.isfinite(action).all():
            raise ValueError(f"{self.spec.name} takes 7 finite action values, got {action}")
        raw, *_ = self._simulator.step(np.clip(action, -1.0, 1.0))
        self._steps += 1
        success = bool(self._simulator.check_success())
        return self._observation(raw), success, self._steps >= self.spec.max_steps

    def render(self, camera: str, size: int) -> np.ndarray:
        """See Environment."""
        from wmdsl.environments.rendering import average_down

        if camera not in CAMERAS:
            raise ValueError(f"libero has no camera {camera!r}; it has {', '.join(CAMERAS)}")
        side = size * self._supersample
        image = self._simulator.sim.render(side, side, camera_name=CAMERAS[camera])
        # Rows come bottom first; published data and policies mirror the columns as well.
        return average_down(image[::-1, ::-1], self._supersample)

    def expert_action(self) -> np.ndarray:
        """LIBERO has no scripted expert."""
        raise EnvironmentUnavailable(
            "LIBERO ships no scripted expert",
            self.spec.name,
            "train on its published demonstrations in LeRobot's format",
        )

    def save_state(self) -> Any:
        """LIBERO's controllers keep state that cannot be saved exactly."""
        raise EnvironmentUnavailable(
            "LIBERO has no exact snapshots", self.spec.name, "use a metaworld environment"
        )

    def restore_state(self, state: Any) -> dict[str, Any]:
        """See save_state."""
        return self.save_state()

    def close(self) -> None:
        """See Environment."""
        self._simulator.close()

    def _observation(self, raw: dict[str, np.ndarray]) -> dict[str, Any]:
        state = np.concatenate(
            [
                raw["robot0_eef_pos"],
                rotation_vector(raw["robot0_eef_quat"]),
                raw["robot0_gripper_qpos"],
            ]
        )
        return {keys.STATE: state.astype(np.float32), keys.TASK: self.spec.instruction}


def rotation_vector(quaternion: np.ndarray) -> np.ndarray:
    """Axis times angle in radians, float64 [3], of a unit quaternion (x, y, z, w)."""
    axis, real = quaternion[:3], np.clip(quaternion[3], -1.0, 1.0)
    length = np.sqrt(1.0 - real * real)
    if length < 1e-8:
        return np.zeros(3)
    return axis / length * (2.0 * np.arccos(real))


def _parts(task: str) -> tuple[str, int]:
    suite, _, number = task.rpartition("-")
    return suite, int(number)


@cache
def _benchmark(suite: str) -> Any:
    """A suite of the installed package, in its natural order."""
    _write_default_config()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            from libero.libero import benchmark

            return benchmark.get_benchmark(f"libero_{suite}")()
    except ImportError as error:
        raise EnvironmentUnavailable(
            f"LIBERO cannot be imported: {error}", "libero", _INSTALL
        ) from error


def _write_default_config() -> None:
    """Write the configuration that the package's first import would ask for on standard input."""
    folder = Path(os.environ.get("LIBERO_CONFIG_PATH", Path.home() / ".libero"))
    found = importlib.util.find_spec("libero")
    if found is None or (folder / "config.yaml").exists():
        return
    package = Path(next(iter(found.submodule_search_locations)))
    root = package / "libero"
    paths = {
        "benchmark_root": root,
        "bddl_files": root / "bddl_files",
        "init_states": root / "init_files",
        "datasets": package / "datasets",
        "assets": root / "assets",
    }
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{name}: {path}\n" for name, path in paths.items())
    (folder / "config.yaml").write_text(lines, encoding="utf-8")


def _build(bddl_file: str) -> Any:
    """The simulator of one task; images are rendered on request only."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            from libero.libero import get_assets_path
            from libero.libero.envs import OffScreenRenderEnv

            _check_assets(Path(get_assets_path()))
            return OffScreenRenderEnv(
                bddl_file_name=bddl_file, control_freq=CONTROL_HZ, use_camera_obs=False
            )
    except ImportError as error:
        raise EnvironmentUnavailable(
            f"LIBERO cannot be imported: {error}", "libero", _INSTALL
        ) from error


def _check_assets(assets: Path) -> None:
    if not assets.is_dir():
        raise EnvironmentUnavailable(
            "LIBERO's assets (meshes and textures) are missing",
            str(assets),
            "the package fetches them from the Hugging Face hub at first use: run it once where "
            "the hub can be reached, or copy the folder there",
        )
