"""Language-model decoders of transformers (Llama's layout) as trunks of kind `decoder`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wmdsl.check.model import Model, Trunk
from wmdsl.lower.names import segment_name
from wmdsl.weights import errors
from wmdsl.weights.mapped import Mapped
from wmdsl.weights.named import Named
from wmdsl.weights.report import PartReport
from wmdsl.weights.source import Checkpoint, tensors

DECODERS = ("llama", "mistral", "qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_vl")
QUERY_NORM = "layers.0.self_attn.q_norm.weight"
PREFIXES = ("model.language_model.", "language_model.model.", "model.")


def load(
    module: nn.Module,
    part: nn.ModuleDict,
    model: Model,
    named: Named,
    checkpoint: Checkpoint,
) -> PartReport:
    """Fill the trunk's blocks, final norm and word tables; set its rotary angles."""
    trunk: Trunk = named.part
    config = _text_config(checkpoint.config)
    mapped = Mapped(_plain(tensors(named, checkpoint)))
    _check(named, trunk, config, mapped)
    _extend(part, mapped)
    for layer in range(trunk.layers):
        _block(mapped, trunk, layer)
    mapped.take("norm.weight", "norm.weight")
    _words(mapped, model, trunk, part, bool(checkpoint.config.get("tie_word_embeddings")))
    _settings(mapped, part, trunk, config, getattr(module, f"{trunk.name}_angles", None))
    return mapped.fill(named, part)


def _text_config(config: Mapping[str, object]) -> Mapping[str, object]:
    """A model of vision and language nests its decoder's sizes."""
    return {**config, **(config.get("text_config") or {})}


def _check(named: Named, trunk: Trunk, config: Mapping[str, object], mapped: Mapped) -> None:
    """Sizes that the shapes of the weights alone would not tell apart, and norms of queries."""
    heads = config["num_attention_heads"]
    found = {
        "layers": (trunk.layers, config["num_hidden_layers"]),
        "width": (trunk.width, config["hidden_size"]),
        "heads": (trunk.heads, heads),
        "key heads": (trunk.kv_heads, config.get("num_key_value_heads") or heads),
        "ffn": (trunk.ffn, config["intermediate_size"]),
        "qk_norm": (trunk.qk_norm, "per_head" if mapped.has(QUERY_NORM) else "none"),
    }
    wrong = [
        f"{name} {ours} in the spec, {theirs} in it"
        for name, (ours, theirs) in found.items()
        if ours != theirs and not (name == "layers" and ours < theirs)
    ]
    if wrong:
        raise errors.misfit(named, wrong)


def _plain(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefix of the decoder's place in a larger model."""
    prefix = next((p for p in PREFIXES if any(name.startswith(p) for name in given)), "")
    return {name.removeprefix(prefix): value for name, value in given.items()}


def _extend(part: nn.ModuleDict, mapped: Mapped) -> None:
    """Biases of queries, keys and values, which our blocks lack, where the checkpoint has them."""
    if not mapped.has("layers.0.self_attn.q_proj.bias"):
        return
    for block in part["blocks"]:
        inward = block.heads.inward
        inward.bias = nn.Parameter(inward.weight.new_zeros(len(inward.weight)))
    mapped.notes.append("its queries, keys and values have biases; the trunk was given them")


def _block(mapped: Mapped, trunk: Trunk, layer: int) -> None:
    ours, theirs = f"blocks.{layer}", f"layers.{layer}"
    attention = f"{theirs}.self_attn"
    for kind in ("weight", "bias"):
        if mapped.has(f"{attention}.q_proj.{kind}"):
            sources = (f"{attention}.{name}_proj.{kind}" for name in "qkv")
            mapped.take(f"{ours}.heads.inward.{kind}", *sources)
    mapped.take(f"{ours}.heads.outward.weight", f"{attention}.o_proj.weight")
    if trunk.qk_norm == "per_head":
        mapped.take(f"{ours}.heads.query_norm.weight", f"{attention}.q_norm.weight")
        mapped.take(f"{ours}.heads.key_norm.weight", f"{attention}.k_norm.weight")
    mapped.take(f"{ours}.heads_norm.weight", f"{theirs}.input_layernorm.weight")
    mapped.take(f"{ours}.ffn_norm.weight", f"{theirs}.post_attention_layernorm.weight")
    for our, their in (("gate", "gate"), ("value", "up"), ("outward", "down")):
        mapped.take(f"{ours}.ffn.{our}.weight", f"{theirs}.mlp.{their}_proj.weight")


def _words(mapped: Mapped, model: Model, trunk: Trunk, part: nn.ModuleDict, tied: bool) -> None:
    """Tables of groups whose indices a tokenizer makes, and their heads."""
    for group in trunk.groups:
        codec = model.codecs.get(group.codec)
        if codec is None or codec.kind != "tokenizer":
            continue
        name = segment_name(model, group.segment)
        table = "weight" if isinstance(part[f"{name}_in"], nn.Embedding) else "table.weight"
        mapped.take(f"{name}_in.{table}", "embed_tokens.weight")
        if f"{name}_out" in part:
            source = "embed_tokens.weight" if tied else "lm_head.weight"
            mapped.take(f"{name}_out.weight", source)
            mapped.notes.append(f"the bias of {name}_out, which the checkpoint lacks, stays zero")


def _settings(
    mapped: Mapped,
    part: nn.ModuleDict,
    trunk: Trunk,
    config: Mapping[str, object],
    angles: Tensor | None,
) -> None:
    """What a checkpoint was trained with beside its weights: the norms' eps, the rotary base."""
    eps = float(config.get("rms_norm_eps", 1e-6))
    for layer in part.modules():
        if isinstance(layer, nn.RMSNorm):
            layer.eps = eps
    base = _rotary_base(config)
    if _rotary(config).get("mrope_section"):
        mapped.notes.append("its images had places in rows and columns; here all stand in one row")
    if angles is None:
        mapped.notes.append(f"it had rotary positions, the trunk has {trunk.positions}")
    else:
        angles.copy_(_angles(len(angles), trunk.head_dim, base))
        mapped.notes.append(f"rotary base {base:g}, eps of norms {eps:g}")


def _rotary(config: Mapping[str, object]) -> Mapping[str, object]:
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _rotary_base(config: Mapping[str, object]) -> float:
    return float(config.get("rope_theta") or _rotary(config).get("rope_theta") or 10000.0)


def _angles(count: int, head_dim: int, base: float) -> Tensor:
    """Angles [T, K / 2] of places 0, 1, 2, ..."""
    rates = base ** (-torch.arange(0, head_dim, 2) / head_dim)
    return torch.outer(torch.arange(count), rates)
