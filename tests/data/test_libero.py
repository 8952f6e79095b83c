"""LIBERO's protocol against a stand-in for the package, and the refusals without it."""

import importlib.machinery
import sys
import types

import numpy as np
import pytest

from wmdsl.data import keys
from wmdsl.environments import EnvironmentUnavailable, UnknownEnvironment, libero, make, spec
from wmdsl.environments.libero import rotation_vector, tasks
from wmdsl.environments.seeds import Purpose, episode_seed


class Simulator:
    """Records what it is told; succeeds when the gripper closes."""

    def __init__(self, **settings):
        self.settings, self.told, self.sim = settings, [], self

    def reset(self):
        self.told.append("reset")

    def set_init_state(self, state):
        self.told.append(("state", int(state[0])))
        return self.raw()

    def step(self, action):
        self.told.append(np.asarray(action))
        self.closed = action[6] > 0
        return self.raw(), 0.0, self.closed, {}

    def check_success(self):
        return self.closed

    def render(self, width, height, camera_name):
        image = np.zeros((height, width, 3), np.uint8)
        image[0, 0] = 255 if camera_name == "agentview" else 100
        return image

    def raw(self):
        half = np.sqrt(0.5)
        return {
            "robot0_eef_pos": np.array([1.0, 2.0, 3.0]),
            "robot0_eef_quat": np.array([half, 0, 0, half]),
            "robot0_gripper_qpos": np.array([0.1, -0.1]),
        }

    def close(self):
        self.told.append("closed")


class Suite:
    def get_task(self, number):
        return types.SimpleNamespace(language=f"do {number}")

    def get_task_init_states(self, number):
        return np.arange(50)[:, None]

    def get_task_bddl_file_path(self, number):
        return f"{number}.bddl"


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A `libero` package whose first import would read standard input."""
    root = tmp_path / "site" / "libero"
    (root / "libero" / "assets").mkdir(parents=True)
    modules = {n: types.ModuleType(n) for n in ("libero", "libero.libero", "libero.libero.envs")}
    modules["libero"].__spec__ = importlib.machinery.ModuleSpec("libero", None, is_package=True)
    modules["libero"].__spec__.submodule_search_locations = [str(root)]
    modules["libero"].__path__ = [str(root)]
    benchmark = types.SimpleNamespace(get_benchmark=lambda name: Suite)
    modules["libero.libero"].benchmark = benchmark
    modules["libero.libero"].get_assets_path = lambda: str(root / "libero" / "assets")
    modules["libero.libero.envs"].OffScreenRenderEnv = Simulator
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path / "config"))
    libero._benchmark.cache_clear()
    yield root
    libero._benchmark.cache_clear()


def test_the_protocol(package):
    environment = make("libero/spatial-3")
    simulator = environment._simulator
    assert simulator.settings["control_freq"] == 20
    assert simulator.settings["bddl_file_name"] == "3.bddl"
    observation = environment.reset(episode_seed(Purpose.EVALUATION, 0, 52))
    settled = simulator.told[2:]
    assert simulator.told[:2] == ["reset", ("state", 2)]
    assert len(settled) == 10
    assert all(action.tolist() == [0, 0, 0, 0, 0, 0, -1] for action in settled)
    state = [1, 2, 3, np.pi / 2, 0, 0, 0.1, -0.1]
    assert np.allclose(observation[keys.STATE], state)
    assert observation[keys.TASK] == "do 3"
    _, success, done = environment.step(np.array([2, 0, 0, 0, 0, 0, -1.0]))
    assert simulator.told[-1][0] == 1
    assert (success, done) == (False, False)
    assert environment.step(np.ones(7))[1] is True


def test_fifty_evaluation_seeds_take_all_fifty_states(package):
    environment = make("libero/goal-0")
    for number in range(50):
        environment.reset(episode_seed(Purpose.EVALUATION, 3, number))
    told = [item[1] for item in environment._simulator.told if isinstance(item, tuple)]
    assert sorted(told) == list(range(50))


def test_episodes_end_at_the_limit_of_their_suite(package):
    environment = make("libero/10-9")
    environment.reset(0)
    ends = [environment.step(np.full(7, -1.0))[2] for _ in range(520)]
    assert ends.index(True) == 519


def test_images_are_turned_by_half_a_turn(package):
    environment = make("libero/object-1", supersample=2)
    image = environment.render("corner", 8)
    assert image.shape == (8, 8, 3)
    assert image[-1, -1, 0] == 64
    assert image.sum() == 3 * 64
    with pytest.raises(ValueError, match="corner, wrist"):
        environment.render("front", 8)


def test_the_question_of_the_first_import_is_answered(package, tmp_path):
    spec("libero/goal-1")
    written = (tmp_path / "config" / "config.yaml").read_text()
    assert f"bddl_files: {package}/libero/bddl_files" in written


def test_missing_assets_are_a_refusal(package):
    (package / "libero" / "assets").rmdir()
    with pytest.raises(EnvironmentUnavailable) as caught:
        make("libero/goal-1")
    assert "assets" in caught.value.what
    assert "hub" in caught.value.help


def test_a_missing_package_is_a_refusal(monkeypatch):
    libero._benchmark.cache_clear()
    monkeypatch.setitem(sys.modules, "libero.libero", None)
    with pytest.raises(EnvironmentUnavailable) as caught:
        spec("libero/goal-1")
    assert "wmdsl[libero]" in caught.value.help


def test_what_libero_lacks_is_said(package):
    environment = make("libero/goal-1")
    for action in (environment.expert_action, environment.save_state):
        with pytest.raises(EnvironmentUnavailable):
            action()


def test_names_are_checked_without_the_package():
    assert len(tasks()) == 130
    with pytest.raises(UnknownEnvironment) as caught:
        spec("libero/gaol-1")
    assert caught.value.help.startswith("did you mean libero/goal-")


def test_rotation_vectors():
    angle = 1.2
    quaternion = np.array([0, np.sin(angle / 2), 0, np.cos(angle / 2)])
    assert np.allclose(rotation_vector(quaternion), [0, angle, 0])
    assert np.array_equal(rotation_vector(np.array([0, 0, 0, 1.0])), np.zeros(3))
