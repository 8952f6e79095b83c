"""Meta-World 3.1.1: 50 table-top tasks at 80 Hz with scripted experts.

The simulator is used directly rather than through gymnasium, because exact snapshots and
cheap images need its model and data. That has traps: the goal is clipped to zero unless the
cached observation space is dropped, and resets ignore the seed unless `seeded_rand_vec` is
set. The policy sees hand position and gripper opening, never an object or goal position.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmdsl.data import keys
from wmdsl.environments import rendering
from wmdsl.environments.base import Environment, EnvironmentSpec, EnvironmentUnavailable

CONTROL_HZ = 80
MAX_STEPS = 500
STATE_NAMES = ("hand_x", "hand_y", "hand_z", "gripper_opening")
ACTION_NAMES = ("delta_x", "delta_y", "delta_z", "gripper")

# Camera -> (its name in the model, upside down?).
CAMERAS = {"corner": ("corner2", True), "wrist": ("gripperPOV", False)}

_RENDERERS: dict[str, rendering.Renderer] = {}

INSTRUCTIONS = {
    "assembly-v3": "put the ring on the peg",
    "basketball-v3": "put the ball in the basket",
    "bin-picking-v3": "move the cube to the other bin",
    "box-close-v3": "close the box with its lid",
    "button-press-topdown-v3": "press the button from above",
    "button-press-topdown-wall-v3": "press the button behind the wall from above",
    "button-press-v3": "press the button",
    "button-press-wall-v3": "press the button behind the wall",
    "coffee-button-v3": "press the button of the coffee machine",
    "coffee-pull-v3": "pull the mug away from the coffee machine",
    "coffee-push-v3": "push the mug under the coffee machine",
    "dial-turn-v3": "turn the dial",
    "disassemble-v3": "take the ring off the peg",
    "door-close-v3": "close the door",
    "door-lock-v3": "lock the door",
    "door-open-v3": "open the door",
    "door-unlock-v3": "unlock the door",
    "drawer-close-v3": "close the drawer",
    "drawer-open-v3": "open the drawer",
    "faucet-close-v3": "close the faucet",
    "faucet-open-v3": "open the faucet",
    "hammer-v3": "hammer the nail",
    "hand-insert-v3": "put the hand in the hole",
    "handle-press-side-v3": "press the handle down from the side",
    "handle-press-v3": "press the handle down",
    "handle-pull-side-v3": "pull the handle up from the side",
    "handle-pull-v3": "pull the handle up",
    "lever-pull-v3": "pull the lever up",
    "peg-insert-side-v3": "put the peg in the hole at the side",
    "peg-unplug-side-v3": "pull the peg out of the hole at the side",
    "pick-out-of-hole-v3": "take the puck out of the hole",
    "pick-place-v3": "lift the puck to the goal",
    "pick-place-wall-v3": "lift the puck over the wall to the goal",
    "plate-slide-back-side-v3": "slide the plate sideways out of the cabinet",
    "plate-slide-back-v3": "slide the plate out of the cabinet",
    "plate-slide-side-v3": "slide the plate sideways into the cabinet",
    "plate-slide-v3": "slide the plate into the cabinet",
    "push-back-v3": "pull the block back to the goal",
    "push-v3": "push the puck to the goal",
    "push-wall-v3": "push the block around the wall to the goal",
    "reach-v3": "reach the goal",
    "reach-wall-v3": "reach the goal behind the wall",
    "shelf-place-v3": "put the block on the shelf",
    "soccer-v3": "push the ball into the soccer goal",
    "stick-pull-v3": "pull the box with the stick",
    "stick-push-v3": "push the box with the stick",
    "sweep-into-v3": "sweep the block into the hole",
    "sweep-v3": "sweep the block off the table",
    "window-close-v3": "close the window",
    "window-open-v3": "open the window",
}


def tasks() -> tuple[str, ...]:
    """The names of all tasks."""
    return tuple(INSTRUCTIONS)


def create(task: str, supersample: int) -> MetaWorld:
    """The environment of one task of `tasks()`."""
    return MetaWorld(task, supersample)


def spec_of(task: str) -> EnvironmentSpec:
    """The facts of a task, without loading the simulator."""
    return EnvironmentSpec(
        name=f"metaworld/{task}",
        control_hz=CONTROL_HZ,
        cameras=tuple(CAMERAS),
        state_names=STATE_NAMES,
        action_names=ACTION_NAMES,
        action_low=(-1.0,) * 4,
        action_high=(1.0,) * 4,
        max_steps=MAX_STEPS,
        instruction=INSTRUCTIONS[task],
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The exact state of one environment: physics, edited geometry, and Python attributes."""

    physics: np.ndarray
    body_pos: np.ndarray
    site_pos: np.ndarray
    attributes: dict[str, Any]
    random: dict[str, Any]
    observation: np.ndarray


