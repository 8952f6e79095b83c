"""A whole text-to-video pipeline: one step of our query is one step of the library's parts."""

import pytest
import torch

from tests.cpu.weights.conftest import as_bytes, module_of, tiny_wan, words_of
from wmdsl.weights import load_pretrained
from wmdsl.weights.errors import WeightsError

transformers = pytest.importorskip("transformers")
diffusers = pytest.importorskip("diffusers")

LINES = (
    "stream text: language[12]",
    "stream camera: video[3, 32, 32] at 10 Hz { future 5 frames }",
    'codec vae: vae { from "a/wan"; frozen; scope prefix; channels 4; compress 4x8x8 }',
    'codec words: text_encoder { from "a/wan"; frozen; channels 20; tokens 6 }',
    "trunk dit: dit { layers 2; width 24; heads 2x12; ffn 48; qk_norm across_heads; "
    'positions rope_3d; modulation shared; init "a/wan"; tokens vae(camera) }',
    "cross read: words(text) -> dit { embed }",
    "generate foresight: camera by flow",
    "query imagine: camera | text { steps 1 }",
)


def pipeline(saved, tmp_path):
    """Auto-encoder, text encoder and transformer in the layout of a pipeline."""
    vae = saved("a/wan", tiny_wan(), "vae")
    torch.manual_seed(2)
    sizes = dict(vocab_size=6, d_model=20, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    text = transformers.UMT5EncoderModel(transformers.UMT5Config(**sizes))
    dit = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4,
        out_channels=4, text_dim=20, ffn_dim=48, num_layers=2,
    )  # fmt: skip
    with torch.no_grad():
        for weight in dit.parameters():
            weight += 0.1 * torch.randn_like(weight)
    words_of(tmp_path / "a/wan/tokenizer")
    (tmp_path / "a/wan/model_index.json").write_text("{}")
    return vae, saved("a/wan", text, "text_encoder"), saved("a/wan", dit, "transformer")


@torch.no_grad()
def test_one_step_of_the_pipeline(saved, tmp_path):
    vae, encoder, dit = pipeline(saved, tmp_path)
    module = module_of(*LINES)
    report = load_pretrained(module, str(tmp_path))
    text = as_bytes("push the block", "push block", length=14)[:, :12]
    found = module.query("imagine", {"text": text}, torch.Generator().manual_seed(4))["camera"]
    noise = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(4))
    z = noise.view(2, 2, 2, 2, 4, 2, 2).permute(0, 4, 1, 2, 5, 3, 6).reshape(2, 4, 2, 4, 4)
    index = module.words.tokenizer(["push the blo", "push block"], padding="max_length",
                                   max_length=6, return_tensors="pt")  # fmt: skip
    mask = index["attention_mask"]
    state = encoder(input_ids=index["input_ids"], attention_mask=mask).last_hidden_state
    time = torch.full((2,), 1000)
    velocity = dit(z, time, state * mask[..., None]).sample
    clean = z - velocity
    mean = torch.tensor([0.1, -0.2, 0.3, 0.0])[:, None, None, None]
    deviation = torch.tensor([1.5, 2.0, 0.5, 1.0])[:, None, None, None]
    frames = vae.decode(clean * deviation + mean).sample.transpose(1, 2)
    torch.testing.assert_close(found, ((frames + 1) / 2).clamp(0, 1), rtol=1e-3, atol=2e-4)
    trunk = report.parts[-1]
    assert trunk.title == "trunk dit" and not trunk.missing and not trunk.unused


def test_another_block_does_not_fit(saved, tmp_path):
    pipeline(saved, tmp_path)
    other = [line.replace("modulation shared", "modulation per_block") for line in LINES]
    with pytest.raises(WeightsError, match="modulation per_block in the spec, shared in it"):
        load_pretrained(module_of(*other), str(tmp_path))


def test_a_cross_that_the_map_has_no_place_for(saved, tmp_path):
    pipeline(saved, tmp_path)
    other = [line.replace("{ embed }", "{ embed; layers even }") for line in LINES]
    trunk = load_pretrained(module_of(*other), str(tmp_path)).parts[-1]
    assert any("attn2" in name for name in trunk.unused)
    assert "no embedded cross" in "\n".join(trunk.lines())
