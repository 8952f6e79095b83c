"""Towers of models of vision and language, and SAM's encoder, equal the library's own forward."""

import pytest
import torch
from torch.nn import functional

from tests.cpu.weights.conftest import as_bytes, module_of, words_of
from tests.cpu.weights.models import TEXT, patches_of, pixels, policy, scene, vision, vlm
from wmdsl.weights import load_pretrained
from wmdsl.weights.errors import WeightsError

transformers = pytest.importorskip("transformers")

TOWER = 'codec eyes: vit { from "a/vlm"; frozen; channels 32; tokens 4 }'


def patches(x):
    """Stills [N, C, H, W] as the processor of the library cuts them, each twice in time."""
    rows = []
    for still in x:
        for top in range(0, still.shape[1], 16):
            for left in range(0, still.shape[2], 16):
                for y in (top, top + 8):
                    for z in (left, left + 8):
                        patch = still[:, y : y + 8, z : z + 8]
                        rows.append(torch.stack([patch, patch], 1).flatten())
    return torch.stack(rows)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["Qwen2VL", "Qwen2_5_VL", "Qwen3VL"])
def test_a_tower_of_vision(kind, saved, tmp_path):
    library = saved("a/vlm", vlm(kind))
    module = module_of(*policy(scene(2), TOWER, "eyes(scene)", "scene"))
    (part,) = load_pretrained(module, str(tmp_path)).parts
    x = pixels(2)
    grid = torch.tensor([[1, 4, 4]] * 4)
    wanted = library.get_image_features(patches(x.flatten(0, 1)), grid).pooler_output
    found = module.eyes(x)
    assert found.shape == (2, 2, 32, 2, 2)
    torch.testing.assert_close(found.flatten(3).transpose(2, 3).flatten(0, 1), torch.stack(wanted))
    assert not part.missing and part.used and part.unused
    assert all("visual" in name for name in part.used)
    assert not any("visual" in name for name in part.unused)
    answer = module.query("policy", {"scene": (x + 1) / 2}, torch.Generator().manual_seed(0))
    assert answer["action"].shape == (2, 4, 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("channels 32", "channels 48", "channels 48 in the spec, 32 in it"),
     ("tokens 4", "tokens 9", "tokens 9 in the spec, 4 cells a frame in it")],
)  # fmt: skip
def test_a_tower_of_other_sizes(old, new, message, saved, tmp_path):
    saved("a/vlm", vlm("Qwen2_5_VL"))
    codec = TOWER.replace(old, new)
    module = module_of(*policy(scene(1), codec, "eyes(scene)", "scene"))
    with pytest.raises(WeightsError, match=message):
        load_pretrained(module, str(tmp_path))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["Qwen2VL", "Qwen2_5_VL", "Qwen3VL"])
def test_a_language_model_as_an_encoder_of_text(kind, saved, tmp_path):
    library = saved("a/vlm", vlm(kind))
    words_of(tmp_path / "a/vlm")
    codec = 'codec words: text_encoder { from "a/vlm"; frozen; channels 32; tokens 5 }'
    module = module_of(*policy(TEXT, codec, "words(text)", "text"))
    (part,) = load_pretrained(module, str(tmp_path)).parts
    index = torch.tensor([[3, 5, 0, 0, 0]])
    mask = (index > 0).long()
    inner = library.model.language_model
    wanted = inner(input_ids=index, attention_mask=mask).last_hidden_state * mask[..., None]
    torch.testing.assert_close(module.words(as_bytes("push block")), wanted)
    assert not part.missing
    assert all("visual" in name or name == "lm_head.weight" for name in part.unused)


def sam():
    torch.manual_seed(1)
    vision = transformers.SamVisionConfig(
        hidden_size=16, output_channels=12, num_hidden_layers=2, num_attention_heads=2,
        image_size=64, patch_size=8, window_size=3, global_attn_indexes=[1], mlp_dim=24,
    )  # fmt: skip
    prompts = transformers.SamPromptEncoderConfig(hidden_size=12, image_size=64, patch_size=8)
    masks = transformers.SamMaskDecoderConfig(
        hidden_size=12, num_attention_heads=2, mlp_dim=16, iou_head_hidden_dim=8
    )
    model = transformers.SamModel(
        transformers.SamConfig(
            vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=masks
        )
    )
    with torch.no_grad():
        model.vision_encoder.pos_embed += torch.randn_like(model.vision_encoder.pos_embed)
    return model


@torch.no_grad()
def test_sam_enlarges_frames_and_cuts_its_padding_off(saved, tmp_path):
    library = saved("a/sam", sam())
    codec = 'codec eyes: vit { from "a/sam"; frozen; channels 12; tokens 8 }'
    wide = "stream scene: video[3, 16, 32] at 10 Hz { now 1 frame }"
    module = module_of(*policy(wide, codec, "eyes(scene)", "scene"))
    (part,) = load_pretrained(module, str(tmp_path)).parts
    x = pixels(1)[:, :, :, :16]
    large = functional.interpolate(x[:, 0], (32, 64), mode="bilinear", antialias=True)
    square = torch.cat([large, torch.zeros(2, 3, 32, 64)], 2)
    wanted = library.vision_encoder(square).last_hidden_state[:, :, :4]
    torch.testing.assert_close(module.eyes(x)[:, 0], wanted)
    assert not part.missing
    assert all(name.startswith("vision_encoder") for name in part.used)


@pytest.mark.parametrize("kind", ["siglip", "sam"])
def test_more_tokens_than_cells(kind, saved, tmp_path):
    saved("an/encoder", vision("siglip") if kind == "siglip" else sam())
    channels = 32 if kind == "siglip" else 12
    codec = f'codec eyes: vit {{ from "an/encoder"; channels {channels}; tokens 99 }}'
    module = module_of(*policy(scene(1), codec, "eyes(scene)", "scene"))
    with pytest.raises(WeightsError, match="tokens 99 in the spec"):
        load_pretrained(module, str(tmp_path))


@torch.no_grad()
def test_tokens_make_the_declared_compression_needless(saved, tmp_path):
    """Patches of 8 are found in the checkpoint; the spec counts what they are averaged to."""
    library = saved("an/encoder", vision("dinov2"))
    codec = 'codec eyes: vit { from "an/encoder"; channels 32; tokens 16 }'
    module = module_of(*policy(scene(1), codec, "eyes(scene)", "scene"))
    load_pretrained(module, str(tmp_path))
    x = pixels(1)
    found = module.eyes(x).flatten(3).transpose(2, 3)[:, 0]
    torch.testing.assert_close(found, patches_of(library, x[:, 0]))
