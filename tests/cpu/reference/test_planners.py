"""Every search on an emitted module against one written out candidate by candidate."""

import pytest
import torch

import wmdsl
from tests.cpu.conftest import SPECS, perturbed, random_batch
from tests.cpu.reference import planners
from wmdsl.driver import SpecError

SPEC = SPECS / "planners.wm"


def drawn(seed=3):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return perturbed(wmdsl.compile(SPEC))


@pytest.fixture(scope="module")
def asked(module):
    """Three situations and their goals."""
    batch = {"state": random_batch(module, 3)["state"][:, :1]}
    return batch, {"state": batch["state"] + 0.5}


def judge_of(module, batch, goal):
    def foresee(state, chunk):
        inner = type(module).query_world.__wrapped__
        answer = inner(module, {"state": state[None, None], "action": chunk[None]})
        return answer["state"][0, 0]

    def judge(at, actions):
        return planners.worth(
            foresee, batch["state"][at, 0], goal["state"][at, 0], module.state_scale, actions
        )

    return judge


def middle(count):
    value = (planners.LOW + planners.HIGH) / 2
    return [[torch.full((planners.SPANS, 2), value).double()] for _ in range(count)]


REFERENCES = {
    "shoot": (planners.random, (5, 3)),
    "cross": (planners.cem, (6, 3, 2, 0.8)),
    "path": (planners.mppi, (6, 2, 0.4, 0.8)),
    "climb": (planners.gradient, (3, 3, 0.2, 0.8)),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_search_finds_what_the_reference_finds(module, asked, name):
    batch, goal = asked
    search, options = REFERENCES[name]
    found = module.search(name, batch, goal, drawn())
    expected = search(judge_of(module, batch, goal), middle(3), *options, drawn())
    torch.testing.assert_close(found["action"], torch.stack([one for one, _ in expected]))
    torch.testing.assert_close(found["score"], torch.stack([score for _, score in expected]))
    assert not found["action"].requires_grad and not found["score"].requires_grad


@pytest.mark.parametrize("name", ["shoot", "cross", "path"])
def test_an_earlier_plan_is_where_a_search_begins(module, asked, name):
    batch, goal = asked
    warm = torch.linspace(-1, 1, 3 * 8 * 2, dtype=torch.float64).view(3, 8, 2)
    search, options = REFERENCES[name]
    starts = [
        [warm[at, ::2].clamp(planners.LOW, planners.HIGH), *rest]
        for at, rest in enumerate(middle(3))
    ]
    expected = search(judge_of(module, batch, goal), starts, *options, drawn())
    found = module.search(name, batch, goal, drawn(), warm=warm)
    torch.testing.assert_close(found["action"], torch.stack([one for one, _ in expected]))


def test_a_search_is_never_worse_than_where_it_begins(module, asked):
    batch, goal = asked
    judge = judge_of(module, batch, goal)
    for name in ("shoot", "cross", "climb"):
        found = module.search(name, batch, goal, drawn())
        for at in range(3):
            start = judge(at, planners.steps_of(middle(1)[0][0]))
            assert found["score"][at] >= start - 1e-12
            again = judge(at, found["action"][at])
            torch.testing.assert_close(found["score"][at], again.detach())


def test_actions_stay_in_their_bounds_and_are_held(module, asked):
    for name in REFERENCES:
        action = module.search(name, *asked, drawn())["action"]
        assert action.shape == (3, 8, 2)
        assert action.min() >= planners.LOW and action.max() <= planners.HIGH
        assert torch.equal(action[:, ::2], action[:, 1::2])


def test_a_prior_is_the_first_candidate_and_scores_add_to_goals(module, asked):
    """With one round of one candidate the answer is the prior itself, and its worth is known."""
    many, one = "samples 4; rounds 2; elites 2", "samples 1; rounds 1; elites 1"
    lone = wmdsl.compile(SPEC.read_text().replace(many, one)).double()
    lone.load_state_dict(module.state_dict())
    batch, goal = asked
    found = lone.search("led", batch, goal, drawn())
    prior = lone.query("policy", batch, drawn())["action"].clamp(-1, 1)
    torch.testing.assert_close(found["action"], prior)
    answer = lone.query("both", {**batch, "action": prior})
    apart = ((answer["state"] - goal["state"]) / lone.state_scale).square().mean((1, 2))
    torch.testing.assert_close(found["score"], answer["worth"].mean((1, 2)) - apart)


def test_the_best_chain_is_the_one_with_the_highest_score(module, asked):
    batch, _ = asked
    found = module.search("pick", batch, generator=drawn())
    wide = {"state": batch["state"].repeat_interleave(4, 0)}
    actions = module.query("policy", wide, drawn())["action"]
    worth = module.query("judge", {**wide, "action": actions})["worth"].mean((1, 2)).view(3, 4)
    at = worth.argmax(1)
    torch.testing.assert_close(found["score"], worth.max(1).values)
    torch.testing.assert_close(found["action"], actions.view(3, 4, 4, 2)[range(3), at])


def test_the_goal_may_be_what_a_codec_sees():
    """A goal picture through the model's own eyes, against the codec called by hand."""
    text = """
edition 2026
model watcher {
  stream top: video[3, 16, 16] at 10 Hz { now 1 frame; future 1 frame }
  stream action: action[2] at 40 Hz { future 4 steps }
  codec eyes: conv { channels 8; strides 4 }
  codec patches: patch { size 8x8 }
  trunk body: vit {
    layers 1; width 16; heads 2x8
    tokens eyes(top.now), patches(top.future), action
  }
  generate foresight: top.future by regression
  generate act: action by flow
  query world: top.future | top.now, action
  planner look: random { query world; goal eyes(top.future); chunks 3; samples 1; rounds 1 }
}
"""
    module = perturbed(wmdsl.compile(text))
    batch = {"top": random_batch(module, 2)["top"][:, :1]}
    goal = {"top": random_batch(module, 2, seed=1)["top"][:, :1]}
    found = module.search("look", batch, goal, drawn())
    frame, near = batch["top"], []
    for chunk in range(3):
        action = found["action"][:, 4 * chunk : 4 * chunk + 4]
        frame = module.query("world", {"top": frame, "action": action})["top"]
        seen, aim = (module.eyes(2 * picture - 1) for picture in (frame, goal["top"]))
        near.append(-((seen - aim) ** 2).mean((1, 2)))
    torch.testing.assert_close(found["score"], torch.stack(near).mean(0))


def test_unknown_planners_are_named(module, asked):
    with pytest.raises(ValueError, match="no planner 'dance'; there are shoot"):
        module.search("dance", *asked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("random {\n    query world", "random {\n    query policy"), "which no query seeks"),
        (("query both; score", "query both, judge; score"), "asks one query"),
    ],
)
def test_what_cannot_be_searched_is_refused(change, message):
    with pytest.raises(SpecError, match=message):
        wmdsl.compile(SPEC.read_text().replace(*change))
