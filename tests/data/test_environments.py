"""Simulators: exact, seeded, and clear about what is missing."""

import copy
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from wmdsl.data import keys
from wmdsl.environments import (
    EnvironmentUnavailable,
    UnknownEnvironment,
    make,
    meshes,
    names,
    rendering,
    spec,
)
from wmdsl.environments.metaworld import ACTION_NAMES, tasks
from wmdsl.environments.rendering import average_down
from wmdsl.environments.seeds import Purpose, episode_seed

PUSH = "metaworld/push-v3"


@pytest.fixture(scope="module")
def push():
    environment = make(PUSH)
    yield environment
    environment.close()


def roll(environment, seed, steps=25):
    """Everything the simulator tells along an expert's path."""
    environment.reset(seed)
    path = [environment.save_state().physics]
    for _ in range(steps):
        environment.step(environment.expert_action())
        path.append(environment.save_state().physics)
    return np.stack(path)


def test_two_processes_with_one_seed_see_the_same(push):
    code = (
        "import hashlib, sys; sys.path.insert(0, '.');"
        "from tests.data.test_environments import digest; from wmdsl.environments import make;"
        f"print(digest(make({PUSH!r})))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split()[-1] == digest(push)


def digest(environment):
    """A hash of states and images along a path."""
    found = hashlib.sha256(roll(environment, 5).tobytes())
    for camera in environment.spec.cameras:
        found.update(environment.render(camera, 64).tobytes())
    return found.hexdigest()


def test_the_seed_alone_decides_an_episode(push):
    first = roll(push, 7)
    assert not np.array_equal(first, roll(push, 8))
    assert np.array_equal(first, roll(push, 7))


def test_a_restored_state_continues_bitwise(push):
    push.reset(3)
    for _ in range(30):
        push.step(push.expert_action())
    state = push.save_state()
    actions, path, images = [], [], []
    for _ in range(20):
        actions.append(push.expert_action())
        observation, _, _ = push.step(actions[-1])
        path.append(observation[keys.STATE])
        images.append(push.render("wrist", 32))
    push.restore_state(state)
    for action in actions:
        push.step(-action)
    assert np.abs(push.restore_state(state)[keys.STATE] - path[0]).max() < 0.1
    for action, seen, image in zip(actions, path, images, strict=True):
        observation, _, _ = push.step(action)
        assert np.array_equal(observation[keys.STATE], seen)
        assert np.array_equal(push.render("wrist", 32), image)


@pytest.mark.slow
@pytest.mark.parametrize("task", tasks())
def test_every_task_resets_and_restores_exactly(task):
    used, fresh = make(f"metaworld/{task}"), make(f"metaworld/{task}")
    roll(used, 1)
    assert np.array_equal(roll(used, 2), roll(fresh, 2))
    state = used.save_state()
    ahead = [used.expert_action() for _ in range(1)]
    before = [used.step(action)[0][keys.STATE] for action in ahead * 20]
    used.restore_state(state)
    after = [used.step(action)[0][keys.STATE] for action in ahead * 20]
    assert np.array_equal(before, after)


@pytest.mark.slow
def test_the_experts_succeed():
    def succeeds(environment, seed):
        environment.reset(seed)
        return any(environment.step(environment.expert_action())[1] for _ in range(300))

    for task in ("drawer-open-v3", "button-press-topdown-v3", "push-v3", "faucet-close-v3"):
        environment = make(f"metaworld/{task}")
        assert sum(succeeds(environment, seed) for seed in range(10)) >= 9


def test_the_policy_is_not_told_where_things_are(push):
    first, second = push.reset(1), push.reset(2)
    assert set(first) == {keys.STATE, keys.TASK}
    assert first[keys.STATE].shape == (4,)
    assert np.abs(first[keys.STATE] - second[keys.STATE]).max() < 1e-3


def test_the_goal_shows_in_the_image_and_the_hand_does_not_change_it(push):
    push.reset(1)
    first = push.render("corner", 64)
    push.reset(2)
    second = push.render("corner", 64)
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    changed = (first != second).any(-1).mean()
    assert 0.0005 < changed < 0.05


def test_the_corner_camera_is_upright(push):
    """The floor is light grey below, the sky black above."""
    push.reset(1)
    image = push.render("corner", 64)
    assert image[:8].mean() < 20
    assert image[-16:].mean() > 60


def test_actions_are_clipped_as_the_simulator_clips_them(push):
    push.reset(4)
    far = push.step(np.array([5.0, 0, 0, 9.0], np.float32))[0][keys.STATE]
    push.reset(4)
    full = push.step(np.array([1.0, 0, 0, 1.0], np.float32))[0][keys.STATE]
    assert np.array_equal(far, full)
    assert np.abs(push.expert_action()).max() <= 1


@pytest.mark.parametrize(
    ("action", "message"), [(np.zeros(7), "4 action values"), (np.full(4, np.nan), "not finite")]
)
def test_bad_actions_are_refused(push, action, message):
    push.reset(1)
    with pytest.raises(ValueError, match=message):
        push.step(action)


def test_unknown_cameras_and_sizes_are_refused(push):
    push.reset(1)
    with pytest.raises(ValueError, match="corner, wrist"):
        push.render("side", 64)
    with pytest.raises(ValueError, match="exceeds"):
        push.render("corner", 4096)


def test_coarse_meshes_look_the_same(push, monkeypatch):
    """Against the full meshes: below half a grey level on average, with a third of the faces."""
    model, data = push._simulator.model, push._simulator.data
    push.reset(1)
    coarse = meshes.coarse_copy(model)
    assert coarse.mesh_facenum.sum() < model.mesh_facenum.sum() / 3
    images = [push.render(camera, 64) for camera in ("corner", "wrist")]
    monkeypatch.setattr(rendering, "coarse_copy", copy.deepcopy)
    full = rendering.Renderer(model)
    for image, camera, flip in zip(images, ("corner", "wrist"), (-1, 1), strict=True):
        sharp = full.render(model, data, push._camera_ids[camera], 128)[::flip, ::flip]
        difference = np.abs(average_down(sharp, 2).astype(int) - image)
        assert difference.mean() < 0.5
        assert (difference.max(-1) > 16).mean() < 0.02
    full.close()


def test_supersampling_averages():
    sharp = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    found = average_down(sharp, 2)
    expected = sharp.reshape(2, 2, 2, 2, 3).astype(float).mean((1, 3))
    assert np.abs(found - expected).max() <= 0.5
    assert average_down(np.full((6, 6, 3), 255, np.uint8), 3).min() == 255


def test_a_spec_is_known_without_the_simulator():
    code = (
        "import sys; from wmdsl.environments import spec; s = spec('metaworld/faucet-open-v3');"
        "print(s.instruction, s.control_hz, s.max_steps, s.action_dim,"
        "[m for m in ('mujoco', 'metaworld', 'torch') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "open the faucet 80 500 4 []"
    assert spec(PUSH).action_names == ACTION_NAMES


def test_every_task_has_its_own_instruction():
    texts = [spec(f"metaworld/{task}").instruction for task in tasks()]
    assert len(texts) == len(set(texts)) == 50
    assert max(len(text.encode()) for text in texts) <= 48


def test_names_of_environments():
    assert names("a/b, c/d,a/b") == ("a/b", "c/d")
    for name, nearest in [
        ("metaworld/push-v2", "metaworld/push-v3"),
        ("metawrld/push-v3", "metaworld/push-v3"),
        ("push-v3", "libero, metaworld"),
    ]:
        with pytest.raises(UnknownEnvironment) as caught:
            make(name)
        assert nearest in caught.value.help
    with pytest.raises(UnknownEnvironment):
        names(" , ")


def test_no_graphics_says_what_to_install():
    code = (
        "from wmdsl.environments import make; e = make('metaworld/push-v3'); e.reset(0);"
        "e.render('corner', 64)"
    )
    environment = os.environ | {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert found.returncode == 1
    assert "WM866" in found.stderr
    assert "apt-get install libegl1" in found.stderr


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "metaworld.env_dict", None)
    with pytest.raises(EnvironmentUnavailable) as caught:
        make("metaworld/reach-v3")
    assert "pip install" in caught.value.help


def test_seeds_of_demonstrations_and_evaluations_never_meet():
    drawn = {
        purpose: {episode_seed(purpose, base, n) for base in range(5) for n in range(500)}
        for purpose in Purpose
    }
    assert all(len(seeds) == 2500 for seeds in drawn.values())
    assert not drawn[Purpose.DEMONSTRATION] & drawn[Purpose.EVALUATION]
    with pytest.raises(ValueError, match="must be"):
        episode_seed(Purpose.EVALUATION, 0, 2**20)


def test_triton_may_be_imported_behind_a_rendering():
    """Both bring an LLVM; loaded in the other order the process crashed."""
    script = (
        "from wmdsl.environments import make\n"
        f"environment = make({PUSH!r})\n"
        "environment.reset(1)\n"
        "environment.render('corner', 16)\n"
        "import triton\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
