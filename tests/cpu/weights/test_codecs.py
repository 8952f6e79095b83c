"""Codecs loaded from tiny checkpoints of the library equal the library's own forward."""

import pytest
import torch

from tests.cpu.weights.conftest import as_bytes, module_of, tiny_wan, words_of
from tests.cpu.weights.models import TEXT, patches_of, pixels, policy, scene, vision
from wmdsl.weights import load_pretrained
from wmdsl.weights.errors import WeightsError

transformers = pytest.importorskip("transformers")
diffusers = pytest.importorskip("diffusers")

WAN = 'codec vae: vae { from "a/wan"; frozen; scope prefix; channels 4; compress 4x8x8 }'


def normal(latents):
    mean = torch.tensor([0.1, -0.2, 0.3, 0.0])[:, None, None, None]
    return (latents - mean) / torch.tensor([1.5, 2.0, 0.5, 1.0])[:, None, None, None]


@torch.no_grad()
@pytest.mark.parametrize("component", ["", "vae"])
def test_wan_vae(saved, tmp_path, component):
    library = saved("a/wan", tiny_wan(), component)
    module = module_of(*policy(scene(5), WAN, "vae(scene)", "scene"))
    report = load_pretrained(module, str(tmp_path))
    x = pixels(5)
    wanted = library.encode(x.transpose(1, 2)).latent_dist.mode()
    found = module.vae.encode(x)
    torch.testing.assert_close(found.transpose(1, 2), normal(wanted))
    frames = library.decode(wanted).sample
    torch.testing.assert_close(module.vae.decode(found, 4).transpose(1, 2), frames[:, :, 1:])
    (part,) = report.parts
    assert len(part.used) == len(library.state_dict()) and not part.missing and not part.unused
    assert not any(weight.requires_grad for weight in module.vae.parameters())


@torch.no_grad()
def test_wan_vae_of_full_groups(saved, tmp_path):
    """Eight frames without one ahead: the library sees a copy first, and drops what it makes."""
    library = saved("a/wan", tiny_wan())
    module = module_of(*policy(scene(8), WAN, "vae(scene)", "scene"))
    load_pretrained(module, str(tmp_path))
    x = pixels(8)
    ahead = torch.cat([x[:, :1], x], 1).transpose(1, 2)
    wanted = normal(library.encode(ahead).latent_dist.mode())[:, :, 1:]
    torch.testing.assert_close(module.vae.encode(x).transpose(1, 2), wanted)
    assert module.vae.decode(module.vae.encode(x), 8).shape == x.shape


@torch.no_grad()
def test_image_vae(saved, tmp_path):
    torch.manual_seed(1)
    library = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4, latent_channels=4,
        scaling_factor=0.2,
    )  # fmt: skip
    saved("an/image", library)
    codec = 'codec vae: vae { from "an/image"; frozen; channels 4; compress 1x8x8 }'
    module = module_of(*policy(scene(2), codec, "vae(scene)", "scene"))
    load_pretrained(module, str(tmp_path))
    x = pixels(2)
    wanted = library.encode(x.flatten(0, 1)).latent_dist.mode()
    found = module.vae.encode(x)
    torch.testing.assert_close(found.flatten(0, 1), wanted * 0.2)
    frames = library.decode(wanted).sample
    torch.testing.assert_close(module.vae.decode(found, 2).flatten(0, 1), frames)


@torch.no_grad()
def test_image_vae_that_decodes_frames_together(saved, tmp_path):
    torch.manual_seed(1)
    library = diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4,
    )  # fmt: skip
    saved("an/image", library)
    codec = 'codec vae: vae { from "an/image"; frozen; channels 4; compress 1x8x8 }'
    module = module_of(*policy(scene(2), codec, "vae(scene)", "scene"))
    load_pretrained(module, str(tmp_path))
    x = pixels(2)
    wanted = library.encode(x.flatten(0, 1)).latent_dist.mode()
    found = module.vae.encode(x)
    torch.testing.assert_close(found.flatten(0, 1), wanted * 0.18215)
    frames = library.decode(wanted, num_frames=2).sample
    torch.testing.assert_close(module.vae.decode(found, 2).flatten(0, 1), frames)


def tiny_ltx():
    torch.manual_seed(1)
    model = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        down_block_types=("LTXVideoDownBlock3D",) * 2, layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1), spatio_temporal_scaling=(True, True),
        decoder_spatio_temporal_scaling=(True, True), decoder_inject_noise=(False,) * 3,
        downsample_type=("conv", "conv"), upsample_residual=(False, False),
        upsample_factor=(1, 1), patch_size=2,
    )  # fmt: skip
    model.latents_mean += 0.3
    model.latents_std *= 2
    return model


