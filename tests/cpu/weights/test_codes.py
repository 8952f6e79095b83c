"""Code books loaded from tiny checkpoints of the library equal the library's own forward."""

import json

import pytest
import torch

from tests.cpu.weights.conftest import module_of
from wmdsl.weights import load_pretrained
from wmdsl.weights.errors import WeightsError

transformers = pytest.importorskip("transformers")
diffusers = pytest.importorskip("diffusers")

CODEC = 'codec codes: vq { from "a/book"; frozen; codes 24; tokens 16 }'


def lines(codec=CODEC):
    return (
        "stream scene: video[3, 32, 32] at 10 Hz { now 1 frame; future 1 frame }",
        codec,
        "trunk lm: decoder { layers 1; width 32; heads 2x16; positions rope_1d; "
        "tokens codes(scene) }",
        "generate next: scene.future by autoregressive",
        "query imagine: scene.future | scene.now",
    )


def book(kind):
    torch.manual_seed(1)
    if kind == "VQModel":
        return diffusers.VQModel(
            block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4, latent_channels=6,
            num_vq_embeddings=24, vq_embed_dim=5,
        )  # fmt: skip
    config = transformers.Emu3VQVAEConfig(
        codebook_size=24, embed_dim=6, latent_channels=6, base_channels=32,
        channel_multiplier=[1, 1, 1, 1], num_res_blocks=1, attn_resolutions=[2], hidden_size=32,
        num_attention_heads=1, temporal_downsample_factor=2,
    )  # fmt: skip
    return transformers.Emu3VQVAE(config)


def read(library, x):
    """The library's own indices of stills, and its own pictures of these."""
    if isinstance(library, transformers.Emu3VQVAE):
        sizes = torch.tensor([[32, 32]] * len(x))
        index = torch.stack(library.encode(x, sizes).image_tokens)
        return index.flatten(1), library.decode(index)
    latents = library.encode(x).latents
    index = library.quantize(latents)[2][2].view(len(x), -1)
    return index, library.decode(latents).sample


@torch.no_grad()
@pytest.mark.parametrize("kind", ["VQModel", "Emu3VQVAE"])
@pytest.mark.parametrize("described", [False, True])
def test_indices_and_pictures(kind, described, saved, tmp_path):
    library = saved("a/book", book(kind))
    if described:
        said = {"image_mean": [0.4] * 3, "image_std": [0.2] * 3}
        (tmp_path / "a/book/preprocessor_config.json").write_text(json.dumps(said))
    module = module_of(*lines())
    (part,) = load_pretrained(module, str(tmp_path)).parts
    generator = torch.Generator().manual_seed(1)
    x = 2 * torch.rand(2, 2, 3, 32, 32, generator=generator) - 1
    mean, deviation = (0.4, 0.2) if described else (0.5, 0.5)
    index, frames = read(library, ((x.flatten(0, 1) + 1) / 2 - mean) / deviation)
    found = module.codes.encode(x)
    assert torch.equal(found, index.unflatten(0, (2, 2)).flatten(1))
    assert len(index.unique()) > 1
    wanted = 2 * (frames * deviation + mean) - 1
    torch.testing.assert_close(
        module.codes.decode(found).flatten(0, 1), wanted, rtol=1e-4, atol=1e-5
    )
    assert not part.missing and not part.unused
    answer = module.query("imagine", {"scene": (x[:, :1] + 1) / 2}, generator)
    assert answer["scene"].shape == (2, 1, 3, 32, 32)


def test_a_book_inside_of_a_larger_model(saved, tmp_path):
    text = transformers.Emu3TextConfig(
        vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    vocabulary = {f"<|visual token {n:06d}|>": n for n in range(24)} | {"<image>": 30}
    vocabulary |= {"<|extra_200|>": 31, "<|image token|>": 32}
    config = transformers.Emu3Config(
        vq_config=book("Emu3VQVAE").config.to_dict(), text_config=text.to_dict(),
        vocabulary_map=vocabulary,
    )  # fmt: skip
    library = saved("a/book", transformers.Emu3Model(config))
    module = module_of(*lines())
    (part,) = load_pretrained(module, str(tmp_path)).parts
    assert not part.missing
    assert all("vqmodel" in name for name in part.used)
    assert part.unused and not any("vqmodel" in name for name in part.unused)
    x = torch.rand(1, 1, 3, 32, 32)
    index, _ = read(library.vqmodel, x[:, 0])
    assert torch.equal(module.codes.encode(x), index)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("codes 24", "codes 32", "codes 32 in the spec, 24 in it"),
     ("tokens 16", "tokens 4", "tokens 4 in the spec, 16 in it")],
)  # fmt: skip
def test_sizes_that_differ_are_named(old, new, message, saved, tmp_path):
    saved("a/book", book("VQModel"))
    module = module_of(*lines(CODEC.replace(old, new)))
    with pytest.raises(WeightsError, match=message):
        load_pretrained(module, str(tmp_path))
