"""The module: counts, determinism, exact deletion, statistics, teachers, errors with their line."""

import importlib.util
import sys

import pytest
import torch
from torch import nn

import wmdsl
import wmdsl_kernels
from tests.cpu.conftest import PARADIGMS, ROOT, SPECS, random_batch
from tests.cpu.emit.test_emit import ALL, IDS
from wmdsl.emit.library import pieces
from wmdsl.lower.names import FUNCTIONS, RESERVED


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_the_plan_counts_the_weights(path, compiled):
    module = compiled(path)
    plan = module.plan.parameters
    own = {n: p for n, p in module.named_parameters() if not stands_in(module, n)}
    counted = {o: c for o, c in plan.by_owner.items() if not stands_in(module, o.split(".")[1])}
    assert sum(counted.values()) == sum(p.numel() for p in own.values())
    trained = sum(p.numel() for p in own.values() if p.requires_grad)
    assert sum(c for o, c in counted.items() if o not in plan.frozen_owners) == trained


def stands_in(module, name):
    """Whether a weight belongs to a codec that stands for a pretrained one."""
    codec = module.plan.model.codecs.get(name.partition(".")[0])
    return codec is not None and "from" in codec.attributes


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_same_generator_same_numbers(path, compiled):
    module = compiled(path)
    batch = random_batch(module, 2)
    seeds = [torch.Generator().manual_seed(4) for _ in range(2)]
    first, second = (module.loss(batch, generator) for generator in seeds)
    assert all(torch.equal(first[term], second[term]) for term in first)
    for name in module.plan.queries:
        seeds = [torch.Generator().manual_seed(4) for _ in range(2)]
        first, second = (module.query(name, batch, generator, steps=2) for generator in seeds)
        assert all(torch.equal(first[stream], second[stream]) for stream in first)


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_queries_read_the_givens_alone(path, compiled):
    """Batches cut to the given segments are enough, and answers have the streams' shapes."""
    module = compiled(path)
    for name, query in module.plan.queries.items():
        batch = given_only(module, random_batch(module, 2), query.given)
        answer = module.query(name, batch, torch.Generator().manual_seed(1), steps=1)
        for stream, value in answer.items():
            declared = module.plan.model.streams[stream.partition(".")[0]]
            assert value.shape[-len(declared.shape) :] == declared.shape
            assert torch.isfinite(value).all()


def given_only(module, batch, given):
    """The batch without what a query is not given."""
    kept = {}
    for name, stream in module.plan.model.streams.items():
        ends = [
            stream.start(segment.name) + segment.length
            for segment in stream.segments
            if segment.reference in given
        ]
        if ends:
            whole = stream.segments[0].name == "whole"
            kept[name] = batch[name] if whole else batch[name][:, : max(ends)]
    return kept


def test_deleted_exactly(compiled):
    """Fast-WAM's policy leaves the future frames out: what they hold moves no bit of the action."""
    module = compiled(ROOT / "examples" / "hybrids" / "mot_fast.wm")
    policy = module.plan.queries["policy"]
    assert ("corner.future", "deleted_exactly") in {
        (drop.what, drop.how) for drop in policy.dropped
    }
    batch = random_batch(module, 2)

    def action(query):
        return module.query(query, batch, torch.Generator().manual_seed(1), steps=2)["action"]

    alone, beside = action("policy"), action("joint")
    torch.testing.assert_close(alone, beside, rtol=1e-12, atol=1e-12)
    weight = module.seer.corner_future_in.projection.weight
    with torch.no_grad():
        weight += 1
        moved = action("joint")
        weight -= 1
    assert torch.equal(beside, moved)


def test_a_term_without_a_valid_sample_is_zero(compiled):
    """Video without actions trains no action loss; its other terms go on."""
    module = compiled(PARADIGMS / "mot.wm")
    batch = random_batch(module, 2)
    batch["action.valid"] = torch.zeros(batch["action"].shape[:2], dtype=torch.bool)
    terms = module.loss(batch, torch.Generator().manual_seed(1))
    assert terms["act"] == 0
    assert terms["foresight"] > 0


def test_statistics_normalise():
    module = wmdsl.compile(PARADIGMS / "no_world_model.wm")
    statistics = {
        "proprio": {"mean": [1, 2, 3, 4], "std": [1, 1, 0, 1]},
        "action": {"mean": [0, 0, 0, 5], "std": [2, 2, 2, 2]},
    }
    module.load_statistics(statistics)
    assert module.action_scale.tolist() == [2, 2, 2, 2]
    assert module.proprio_scale.tolist() == [1, 1, 1, 1]
    assert module.action_mean.tolist() == [0, 0, 0, 5]


def test_statistics_by_range():
    module = wmdsl.compile(SPECS / "condition.wm")
    numbers = {
        name: {"mean": [0.0] * len(mean), "std": [1.0] * len(mean)}
        for name, mean in (("body", module.body_mean), ("hint", module.hint_mean))
    }
    action = {"min": [-1.0, 0.0, 2.0], "max": [1.0, 4.0, 2.0]}
    module.load_statistics({**numbers, "action": action})
    assert module.action_mean.tolist() == [0, 2, 2]
    assert module.action_scale.tolist() == [1, 2, 1]