@torch.no_grad()
def test_ltx_vae_of_a_clip_and_of_stills(saved, tmp_path):
    library = saved("a/ltx", tiny_ltx())
    clip = 'codec vae: vae { from "a/ltx"; frozen; scope prefix; channels 8; compress 4x8x8 }'
    module = module_of(*policy(scene(5), clip, "vae(scene)", "scene"))
    load_pretrained(module, str(tmp_path))
    x = pixels(5)
    wanted = library.encode(x.transpose(1, 2)).latent_dist.mode()
    found = module.vae.encode(x)
    torch.testing.assert_close(found.transpose(1, 2), (wanted - 0.3) / 2)
    frames = library.decode(wanted).sample
    torch.testing.assert_close(module.vae.decode(found, 5).transpose(1, 2), frames)
    still = 'codec vae: vae { from "a/ltx"; frozen; channels 8; compress 1x8x8 }'
    module = module_of(*policy(scene(2), still, "vae(scene)", "scene"))
    load_pretrained(module, str(tmp_path))
    wanted = library.encode(x[:, 1:2].transpose(1, 2)).latent_dist.mode()
    found = module.vae.encode(x[:, :2])
    torch.testing.assert_close(found[:, 1:].transpose(1, 2), (wanted - 0.3) / 2)
    frame = library.decode(wanted).sample
    torch.testing.assert_close(module.vae.decode(found, 2)[:, 1:].transpose(1, 2), frame)


@torch.no_grad()
@pytest.mark.parametrize("frames", [5, 8])
def test_cogvideox_vae(frames, saved, tmp_path):
    torch.manual_seed(1)
    library = diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1,
        norm_num_groups=4, scaling_factor=0.7,
    )  # fmt: skip
    saved("a/cog", library)
    clip = 'codec vae: vae { from "a/cog"; frozen; scope prefix; channels 4; compress 4x8x8 }'
    module = module_of(*policy(scene(frames), clip, "vae(scene)", "scene"))
    (part,) = load_pretrained(module, str(tmp_path)).parts
    x = pixels(frames)
    ahead = x if frames % 4 == 1 else torch.cat([x[:, :1], x], 1)
    wanted = library.encode(ahead.transpose(1, 2)).latent_dist.mode()
    found = module.vae.encode(x).transpose(1, 2)
    torch.testing.assert_close(found, 0.7 * wanted[:, :, -found.shape[2] :])
    whole = found if frames % 4 == 1 else torch.cat([found[:, :, :1], found], 2)
    decoded = library.decode(whole / 0.7).sample[:, :, -frames:]
    torch.testing.assert_close(
        module.vae.decode(found.transpose(1, 2), frames).transpose(1, 2), decoded
    )
    assert not part.missing and not part.unused


@torch.no_grad()
@pytest.mark.parametrize("kind", ["siglip", "dinov2", "vit", "vit_mae", "clip"])
def test_image_encoders(kind, saved, tmp_path):
    library = saved("an/encoder", vision(kind))
    codec = 'codec eyes: vit { from "an/encoder"; channels 32; compress 1x8x8; patch 1x1x1 }'
    module = module_of(*policy(scene(2), codec, "eyes(scene)", "scene"))
    report = load_pretrained(module, str(tmp_path))
    x = pixels(2)
    wanted = patches_of(library, x.flatten(0, 1))
    found = module.eyes(x).flatten(3).transpose(2, 3)
    torch.testing.assert_close(found.flatten(0, 1), wanted)
    assert not report.parts[0].missing
    answer = module.query("policy", {"scene": (x + 1) / 2}, torch.Generator().manual_seed(0))
    assert answer["action"].shape == (2, 4, 3)


@torch.no_grad()
@pytest.mark.parametrize("scope", ["clip", "frame"])
def test_v_jepa2(scope, saved, tmp_path):
    torch.manual_seed(1)
    config = transformers.VJEPA2Config(
        patch_size=8, crop_size=32, frames_per_clip=4, tubelet_size=2, hidden_size=36,
        num_attention_heads=2, num_hidden_layers=2, pred_hidden_size=24,
        pred_num_attention_heads=2, pred_num_hidden_layers=1,
    )  # fmt: skip
    library = saved("a/clip", transformers.VJEPA2Model(config))
    codec = (
        'codec eyes: vit { from "a/clip"; frozen; channels 36; compress 2x8x8; patch 1x1x1; '
        f"scope {scope} }}"
    )
    module = module_of(*policy(scene(4), codec, "eyes(scene)", "scene"))
    load_pretrained(module, str(tmp_path))
    x = pixels(4)
    clips = [x] if scope == "clip" else [x[:, :2], x[:, 2:]]
    parts = [library(clip, skip_predictor=True).last_hidden_state for clip in clips]
    found = module.eyes(x).flatten(3).transpose(2, 3).flatten(1, 2)
    torch.testing.assert_close(found, torch.cat(parts, 1))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["T5", "UMT5"])
