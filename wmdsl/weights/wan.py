"""Wan's video transformer of diffusers as a trunk of kind `dit`.

What its blocks have beside ours is given to the trunk: norms of queries and keys in the
cross-attention, and a last norm that adds a table to the time code.
B batch, T tokens, S source tokens, W width, C source width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from wmdsl.blocks.cross import CrossAttention
from wmdsl.blocks.dit import Runs, modulated
from wmdsl.check.model import Cross, Model, Trunk
from wmdsl.lower.names import segment_name
from wmdsl.weights import errors
from wmdsl.weights.mapped import Mapped, unchanged
from wmdsl.weights.named import Named
from wmdsl.weights.report import PartReport
from wmdsl.weights.source import Checkpoint, tensors
from wmdsl_kernels import attention

NAME = "WanTransformer3DModel"
NEEDED = {"modulation": "shared", "positions": "rope_3d", "qk_norm": "across_heads"}


class NormedCrossAttention(CrossAttention):
    """Cross-attention whose queries and keys are RMS-normalised across all heads together."""

    def __init__(self, reader: CrossAttention):
        nn.Module.__init__(self)
        self.head_dim = reader.head_dim
        self.norm, self.query = reader.norm, reader.query
        self.key_value, self.outward = reader.key_value, reader.outward
        like = reader.query.weight
        self.query_norm = nn.RMSNorm(len(like), eps=1e-6, device=like.device, dtype=like.dtype)
        self.key_norm = nn.RMSNorm(len(like), eps=1e-6, device=like.device, dtype=like.dtype)

    def read(self, x_BTW: Tensor, source_BSC: Tensor) -> Tensor:
        """What the tokens read [B, T, W]."""
        query = self.query_norm(self.query(self.norm(x_BTW)))
        key, value = self.key_value(source_BSC).chunk(2, dim=-1)
        parts = (query, self.key_norm(key), value)
        return self.outward(attention(*(self._heads(x) for x in parts)).flatten(2))

    def _heads(self, x_BTW: Tensor) -> Tensor:
        return x_BTW.unflatten(-1, (-1, self.head_dim))


class TableNorm(nn.Module):
    """The last norm, shifted and scaled by the sum of a table and the time code."""

    def __init__(self, like: Tensor):
        super().__init__()
        self.table = nn.Parameter(like.new_zeros(2, like.shape[-1]))

    def forward(self, x_BTW: Tensor, code: Runs) -> Tensor:
        shift, scale = (Runs(code.rows + row, code.lengths) for row in self.table)
        return modulated(x_BTW, shift, scale)


def load(
    module: nn.Module,
    part: nn.ModuleDict,
    model: Model,
    named: Named,
    checkpoint: Checkpoint,
) -> PartReport:
    """Fill the trunk, and the one cross-attention that reaches all of its blocks."""
    trunk: Trunk = named.part
    _check(named, trunk, checkpoint.config)
    mapped = Mapped(tensors(named, checkpoint))
    part["norm"] = TableNorm(part["blocks"][0].ffn[0].weight)
    whole = nn.ModuleDict({"trunk": part})
    cross = _cross(model, trunk)
    if cross is None:
        mapped.notes.append("no embedded cross reaches all blocks: its cross-attention is unused")
    else:
        _take_cross(mapped, module, whole, trunk, cross)
    for layer in range(trunk.layers):
        _block(mapped, trunk, layer)
    _ends(mapped, model, trunk, part)
    return mapped.fill(named, whole)


def _check(named: Named, trunk: Trunk, config: Mapping[str, object]) -> None:
    heads, size = int(config["num_attention_heads"]), int(config["attention_head_dim"])
    found = {
        "layers": (trunk.layers, config["num_layers"]),
        "width": (trunk.width, heads * size),
        "heads": (trunk.heads, heads),
        "ffn": (trunk.ffn, config["ffn_dim"]),
        **{name: (_setting(trunk, name), value) for name, value in NEEDED.items()},
    }
    wrong = [f"{name} {ours} in the spec, {theirs} in it" for name, (ours, theirs) in found.items()
             if ours != theirs]  # fmt: skip
    if wrong:
        raise errors.misfit(named, wrong)


def _setting(trunk: Trunk, name: str) -> object:
    return trunk.attributes[name] if name in trunk.attributes else getattr(trunk, name)


def halves(x: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys: rotary pairs (2k, 2k + 1) of a head become (k, k + K / 2)."""
    pairs = x.unflatten(0, (heads, -1, 2))
    return pairs.transpose(1, 2).flatten(0, 2)


def _per_head(x: Tensor, heads: int) -> Tensor:
    """The weight of a norm over all heads, as rows of heads [H, K]."""
    return halves(x, heads).unflatten(0, (heads, -1))


