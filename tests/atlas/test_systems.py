"""Each published system at tiny size compiles, takes a step, answers; what is deleted is dead."""

import dataclasses

import pytest
import torch

import wmdsl
from tests.atlas.systems import ATLAS, BEHIND, SYSTEMS
from tests.atlas.undeleted import differing, put_back, undeleted
from wmdsl.driver import SpecError
from wmdsl.plan import ranges
from wmdsl.runtime.sample import random_batch

pytestmark = pytest.mark.slow
HYBRID = ATLAS.parent / "hybrids" / "mot_fast.wm"
REFERENCES = ATLAS.parent / "references"
SIZES: dict[str, dict] = {"visualpredicator": {}}  # symbols have one size


@pytest.mark.parametrize("path", sorted({*ATLAS.glob("*.wm"), *REFERENCES.glob("*.wm")}, key=str),
                         ids=lambda path: path.stem)  # fmt: skip
def test_every_spec_is_emitted_or_refused_by_a_code(path):
    try:
        assert wmdsl.emit(path, **SIZES.get(path.stem, {"size": "tiny"})).startswith('"""')
    except SpecError as refused:
        found = [entry.code for entry in refused.diagnostics if entry.severity == "error"]
        assert path.stem not in SYSTEMS and found
        assert all(code.startswith("WM8") for code in found), found


def test_the_systems_are_specs():
    assert all((ATLAS / f"{name}.wm").is_file() for name in SYSTEMS)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_step_gives_every_term_a_gradient(name, system):
    module = system(name).train()
    batch = random_batch(module.plan.model, 2)
    losses = module.loss(batch, generator=torch.Generator().manual_seed(1))
    assert all(bool(torch.isfinite(value)) for value in losses.values())
    module.zero_grad()
    losses["loss"].backward()
    moved = [value for value in module.parameters() if value.grad is not None]
    assert moved and all(bool(torch.isfinite(value.grad).all()) for value in moved)
    module.after_step()


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_query_has_a_finite_answer(name, system):
    module = system(name).eval()
    for query in module.answers:
        batch = random_batch(module.plan.model, 2)
        answers = module.query(query, batch, torch.Generator().manual_seed(2))
        assert answers
        for value in answers.values():
            assert len(value) == 2
            assert bool(torch.isfinite(value.double()).all())


def deleting(name):
    """The declared queries that delete something exactly."""
    queries = wmdsl.plan(ATLAS / f"{name}.wm", size="tiny").queries.values()
    return [q.name for q in queries if any(d.how == "deleted_exactly" for d in q.dropped)]


@pytest.mark.parametrize(
    ("name", "query"), [(name, query) for name in SYSTEMS for query in deleting(name)]
)
def test_what_is_deleted_exactly_changes_no_bit(name, query, system):
    module = system(name).eval()
    batch = random_batch(module.plan.model, 2)
    assert bool(put_back(module.plan, query)) == ((name, query) not in BEHIND)
    assert differing(module, query, batch) == ()


def test_a_deletion_that_is_not_exact_is_found(compiled, monkeypatch):
    """With a mask that lets the action see the future, putting it back makes a difference."""
    module = compiled(HYBRID).eval()
    batch = random_batch(module.plan.model, 2)
    assert put_back(module.plan, "policy") == ("corner.future",)
    assert differing(module, "policy", batch) == ()
    train = module.plan.train
    seeing = tuple(
        dataclasses.replace(
            space, rows=ranges.Rows(lambda n=space.tokens: ranges.canonical([((0, n), [(0, n)])]))
        )
        for space in train.spaces
    )
    leaky = dataclasses.replace(module.plan, train=dataclasses.replace(train, spaces=seeing))
    monkeypatch.setattr(module, "plan", leaky)
    one, two = (
        asked.query("policy", dict(batch), torch.Generator().manual_seed(5))["action"]
        for asked in (module, undeleted(module, "policy"))
    )
    assert not torch.allclose(one, two, atol=1e-4)