def test_t5_encoders(kind, saved, tmp_path):
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=6, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4
    )
    library = saved("a/t5", getattr(transformers, f"{kind}EncoderModel")(config))
    words_of(tmp_path / "a/t5")
    codec = 'codec words: text_encoder { from "a/t5"; frozen; channels 32; tokens 5 }'
    module = module_of(*policy(TEXT, codec, "words(text)", "text"))
    report = load_pretrained(module.train(), str(tmp_path))
    index = torch.tensor([[3, 4, 0, 0, 0], [3, 5, 0, 0, 0], [3, 4, 0, 0, 0]])
    mask = (index > 0).long()
    wanted = library(input_ids=index, attention_mask=mask).last_hidden_state * mask[..., None]
    text = as_bytes("push the", "push block", "push the")
    torch.testing.assert_close(module.words(text), wanted)
    assert not report.parts[0].missing


@torch.no_grad()
def test_clip_text(saved, tmp_path):
    torch.manual_seed(1)
    config = transformers.CLIPTextConfig(
        vocab_size=6, hidden_size=32, intermediate_size=48, projection_dim=24,
        num_hidden_layers=2, num_attention_heads=2, eos_token_id=1, max_position_embeddings=16,
    )  # fmt: skip
    library = saved("a/clip", transformers.CLIPTextModelWithProjection(config))
    words_of(tmp_path / "a/clip")
    codec = 'codec words: text_encoder { from "a/clip"; frozen; channels 24; tokens 1 }'
    module = module_of(*policy(TEXT, codec, "words(text)", "text"))
    load_pretrained(module, str(tmp_path))
    wanted = library(input_ids=torch.tensor([[3, 5]])).text_embeds
    torch.testing.assert_close(module.words(as_bytes("push block"))[:, 0], wanted)


@torch.no_grad()
def test_siglip_text(saved, tmp_path):
    torch.manual_seed(1)
    config = transformers.SiglipTextConfig(
        vocab_size=6, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=5,
    )  # fmt: skip
    library = saved("a/siglip", transformers.SiglipTextModel(config))
    words_of(tmp_path / "a/siglip")
    codec = 'codec words: text_encoder { from "a/siglip"; frozen; channels 32; tokens 5 }'
    module = module_of(*policy(TEXT, codec, "words(text)", "text"))
    load_pretrained(module, str(tmp_path))
    index = torch.tensor([[3, 5, 0, 0, 0]])
    mask = (index > 0).long()
    wanted = library(input_ids=index, attention_mask=mask).last_hidden_state * mask[..., None]
    torch.testing.assert_close(module.words(as_bytes("push block")), wanted)


def test_sizes_that_differ_are_named(saved, tmp_path):
    saved("a/wan", tiny_wan())
    codec = WAN.replace("channels 4", "channels 6").replace("4x8x8", "2x8x8")
    module = module_of(*policy(scene(5), codec, "vae(scene)", "scene"))
    with pytest.raises(WeightsError) as caught:
        load_pretrained(module, str(tmp_path))
    assert caught.value.code == "WM882"
    assert "channels 6 in the spec, 4 in it" in caught.value.what
    assert "compress 2x8x8 in the spec, 4x8x8 in it" in caught.value.what


def test_a_checkpoint_that_is_not_there(tmp_path):
    module = module_of(*policy(scene(5), WAN, "vae(scene)", "scene"))
    with pytest.raises(WeightsError) as caught:
        load_pretrained(module, str(tmp_path))
    assert caught.value.code == "WM881"
    assert str(tmp_path) in caught.value.where


def test_a_class_without_a_loader(saved, tmp_path):
    config = transformers.BertConfig(
        vocab_size=6, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    saved("a/bert", transformers.BertModel(config))
    codec = 'codec words: text_encoder { from "a/bert"; frozen; channels 32; tokens 5 }'
    module = module_of(*policy(TEXT, codec, "words(text)", "text"))
    with pytest.raises(WeightsError, match="bert has no loader"):
        load_pretrained(module, str(tmp_path))
