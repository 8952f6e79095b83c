"""The suite on a world whose law is known: what it must say of those who know it and who do not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import wmdsl
from tests.runtime.faithful.dot_world import STEP, DotWorld, Oracle, drawn
from wmdsl.environments.counterfactual import Filming, sequence_names, situation
from wmdsl.plan.advance import NoRollOut, advance_of, controllable
from wmdsl.report.faithful import write_pictures
from wmdsl.report.faithfulness import _row
from wmdsl.report.runs import Finished
from wmdsl.runtime import errors
from wmdsl.runtime.faithful import suite as suites
from wmdsl.runtime.faithful.probe import ProbeSettings
from wmdsl.runtime.faithful.suite import FaithfulSettings, faithful_run
from wmdsl.runtime.run import RunDirectory, write_json
from wmdsl.runtime.settings import TrainSettings
from wmdsl.tools.faithful import lines

DOTS = Path(__file__).with_name("dots.wm")
PAST_DOTS = DOTS.with_name("past_dots.wm")
SETTINGS = FaithfulSettings(situations=8, steps=22, random=1)
PROBE = ProbeSettings(episodes=12, steps=150)


@pytest.fixture(scope="module")
def plan():
    return wmdsl.plan(DOTS)


def run_of(folder, plan, shuffled=False):
    settings = TrainSettings(shuffle_actions=shuffled).to_json()
    described = {"spec_sha256": plan.model.sha256, "recording": {}, "settings": settings}
    write_json(RunDirectory(folder).training, described)
    return folder


@pytest.fixture(scope="module")
def finding(plan, tmp_path_factory):
    """An obedient oracle against a deaf one."""
    folder = tmp_path_factory.mktemp("faithful")
    run, other = run_of(folder / "run", plan), run_of(folder / "other", plan, shuffled=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "load_run", lambda path: Oracle(plan, "run" in str(path.name)))
        patch.setattr(suites.registry, "make", lambda name, supersample: DotWorld())
        return faithful_run(
            run, ["dots/go"], SETTINGS, shuffled=other, probe=PROBE, progress=False
        )


def systems(finding):
    return finding.report["environments"]["dots/go"]["systems"]


def test_the_course_has_whole_chunks(finding):
    report = finding.report
    assert (report["steps"], report["chunk"]) == (24, 4)
    assert report["horizons"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert finding.frames["model"].shape == (8, 5, 6, 3, 16, 16)


def test_states_are_restored_exactly(finding):
    assert finding.report["restore_difference"] == 0


def test_the_simulator_is_the_ceiling(finding):
    truth = systems(finding)["simulator"]
    assert all(one[0] == 0 for one in truth["image"])
    assert truth["retrieval"][2][0] > 0.95
    assert truth["retrieval"][-1][0] >= 0.8  # permuted steps end where the expert's do
    assert truth["spread"][-1][0] == pytest.approx(1, abs=0.2)
    assert truth["hand"][-1][0] < 0.05


def test_who_knows_the_law_is_near_the_ceiling(finding):
    model, truth = systems(finding)["model"], systems(finding)["simulator"]
    assert model["hand"][-1][0] < truth["hand"][-1][0] + 0.05
    assert model["retrieval"][2][0] > 0.9
    assert model["rank_correlation"][0] > 0.8
    assert model["sensitivity"][-1][0] > 3


def test_who_is_deaf_to_actions_retrieves_by_chance(finding):
    deaf = systems(finding)["shuffled"]
    assert deaf["retrieval"][-1][0] < 0.45
    assert deaf["sensitivity"][-1][0] == pytest.approx(1, abs=0.5)
    assert deaf["hand"][-1][0] > 0.08
    assert deaf["first_beyond"] is not None


def test_copying_the_last_frame_retrieves_exactly_by_chance(finding):
    copied = systems(finding)["copy"]
    assert copied["retrieval"][-1][0] <= 1 / 5 + 1e-9
    assert "sensitivity" not in copied and "inverse" not in copied


def test_actions_are_recovered_from_what_is_imagined(finding):
    """The oracle's inverse query is exact up to the ends of the table and the drawn dot."""
    assert finding.report["inverse"] == "inverse"
    found = systems(finding)
    assert abs(found["model"]["inverse"][0][0] - found["simulator"]["inverse"][0][0]) < 0.1


