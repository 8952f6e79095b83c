"""Pretrained weights are neither loaded nor left out without a word."""

import hashlib
import json

import pytest
import torch
from torch import nn

import wmdsl
from tests.cpu.conftest import PARADIGMS
from tests.cpu.weights.conftest import module_of, spec, words_of
from wmdsl.runtime.checkpoint import save_tensors
from wmdsl.tools.cli import main
from wmdsl.weights import chosen_weights, load_pretrained, named_weights, start
from wmdsl.weights.errors import WeightsError

LINES = (
    "stream text: language[12]",
    "stream state: proprio[2] at 10 Hz { now 1 step }",
    "stream action: action[3] at 10 Hz { future 4 steps }",
    'codec words: tokenizer { from "a/words"; vocabulary 6; tokens 5 }',
    "trunk wide: dit { layers 2; width 32; heads 2x16; tokens words(text), state }",
    "trunk doer: dit { layers 2; width 16; heads 2x16; init resize wide; tokens action }",
    "join both: wide, doer",
    "generate act: action by flow",
    "query policy: action | text, state { steps 2 }",
)


def test_parts_with_hub_ids():
    found = named_weights(wmdsl.plan("examples/atlas/motus.wm", size="tiny").model)
    assert [named.title for named in found] == [
        "codec vae", "codec t5", "codec qwen_eyes", "codec qwen_words", "trunk video_dit",
    ]  # fmt: skip


@pytest.mark.parametrize("source", [None, "random"])
def test_a_spec_without_hub_ids(source):
    module = wmdsl.compile(PARADIGMS / "mot.wm")
    assert start(module, source) is None
    assert chosen_weights(module) is None
    with pytest.raises(WeightsError, match="names no pretrained weights"):
        start(module, "hub")


def test_the_choice_must_be_made():
    module = module_of(*LINES)
    with pytest.raises(WeightsError, match="--weights random") as caught:
        start(module, None)
    assert caught.value.code == "WM880"
    assert "asked" in "\n".join(start(module, "random").lines())
    assert chosen_weights(module) == "random"


def test_smoke_asks_for_the_choice(tmp_path, capsys):
    path = tmp_path / "small.wm"
    path.write_text(spec(*LINES))
    assert main(["smoke", str(path)]) == 2
    shown = capsys.readouterr().err
    assert "error[WM880]" in shown and "a/words" in shown and "--weights random" in shown
    assert main(["smoke", str(path), "--weights", "random"]) == 0
    assert "query policy: action" in capsys.readouterr().out


def test_a_trunk_starts_as_another_resized():
    module = module_of(*LINES)
    wide, doer = module.wide["blocks"][1].ffn[0], module.doer["blocks"][1].ffn[0]
    corner = wide.weight[0, 0] * 2**0.5
    torch.testing.assert_close(doer.weight[0, 0], corner)
    assert doer.weight.shape == (64, 16) and wide.weight.shape == (128, 32)


def test_a_run_remembers_where_its_weights_came_from(tmp_path):
    """The module of a run holds the same parts as the one that was trained."""
    pytest.importorskip("transformers")
    words_of(tmp_path / "weights/a/words")
    (tmp_path / "weights/a/words/config.json").write_text("{}")
    module = module_of(*LINES)
    load_pretrained(module, str(tmp_path / "weights"))
    nn.init.normal_(module.doer["action_out"].weight)
    run, text = tmp_path / "run", module.plan.model.canonical
    run.mkdir()
    (run / "model.wm").write_text(text)
    record = {"spec_sha256": hashlib.sha256(text.encode()).hexdigest()}
    record["weights"] = chosen_weights(module)
    (run / "train.json").write_text(json.dumps(record))
    statistics = {"mean": [0.0] * 3, "std": [1.0] * 3}
    numbers = {"action": statistics, "state": {"mean": [0.0] * 2, "std": [1.0] * 2}}
    (run / "stats.json").write_text(json.dumps(numbers))
    save_tensors(run / "model.safetensors", module.state_dict())
    again = wmdsl.load(run)
    assert type(again.words) is type(module.words)
    assert torch.equal(again.doer["action_out"].weight, module.doer["action_out"].weight)
    assert again.weights_source == str(tmp_path / "weights")
