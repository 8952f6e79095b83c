"""The four canonical questions: what the plan calls answerable runs, and nothing else does."""

import pytest
import torch

import wmdsl
from tests.cpu.conftest import PARADIGMS, random_batch
from tests.cpu.emit.test_emit import ALL, EXAMPLES, IDS
from tests.cpu.emit.test_module import given_only
from wmdsl.driver import SpecError
from wmdsl.plan.named import SHORT, questions

CANONICAL = ("policy", "passive_world_model", "controllable_world_model", "inverse_dynamics")
MISTAKE = """edition 2026
import "{path}" as base
model asked extends base.{name} {{ query asked: {sought} | {given} }}
"""


def ask(module, name):
    question = questions(module.plan)[name]
    batch = given_only(module, random_batch(module, 2), question.given)
    return module.query(name, batch, torch.Generator().manual_seed(2), steps=1)


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_answerable_is_what_runs(path, compiled):
    module = compiled(path)
    for name in CANONICAL:
        if questions(module.plan)[name].answerable == "no":
            with pytest.raises(SpecError, match="WM603"):
                ask(module, name)
        else:
            answer = ask(module, name)
            assert answer and all(torch.isfinite(value).all() for value in answer.values())


@pytest.mark.parametrize("name", ["mot", "single_backbone"])
def test_one_checkpoint_answers_all_four(name, compiled):
    module = compiled(PARADIGMS / f"{name}.wm")
    answers = {name: ask(module, name) for name in ("policy", *SHORT)}
    assert set(answers["policy"]) == set(answers["inverse"]) == {"action"}
    assert set(answers["passive"]) == set(answers["controllable"]) == {"corner"}
    assert not torch.equal(answers["passive"]["corner"], answers["controllable"]["corner"])
    assert not torch.equal(answers["policy"]["action"], answers["inverse"]["action"])


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_a_refused_question_says_what_the_compiler_says(path, compiled, tmp_path):
    """A spec that declares the question has the same code, reason and help."""
    module = compiled(path)
    for name in CANONICAL:
        plan = module.plan.canonical_queries[name]
        if plan.answerable != "no" or plan.because == "nothing visual is predicted":
            continue
        with pytest.raises(SpecError) as refused:
            ask(module, name)
        text = MISTAKE.format(
            path=path, name=path.stem, sought=", ".join(plan.sought), given=", ".join(plan.given)
        )
        declaring = tmp_path / f"{path.stem}_{name}.wm"
        declaring.write_text(text)
        with pytest.raises(SpecError) as declared:
            wmdsl.plan(declaring)
        ours, theirs = refused.value.diagnostics[0], declared.value.diagnostics[0]
        assert (ours.code, ours.help) == (theirs.code, theirs.help.replace("asked", name))
        reason = ours.message.partition(": ")[2].partition(" (")[0]
        assert reason in theirs.message


def test_a_declared_query_answers_the_canonical_one_that_it_asks(compiled):
    module = compiled(PARADIGMS / "mot.wm")
    assert questions(module.plan)["passive"].name == "imagine"
    assert not hasattr(module, "query_passive_world_model")


def test_an_unknown_name_is_still_an_error(compiled):
    module = compiled(PARADIGMS / "mot.wm")
    with pytest.raises(ValueError, match="there is no query 'dance'"):
        module.query("dance", {})