def test_the_state_is_read_off_what_is_imagined(finding):
    streams = finding.report["streams"]
    assert streams == {"predicted": ["top"], "read_by_probe": ["state"], "held": []}


def test_the_report_is_json_and_drawn(finding, tmp_path):
    assert json.loads(json.dumps(finding.report)) == finding.report
    plot, first, second = write_pictures(finding, tmp_path, strips=2)
    assert plot.read_text().startswith("<svg") and first.stat().st_size and second.stat().st_size
    text = "\n".join(lines(finding.report))
    assert "dots/go: 8 situations" in text and "restored states differ by 0" in text


def test_a_comparison_reads_what_the_suite_writes(finding, tmp_path):
    run = Finished(tmp_path, {"model": "dots"}, {"settings": {"seed": 3}}, {}, (), finding.report)
    row = _row(run)
    assert (row["seed"], row["horizon"], row["success"]) == (3, pytest.approx(0.6), None)
    assert row["held"] == [] and row["systems"].keys() == systems(finding).keys()
    for name, found in row["systems"].items():
        assert found["retrieval"] == systems(finding)[name]["retrieval"][-1]


def test_a_wrong_restore_is_told():
    found = situation(DotWorld(forgetful=True), 0, 0, 8, Filming({"top": (0, 4, 8)}, 16))
    assert found.difference > 0


def test_sequences_are_what_their_names_say():
    found = situation(DotWorld(), 0, 1, 12, Filming({"top": (-4, 0, 12)}, 16), random=2)
    by_name = {track.name: track for track in found.tracks}
    assert tuple(by_name) == sequence_names(2)
    expert = by_name["expert"].actions
    assert np.array_equal(by_name["negated"].actions, -expert)
    assert np.array_equal(
        np.sort(by_name["permuted"].actions, axis=0), np.sort(expert, axis=0)
    )
    assert not by_name["zero"].actions.any()
    random = by_name["random 1"].actions
    assert np.array_equal(random[:8], random[:1].repeat(8, 0)) and (random[8] != random[0]).any()
    for track in found.tracks:
        place = track.state(0)[:2]
        assert np.array_equal(track.images["top", 0], drawn(place))
        for action in track.actions:
            place = np.clip(place + np.float32(STEP) * action, 0, 1)
        assert np.allclose(track.state(12)[:2], place, atol=1e-5)
        assert np.array_equal(track.images["top", -4], drawn(track.state(-4)[:2]))


def test_a_query_that_cannot_be_answered_is_refused_with_the_compilers_reason(tmp_path):
    plan = wmdsl.plan(Path("examples/paradigms/idm.wm"))
    because = plan.canonical_queries["controllable_world_model"].because
    run = run_of(tmp_path / "run", plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "load_run", lambda path: Oracle(plan))
        with pytest.raises(errors.RunError) as caught:
            faithful_run(run, ["metaworld/reach-v3"], SETTINGS, progress=False)
    assert caught.value.code == "WM878" and because in caught.value.what


def test_a_baseline_must_have_been_shuffled(plan, tmp_path):
    run, other = run_of(tmp_path / "run", plan), run_of(tmp_path / "other", plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "load_run", lambda path: Oracle(plan))
        with pytest.raises(errors.RunError) as caught:
            faithful_run(run, ["dots/go"], SETTINGS, shuffled=other, progress=False)
    assert caught.value.code == "WM886"


def test_a_model_of_another_robot_is_refused(plan, tmp_path):
    run = run_of(tmp_path / "run", plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "load_run", lambda path: Oracle(plan))
        with pytest.raises(errors.RunError, match="takes 4 at 80 Hz"):
            faithful_run(run, ["metaworld/reach-v3"], SETTINGS, progress=False)


