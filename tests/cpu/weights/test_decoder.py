"""Language models as trunks: the hidden states of the words are those of the library."""

import sys

import pytest
import torch

from tests.cpu.weights.conftest import as_bytes, module_of, words_of
from tests.cpu.weights.models import vlm
from wmdsl.weights import load_pretrained
from wmdsl.weights.errors import WeightsError

transformers = pytest.importorskip("transformers")

SIZES = dict(
    vocab_size=6, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=32,
)  # fmt: skip


def lines(sizes="layers 2; width 32; heads 2x16 kv 1; ffn 48", more=""):
    return (
        "stream text: language[12]",
        "stream action: action[3] at 10 Hz { future 4 steps }",
        'codec words: tokenizer { from "a/lm"; vocabulary 6; tokens 5 }',
        f'trunk lm: decoder {{ {sizes}; positions rope_1d; {more} init "a/lm"; '
        "tokens words(text), action }",
        "generate act: action by regression",
        "query policy: action | text",
    )


def library_of(kind, **more):
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0}, **SIZES, **more
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("bias", "norm.weight")):
                weight += 0.3 * torch.randn_like(weight)
    return model


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "more", "biases"),
    [
        ("Llama", "", 0),
        ("Mistral", "", 0),
        ("Qwen2", "", 2),
        ("Qwen3", "qk_norm per_head;", 0),
    ],
)
def test_hidden_states(kind, more, biases, saved, tmp_path):
    library = saved("a/lm", library_of(kind))
    words_of(tmp_path / "a/lm")
    module = module_of(*lines(more=more))
    report = load_pretrained(module, str(tmp_path))
    text = as_bytes("push the", "push block")
    index = module.words(text)
    found = hidden(module, index)
    wanted = library.model(input_ids=index).last_hidden_state
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    _, trunk = report.parts
    assert trunk.unused == ("lm_head.weight",)
    assert set(trunk.missing) == {"action_in.places", "action_out.weight", "action_out.bias"}
    assert sum(name.endswith("inward.bias") for name, _ in module.named_parameters()) == biases
    assert "rotary base 5000" in "\n".join(trunk.lines())


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "more"),
    [("Qwen2VL", ""), ("Qwen2_5_VL", ""), ("Qwen3VL", "qk_norm per_head;")],
)
def test_the_decoder_inside_a_model_of_vision_and_language(kind, more, saved, tmp_path):
    library = saved("a/lm", vlm(kind))
    words_of(tmp_path / "a/lm")
    module = module_of(*lines(more=more))
    _, trunk = load_pretrained(module, str(tmp_path)).parts
    index = module.words(as_bytes("push the", "push block"))
    wanted = library.model.language_model(input_ids=index).last_hidden_state
    torch.testing.assert_close(hidden(module, index), wanted, rtol=1e-4, atol=1e-5)
    assert all("visual" in name or name == "lm_head.weight" for name in trunk.unused)
    assert "rows and columns" in "\n".join(trunk.lines())


def hidden(module, index):
    """Hidden states of the words, which stand first and see no later token."""
    x = torch.cat([module.lm.text_in(index), module.lm.action_in(len(index))], 1)
    schedule = sys.modules[type(module).__module__].TRAIN_LM
    return module.run_lm(x, module.lm_angles, schedule)[:, : index.shape[1]]


def test_sizes_that_differ_are_named(saved, tmp_path):
    saved("a/lm", library_of("Qwen2"))
    words_of(tmp_path / "a/lm")
    module = module_of(*lines("layers 3; width 32; heads 2x16 kv 2; ffn 64"))
    with pytest.raises(WeightsError) as caught:
        load_pretrained(module, str(tmp_path))
    assert caught.value.code == "WM882"
    for part in ("layers 3 in the spec, 2 in it", "key heads 2 in the spec, 1", "ffn 64"):
        assert part in caught.value.what


def test_a_vocabulary_larger_than_declared(saved, tmp_path):
    saved("a/lm", library_of("Qwen2"))
    words_of(tmp_path / "a/lm")
    small = [line.replace("vocabulary 6", "vocabulary 4") for line in lines()]
    with pytest.raises(WeightsError, match="vocabulary 4 in the spec, 6 in it"):
        load_pretrained(module_of(*small), str(tmp_path))


def test_norms_of_queries_are_not_left_out(saved, tmp_path):
    saved("a/lm", library_of("Qwen3"))
    words_of(tmp_path / "a/lm")
    with pytest.raises(WeightsError, match="qk_norm none in the spec, per_head in it"):
        load_pretrained(module_of(*lines()), str(tmp_path))
