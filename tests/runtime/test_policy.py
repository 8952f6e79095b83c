"""A run as a policy, its queries on data, film strips, smoke."""

import dataclasses

import numpy as np
import pytest
import torch

import wmdsl
from tests.runtime.conftest import ROWS, ROWS_HZ, SIZE, SPEC
from wmdsl.data import keys
from wmdsl.driver import SpecError
from wmdsl.runtime import errors
from wmdsl.runtime.ask import ask_run, recorded
from wmdsl.runtime.checkpoint import load_tensors
from wmdsl.runtime.filmstrip import Episode, batch_at, strips, visual_queries
from wmdsl.runtime.session import Session, SessionSettings
from wmdsl.runtime.smoke import _require_finite, smoke
from wmdsl.tools import cli


def observation(seed):
    rng = np.random.default_rng(seed)
    return {
        keys.STATE: rng.normal(size=3).astype(np.float32),
        keys.image_key("top"): rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8),
        keys.TASK: f"task {seed}",
    }


def at_start(seed, slot):
    return {**observation(seed), "slot": slot, "step": 0}


def test_a_policy_gives_what_the_query_gives(finished):
    module = wmdsl.load(finished)
    policy = Session(module, settings=SessionSettings(seed=3))
    seen = [at_start(0, 0), at_start(1, 1)]
    chunks = policy.act(seen)
    assert chunks.shape == (2, 2, 2) and policy.execute == 2
    image = torch.from_numpy(observation(1)[keys.image_key("top")]).permute(2, 0, 1)
    batch = policy._batch([policy._look(seen[1])])
    assert torch.equal(batch["top"][0, 0], image / 255)
    policy.reset(2)
    assert np.array_equal(chunks, policy.act(seen))


def test_a_blind_policy_asks_for_no_image(finished):
    policy = Session(wmdsl.load(finished), settings=SessionSettings(blind=True))
    assert policy.cameras == ()
    without = {key: value for key, value in at_start(0, 0).items() if "images" not in key}
    assert policy.act([without]).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("query", "reason"),
    [("dance", "declares no such query"), ("imagine", "seeks no action")],
)
def test_queries_that_cannot_drive_a_robot_are_refused(finished, query, reason):
    with pytest.raises(errors.RunError, match=reason):
        Session(wmdsl.load(finished), query)


def test_a_query_on_data_writes_arrays_and_a_picture(finished, dataset, tmp_path):
    written = ask_run(finished, "world", dataset, tmp_path, samples=3)
    tensors = load_tensors(written[0])
    assert tensors["top"].shape == tensors["truth.top"].shape == (3, 1, 3, *SIZE)
    assert written[1].suffix == ".png" and written[1].stat().st_size > 100


def test_canonical_queries_on_data(finished, dataset, tmp_path):
    """By their short names; what the spec forbids is refused as the compiler would."""
    imagined = load_tensors(ask_run(finished, "passive", dataset, tmp_path, samples=2)[0])
    assert imagined["top"].shape == (2, 1, 3, *SIZE)
    with pytest.raises(errors.RunError, match="there is no such query"):
        ask_run(finished, "dance", dataset, tmp_path)


def test_how_likely_recorded_answers_are(finished, dataset, tmp_path, capsys):
    """By the command line, against the module asked for the same moments one by one."""
    words = ["query", str(finished), "--data", str(dataset), "-o", str(tmp_path), "--log-density"]
    assert cli.main([*words, "--query", "world", "--samples", "3", "--seed", "5"]) == 0
    printed = capsys.readouterr().out
    found = load_tensors(tmp_path / "log_density.safetensors")["log_density"]
    assert found.shape == (3,) and found.isfinite().all()
    assert f"log-density {found.mean():.2f} nats" in printed
    assert f"standard error {found.std() / 3**0.5:.2f}" in printed
    module, batch = recorded(finished, "world", dataset, 3, 5)
    again = module.log_density("world", batch, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(again["log_density"], found)
    far = batch | {"top": torch.cat([batch["top"][:, :1], batch["top"][:, 1:] + 3], dim=1)}
    less = module.log_density("world", far, generator=torch.Generator().manual_seed(5))
    assert (less["log_density"] < found).all()


def test_an_answer_without_a_density_is_refused(finished, dataset, tmp_path, capsys):
    words = ["query", str(finished), "--data", str(dataset), "-o", str(tmp_path), "--log-density"]
    assert cli.main([*words, "--query", "policy"]) == 1
    assert "top.future would have to be averaged over" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_film_strips_of_every_visual_query(finished, tmp_path):
    module = wmdsl.load(finished)
    rng = np.random.default_rng(0)
    columns = {
        keys.STATE: rng.normal(size=(ROWS, 3)).astype(np.float32),
        keys.ACTION: rng.normal(size=(ROWS, 2)).astype(np.float32),
        keys.image_key("top"): rng.integers(0, 256, (ROWS, *SIZE, 3), dtype=np.uint8),
    }
    episode = Episode("task 0", columns, ROWS)
    batch = batch_at(module.plan.model, episode, [0, 4], ROWS_HZ)
    assert batch["top"].shape == (2, 2, 3, *SIZE)
    torch.testing.assert_close(batch["action"][1], torch.from_numpy(columns[keys.ACTION][4:8]))
    assert visual_queries(module) == {"imagine": "top", "world": "top"}
    paths = strips(module, episode, ROWS_HZ, tmp_path, moments=2)
    assert [path.name for path in paths] == ["strip-imagine.png", "strip-world.png"]
    assert all(path.stat().st_size > 100 for path in paths)


def test_smoke_steps_once_and_asks_everything():
    lines = list(smoke(SPEC))
    assert lines[1].startswith("loss loss ")
    assert [line.split(":")[0] for line in lines[2:]] == [
        "query policy", "query imagine", "query world",
    ]  # fmt: skip


def test_smoke_refuses_what_is_not_finite():
    with pytest.raises(errors.RunError, match="WM874"):
        _require_finite("loss", torch.tensor(float("nan")))


def test_smoke_of_a_spec_with_errors_shows_them():
    with pytest.raises(SpecError, match="width"):
        list(smoke(SPEC.read_text().replace("width 16", "width 0")))


def test_a_misfit_with_the_environment_names_both_sides(finished):
    from wmdsl.runtime.evaluate import _check_fit

    @dataclasses.dataclass
    class Spec:
        name = "suite/task"
        action_dim = 7
        action_names = ("a",) * 7
        control_hz = 40
        cameras = ("top",)

    module = wmdsl.load(finished)
    with pytest.raises(errors.RunError, match="has 2 numbers, the environment takes 7"):
        _check_fit(module, Session(module), Spec())


    Spec.action_dim, Spec.cameras = 2, ("side",)
    with pytest.raises(errors.RunError, match="top reads observation.images.top, which the env"):
        _check_fit(module, Session(module), Spec())


def test_what_no_data_set_recorded_stays_zero(finished):
    module = wmdsl.load(finished)
    settings = SessionSettings(blank=("state",))
    policy = Session(module, settings=settings)
    seen = {key: value for key, value in at_start(0, 0).items() if key != keys.STATE}
    batch = policy._batch([policy._look(seen)])
    assert torch.equal(batch["state"], torch.zeros(1, 1, 3))


def test_smoke_searches_with_every_planner():
    planner = "planner look: cem { query world; goal top.future; samples 4; elites 2 }\n}"
    lines = list(smoke(SPEC.read_text().rstrip().removesuffix("}") + planner))
    assert lines[-1].startswith("planner look: score [-")