def _block(mapped: Mapped, trunk: Trunk, layer: int) -> None:
    ours, theirs = f"trunk.blocks.{layer}", f"blocks.{layer}"
    turn = partial(halves, heads=trunk.heads)
    places = {"q": turn, "k": turn, "v": unchanged}
    for kind in ("weight", "bias"):
        sources = [(f"{theirs}.attn1.to_{name}.{kind}", change) for name, change in places.items()]
        mapped.take_each(f"{ours}.heads.inward.{kind}", *sources)
        mapped.take(f"{ours}.heads.outward.{kind}", f"{theirs}.attn1.to_out.0.{kind}")
        mapped.take(f"{ours}.ffn.0.{kind}", f"{theirs}.ffn.net.0.proj.{kind}")
        mapped.take(f"{ours}.ffn.2.{kind}", f"{theirs}.ffn.net.2.{kind}")
    rows = partial(_per_head, heads=trunk.heads)
    for our, their in (("query", "q"), ("key", "k")):
        source = f"{theirs}.attn1.norm_{their}.weight"
        mapped.take(f"{ours}.heads.{our}_norm.weight", source, change=rows)
    mapped.take(f"{ours}.adaln.table", f"{theirs}.scale_shift_table", change=torch.flatten)


def _ends(mapped: Mapped, model: Model, trunk: Trunk, part: nn.ModuleDict) -> None:
    """Time code, shared modulation, last norm, and the way in and out of latents."""
    embedder = "condition_embedder"
    for kind in ("weight", "bias"):
        mapped.take(f"trunk.time.layers.0.{kind}", f"{embedder}.time_embedder.linear_1.{kind}")
        mapped.take(f"trunk.time.layers.2.{kind}", f"{embedder}.time_embedder.linear_2.{kind}")
        mapped.take(f"trunk.shared.1.{kind}", f"{embedder}.time_proj.{kind}")
    mapped.take("trunk.norm.table", "scale_shift_table", change=lambda x: x[0])
    for group in trunk.groups:
        codec = model.codecs.get(group.codec)
        if codec is None or codec.kind != "vae":
            continue
        name, patch = segment_name(model, group.segment), codec.attributes["patch"]
        mapped.take(f"trunk.{name}_in.weight", "patch_embedding.weight", change=_inward)
        mapped.take(f"trunk.{name}_in.bias", "patch_embedding.bias")
        if f"{name}_out" in part:
            for kind in ("weight", "bias"):
                change = partial(_outward, patch=patch)
                mapped.take(f"trunk.{name}_out.{kind}", f"proj_out.{kind}", change=change)


def _inward(kernel: Tensor) -> Tensor:
    """Kernel [W, C, time, rows, columns] -> rows of features: time, channel, row, column."""
    return kernel.transpose(1, 2).flatten(1)


def _outward(x: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """Features ordered time, row, column, channel -> time, channel, row, column."""
    return x.unflatten(0, (*patch, -1)).movedim(3, 1).flatten(0, 3)


def _cross(model: Model, trunk: Trunk) -> Cross | None:
    """The one embedded cross with a reader of every head in every block."""
    found = [
        cross
        for cross in model.crosses.values()
        if trunk.name in cross.targets
        and cross.embedded
        and cross.gate == "none"
        and len(cross.layers) == trunk.layers
        and trunk.heads == trunk.kv_heads
    ]
    return found[0] if len(found) == 1 else None


def _take_cross(
    mapped: Mapped, module: nn.Module, whole: nn.ModuleDict, trunk: Trunk, cross: Cross
) -> None:
    """Readers with norms of their own, and the embedding of the first source."""
    name = cross.name if len(cross.targets) == 1 else f"{cross.name}_{trunk.name}"
    readers, embedding = getattr(module, name), getattr(module, f"{name}_embed")
    for layer, reader in enumerate(readers):
        readers[layer] = NormedCrossAttention(reader)
        _reader(mapped, layer)
    whole["readers"] = readers
    whole["embedding"] = embedding[0] if isinstance(embedding, nn.ModuleList) else embedding
    for kind in ("weight", "bias"):
        for ours, theirs in ((0, "linear_1"), (2, "linear_2")):
            source = f"condition_embedder.text_embedder.{theirs}.{kind}"
            mapped.take(f"embedding.{ours}.{kind}", source)
    mapped.notes.append(f"cross {cross.name} was given norms of its queries and keys")


def _reader(mapped: Mapped, layer: int) -> None:
    ours, theirs = f"readers.{layer}", f"blocks.{layer}"
    for kind in ("weight", "bias"):
        mapped.take(f"{ours}.query.{kind}", f"{theirs}.attn2.to_q.{kind}")
        mapped.take(f"{ours}.key_value.{kind}", *(f"{theirs}.attn2.to_{n}.{kind}" for n in "kv"))
        mapped.take(f"{ours}.outward.{kind}", f"{theirs}.attn2.to_out.0.{kind}")
        mapped.take(f"{ours}.norm.{kind}", f"{theirs}.norm2.{kind}")
    mapped.take(f"{ours}.query_norm.weight", f"{theirs}.attn2.norm_q.weight")
    mapped.take(f"{ours}.key_norm.weight", f"{theirs}.attn2.norm_k.weight")
