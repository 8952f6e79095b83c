"""Specs and tiny models that tests of loaders share; without the library all are skipped."""

import pytest
import torch

transformers = pytest.importorskip("transformers")

TRUNK = "trunk doer: dit { layers 1; width 32; heads 2x16; tokens %s }"
ACT = (
    "stream action: action[3] at 10 Hz { future 4 steps }",
    "generate act: action by flow",
    "query policy: action | %s { steps 2 }",
)
TEXT = "stream text: language[12]"
TEXT_SIZES = dict(
    vocab_size=6, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=32,
)  # fmt: skip
ROTARY = {"rope_type": "default", "rope_theta": 5000.0, "mrope_section": [2, 3, 3]}


def policy(stream, codec, tokens, given):
    """A policy that reads one codec's tokens and acts."""
    return (stream, ACT[0], codec, TRUNK % f"{tokens}, action", ACT[1], ACT[2] % given)


def scene(frames, size=32):
    return f"stream scene: video[3, {size}, {size}] at 10 Hz {{ now {frames} frames }}"


def pixels(frames, size=32):
    return 2 * torch.rand(2, frames, 3, size, size, generator=torch.Generator().manual_seed(1)) - 1


def vision(kind):
    torch.manual_seed(1)
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=8)
    if kind == "siglip":
        config = transformers.SiglipVisionConfig(image_size=32, intermediate_size=48, **sizes)
        return transformers.SiglipVisionModel(config)
    if kind == "dinov2":
        return transformers.Dinov2Model(transformers.Dinov2Config(image_size=32, **sizes))
    if kind == "clip":
        config = transformers.CLIPVisionConfig(image_size=32, intermediate_size=48, **sizes)
        return transformers.CLIPVisionModel(config)
    if kind == "vit_mae":
        config = transformers.ViTMAEConfig(
            image_size=32, intermediate_size=48, mask_ratio=0.75, **sizes
        )
        return transformers.ViTMAEModel(config)
    config = transformers.ViTConfig(image_size=32, intermediate_size=48, **sizes)
    return transformers.ViTModel(config, add_pooling_layer=True)


def patches_of(library, x):
    """The library's own features of all patches; none is masked."""
    order = {}
    if isinstance(library, transformers.ViTMAEModel):
        library.config.mask_ratio = 0.0
        order = {"noise": torch.arange(16.0).expand(len(x), -1)}
    return library.eval()(x, **order).last_hidden_state[:, -16:]


def vlm(kind):
    """A model of vision and language with patches of 8, of which 2 x 2 are merged."""
    torch.manual_seed(1)
    vision = dict(depth=2, num_heads=2, patch_size=8, temporal_patch_size=2, spatial_merge_size=2)
    if kind == "Qwen2VL":
        vision |= dict(embed_dim=16, hidden_size=32, mlp_ratio=2)
    elif kind == "Qwen2_5_VL":
        vision |= dict(hidden_size=16, intermediate_size=24, out_hidden_size=32, window_size=16,
                       fullatt_block_indexes=[1])  # fmt: skip
    else:
        vision |= dict(hidden_size=16, intermediate_size=24, out_hidden_size=32,
                       num_position_embeddings=9, deepstack_visual_indexes=[0])  # fmt: skip
    text = {**TEXT_SIZES, "rope_parameters": ROTARY}
    config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=vision)
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return model