def test_the_roll_goes_on_from_its_own_frames(plan):
    """Two chunks at once are the second asked with the first one's answer."""
    from wmdsl.blocks.rollout import roll

    advance = advance_of(plan.model, controllable(plan))
    assert (advance.query, advance.steps, dict(advance.places)) == ("world", 4, {"top": (1,)})
    assert advance.held == ("state",) and advance.arrives["top"] == 0
    torch.manual_seed(0)
    module = wmdsl.compile(DOTS)
    statistics = {"mean": [0.0] * 3, "std": [1.0] * 3}
    module.load_statistics({"state": statistics, "action": {"mean": [0.0] * 2, "std": [1.0] * 2}})
    batch = {
        "top": torch.rand(2, 1, 3, 16, 16), "state": torch.randn(2, 1, 3),
        "task": torch.randint(1, 200, (2, 16)),
    }  # fmt: skip
    actions = torch.randn(2, 2, 4, 2)
    drawn_noise = torch.Generator().manual_seed(1)
    found = roll(
        lambda b, generator: module.query("world", b, generator=generator),
        batch, "action", actions, advance.places, drawn_noise,
    )["top"]  # fmt: skip
    again = torch.Generator().manual_seed(1)
    first = module.query("world", {**batch, "action": actions[:, 0]}, generator=again)["top"]
    second = module.query(
        "world", {**batch, "top": first, "action": actions[:, 1]}, generator=again
    )["top"]
    assert torch.equal(found, torch.stack([first, second], 1))


class Remembering(Oracle):
    """Keeps the windows that it is shown."""

    def __init__(self, plan):
        super().__init__(plan)
        self.shown = []

    def query(self, name, batch, generator=None):
        self.shown.append((name, batch))
        if name != "world":
            return {"action": torch.zeros(len(batch["top"]), 4, 2)}
        return super().query(name, {**batch, "action": batch["action"][:, -4:]}, generator)


def test_a_past_goes_on_with_what_was_foreseen_and_done(tmp_path):
    """Frames, states and actions that lead to the situation are true; then the chunks follow."""
    plan = wmdsl.plan(PAST_DOTS)
    oracle = Remembering(plan)
    settings = FaithfulSettings(situations=2, steps=8, random=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "load_run", lambda path: oracle)
        patch.setattr(suites.registry, "make", lambda name, supersample: DotWorld())
        run = run_of(tmp_path / "run", plan)
        found = faithful_run(run, ["dots/go"], settings, probe=PROBE, progress=False)
    assert found.report["streams"] == {"predicted": ["top"], "read_by_probe": [], "held": ["state"]}
    worlds = [at for at, (name, _) in enumerate(oracle.shown) if name == "world"]
    first, second = (oracle.shown[at][1] for at in worlds[:2])
    assert first["action"].shape == (10, 16, 2) and first["top"].shape == (10, 3, 3, 16, 16)
    walked = STEP * first["action"][:, 8:12].sum(1)
    torch.testing.assert_close(first["state"][:, -1, :2] - first["state"][:, 0, :2], walked)
    assert torch.equal(second["action"][:, :12], first["action"][:, 4:])
    assert torch.equal(second["top"][:, :2], first["top"][:, 1:])
    assert torch.equal(second["state"], first["state"])
    name, backwards = oracle.shown[worlds[0] + 1]
    assert name == "inverse_dynamics" and backwards["top"].shape == (10, 4, 3, 16, 16)
    assert torch.equal(backwards["action"], first["action"][:, :12])


def test_why_a_query_cannot_be_rolled(plan):
    with pytest.raises(NoRollOut, match="there is no query dance"):
        controllable(plan, "dance")
    with pytest.raises(NoRollOut, match="not given the future"):
        advance_of(plan.model, controllable(plan, "policy"))