def test_missing_statistics_are_an_error():
    with pytest.raises(KeyError):
        wmdsl.compile(PARADIGMS / "no_world_model.wm").load_statistics({})


FROZEN_CROSS = """edition 2026
model m {
  stream camera: video[3, 16, 16] at 10 Hz { now 1 frame }
  stream action: action[4] at 20 Hz { future 4 steps }
  codec eyes: conv { channels 8, 16 }
  trunk doer: dit { layers 2; width 32; heads 2x16; tokens action }
  cross read: eyes(camera) -> doer { frozen }
  generate act: action by flow
  query policy: action | camera
}
"""


def test_a_frozen_cross_is_not_trained():
    module = wmdsl.compile(FROZEN_CROSS)
    trained = {name.partition(".")[0] for name, value in module.named_parameters()
               if value.requires_grad}  # fmt: skip
    assert trained == {"eyes", "doer"}


def test_teachers_follow():
    module = wmdsl.compile(SPECS / "align.wm")
    teacher, student = module.slow_teacher.layers[0].weight, module.eyes.layers[0].weight
    still = module.still_teacher.layers[0].weight.clone()
    with torch.no_grad():
        student += 1
    wanted = 0.9 * teacher + 0.1 * student
    module.after_step()
    torch.testing.assert_close(module.slow_teacher.layers[0].weight, wanted)
    assert torch.equal(module.still_teacher.layers[0].weight, still)
    assert not module.slow_teacher.layers[0].weight.requires_grad


def test_after_step_is_always_there():
    wmdsl.compile(SPECS / "masked.wm").after_step()
    assert "after_step" not in wmdsl.emit(SPECS / "masked.wm")


def test_wrong_shape_names_the_line_of_the_spec(compiled):
    module = compiled(SPECS / "masked.wm")
    batch = random_batch(module, 2)
    batch["action"] = torch.zeros(2, 4, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"batch\['action'\] is \[2, 4, 3\], but model.wm:\d+"):
        module.loss(batch)


def test_missing_stream_names_the_line_of_the_spec(compiled):
    with pytest.raises(ValueError, match=r"the batch has no 'state', which model.wm:\d+ declares"):
        compiled(SPECS / "masked.wm").loss({})


def test_error_inside_names_the_line_of_the_spec():
    module = wmdsl.compile(SPECS / "masked.wm")
    module.filler.norm = nn.LayerNorm(7)
    batch = {"state": torch.zeros(2, 2, 4), "action": torch.zeros(2, 4, 2)}
    with pytest.raises(RuntimeError) as caught:
        module.loss(batch)
    (note,) = caught.value.__notes__
    assert note.startswith("in what model.wm:") and "trunk filler" in note


def test_unknown_query_names_the_known_ones(compiled):
    with pytest.raises(ValueError, match="there is no query 'polisy'; there are policy"):
        compiled(SPECS / "masked.wm").query("polisy", {})


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_standalone_gives_the_same_numbers(path, compiled, tmp_path):
    """A file that needs torch alone computes what the module computes."""
    module = compiled(path)
    file = tmp_path / f"standalone_{path.stem}.py"
    file.write_text(wmdsl.emit(path, standalone=True))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    python = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = python
    spec.loader.exec_module(python)
    emitted = next(
        value
        for value in vars(python).values()
        if isinstance(value, type) and value.__name__ == type(module).__name__
    )
    alone = emitted().double()
    alone.load_state_dict(module.state_dict())
    batch = random_batch(module, 2)
    found = alone.loss(batch, torch.Generator().manual_seed(2))
    wanted = module.loss(batch, torch.Generator().manual_seed(2))
    for term, value in wanted.items():
        torch.testing.assert_close(found[term], value, rtol=1e-9, atol=1e-11)


def test_reserved_names_cover_torch():
    public = {name for name in dir(nn.Module()) if not name.startswith("_")}
    assert public <= RESERVED


def test_local_names_cover_what_methods_call():
    functions = {name for name in pieces() if name.islower() and not name.startswith("_")}
    kernels = {name for name in wmdsl_kernels.__all__ if name.islower()}
    assert functions <= FUNCTIONS <= functions | kernels


def test_names_that_collide(tmp_path):
    """A trunk, a query, a codec and streams may share the names of torch and of each other."""
    text = (
        (SPECS / "masked.wm")
        .read_text()
        .replace("filler", "train")
        .replace("digits", "loss")
        .replace("state", "batch")
        .replace("policy", "train")
    )
    path = tmp_path / "collide.wm"
    path.write_text(text)
    module = wmdsl.compile(path)
    batch = {"batch": torch.zeros(2, 2, 4), "action": torch.zeros(2, 4, 2)}
    assert torch.isfinite(module.loss(batch)["loss"])
    assert module.query("train", batch)["action"].shape == (2, 4, 2)


def test_several_answers_to_each_sample(compiled):
    module = compiled(PARADIGMS / "mot.wm")
    batch = random_batch(module, 2)
    found = module.query("policy", batch, torch.Generator().manual_seed(1), steps=2, draws=3)
    each = {name: torch.cat([x[:1]] * 3 + [x[1:]] * 3) for name, x in batch.items()}
    wanted = module.query("policy", each, torch.Generator().manual_seed(1), steps=2)
    assert torch.equal(found["action"], wanted["action"])
    assert len(found["action"].unique(dim=0)) == 6