class MetaWorld(Environment):
    """One task; `supersample` renders at a multiple of the size and averages."""

    def __init__(self, task: str, supersample: int) -> None:
        self.spec = spec_of(task)
        self._mujoco = rendering.import_mujoco()
        self._simulator, policy = _build(task)
        self._expert = policy()
        self._supersample = supersample
        self._task = task
        model = self._simulator.model
        self._camera_ids = {name: model.camera(real).id for name, (real, _) in CAMERAS.items()}
        self._pristine_body_pos = model.body_pos.copy()
        self._pristine_site_pos = model.site_pos.copy()
        self._pristine_attributes = _attributes(self._simulator)
        self._full_observation = np.zeros(39)

    def reset(self, seed: int) -> dict[str, Any]:
        """See Environment; earlier episodes leave no trace."""
        simulator = self._simulator
        simulator.model.body_pos[:] = self._pristine_body_pos
        simulator.model.site_pos[:] = self._pristine_site_pos
        simulator.__dict__.update(copy.deepcopy(self._pristine_attributes))
        self._mujoco.mj_resetData(simulator.model, simulator.data)
        simulator.seed(seed)
        self._full_observation, _ = simulator.reset()
        return self._observation()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], bool, bool]:
        """See Environment."""
        applied = self._applied(action)
        self._full_observation, _, _, truncated, info = self._simulator.step(applied)
        return self._observation(), bool(info["success"]), bool(truncated)

    def render(self, camera: str, size: int) -> np.ndarray:
        """See Environment."""
        if camera not in CAMERAS:
            raise ValueError(f"metaworld has no camera {camera!r}; it has {', '.join(CAMERAS)}")
        factor = self._supersample
        if size < 1 or size * factor > rendering.MAX_SIZE:
            raise ValueError(
                f"image size {size} x supersample {factor} exceeds {rendering.MAX_SIZE} pixels"
            )
        simulator = self._simulator
        image = _renderer(self._task, simulator.model).render(
            simulator.model, simulator.data, self._camera_ids[camera], size * factor
        )
        upright = image[::-1, ::-1] if CAMERAS[camera][1] else image
        return rendering.average_down(upright, factor)

    def expert_action(self) -> np.ndarray:
        """See Environment."""
        with warnings.catch_warnings():
            # The experts ask for more than the range and rely on the environment to clip.
            warnings.simplefilter("ignore")
            wanted = self._expert.get_action(self._full_observation)
        return np.clip(np.asarray(wanted, dtype=np.float32), -1.0, 1.0)

    def save_state(self) -> Snapshot:
        """See Environment."""
        simulator, mujoco = self._simulator, self._mujoco
        signature = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(simulator.model, signature))
        mujoco.mj_getState(simulator.model, simulator.data, physics, signature)
        return Snapshot(
            physics,
            simulator.model.body_pos.copy(),
            simulator.model.site_pos.copy(),
            _attributes(simulator),
            copy.deepcopy(simulator.np_random.bit_generator.state),
            self._full_observation.copy(),
        )

    def restore_state(self, state: Snapshot) -> dict[str, Any]:
        """See Environment."""
        simulator, mujoco = self._simulator, self._mujoco
        signature = mujoco.mjtState.mjSTATE_INTEGRATION
        simulator.model.body_pos[:] = state.body_pos
        simulator.model.site_pos[:] = state.site_pos
        mujoco.mj_setState(simulator.model, simulator.data, state.physics, signature)
        mujoco.mj_forward(simulator.model, simulator.data)
        # The forward pass moves the warm start of the solver, which is part of the state.
        mujoco.mj_setState(simulator.model, simulator.data, state.physics, signature)
        simulator.__dict__.update(copy.deepcopy(state.attributes))
        simulator.np_random.bit_generator.state = copy.deepcopy(state.random)
        self._full_observation = state.observation.copy()
        return self._observation()

    def close(self) -> None:
        """See Environment."""
        self._simulator.close()

    def _applied(self, action: np.ndarray) -> np.ndarray:
        action = np.asarray(action, dtype=np.float32)
        if action.shape != (self.spec.action_dim,):
            raise ValueError(
                f"{self.spec.name} takes {self.spec.action_dim} action values "
                f"({', '.join(ACTION_NAMES)}), got shape {action.shape}"
            )
        if not np.isfinite(action).all():
            raise ValueError(f"action {action.tolist()} for {self.spec.name} is not finite")
        return np.clip(action, -1.0, 1.0)

    def _observation(self) -> dict[str, Any]:
        return {
            keys.STATE: self._full_observation[:4].astype(np.float32),
            keys.TASK: self.spec.instruction,
        }


def _build(task: str) -> tuple[Any, Any]:
    """The simulator of a task with the goal in its observation, and its expert's class."""
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
        from metaworld.policies import ENV_POLICY_MAP
    except ImportError as error:
        raise EnvironmentUnavailable(
            f"Meta-World cannot be imported: {error}",
            "metaworld",
            "pip install 'wmdsl[metaworld]'",
        ) from error
    simulator = ALL_V3_ENVIRONMENTS[task]()
    simulator._partially_observable = False
    del simulator.sawyer_observation_space
    simulator._freeze_rand_vec = False
    simulator.seeded_rand_vec = True
    simulator._set_task_called = True
    return simulator, ENV_POLICY_MAP[task]


def _renderer(task: str, model: Any) -> rendering.Renderer:
    """One renderer a task and process: its meshes fit every environment of the task."""
    if task not in _RENDERERS:
        _RENDERERS[task] = rendering.Renderer(model)
    return _RENDERERS[task]


def _attributes(simulator: Any) -> dict[str, Any]:
    """Copies of the plain values among the attributes (targets, counters, last observations)."""
    plain = (np.ndarray, np.generic, bool, int, float, str, type(None), list, tuple)
    return {
        name: copy.deepcopy(value)
        for name, value in vars(simulator).items()
        if isinstance(value, plain)
    }
