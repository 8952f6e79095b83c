"""Pretrained weights into a compiled module."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from wmdsl.blocks.resize import resize
from wmdsl.check.model import CallValue, Codec, Model
from wmdsl.lower.names import RESERVED, Names
from wmdsl.plan.parameters import read_streams
from wmdsl.weights import codes, decoder, errors, features, frames, towers, wan, words
from wmdsl.weights.library import Pretrained
from wmdsl.weights.named import Named, named_weights
from wmdsl.weights.report import PartReport, Report
from wmdsl.weights.source import Checkpoint, find

RANDOM = "random"
MAPS = {"decoder": dict.fromkeys(decoder.DECODERS, decoder.load), "dit": {wan.NAME: wan.load}}
COMPONENTS = {
    "vae": "vae",
    "vq": "vqvae",
    "vit": "image_encoder",
    "text_encoder": "text_encoder",
    "tokenizer": "tokenizer",
    "dit": "transformer",
}


def start(module: nn.Module, source: str | None) -> Report | None:
    """What a command does with `--weights`; None where the spec names no weights.

    Raises WeightsError where the spec names some and `source` is None, or the other way round.
    """
    named = named_weights(module.plan.model)
    if not named:
        if source not in (None, RANDOM):
            raise errors.nothing_named(source)
        return None
    if source is None:
        raise errors.not_chosen(named)
    return load_pretrained(module, source)


def chosen_weights(module: nn.Module) -> str | None:
    """`random`, `hub` or a folder, as a run records it; None where the spec names no weights."""
    named = named_weights(module.plan.model)
    return getattr(module, "weights_source", RANDOM) if named else None


def start_from(module: nn.Module, recorded: str | None) -> None:
    """Give a module the parts that a run was trained with; its own weights come after."""
    if recorded not in (None, RANDOM):
        load_pretrained(module, recorded)


def load_pretrained(module: nn.Module, source: str) -> Report:
    """Load every part that the spec names from `hub`, or from the folder `source / hub id`.

    `random` loads nothing and says so.  Codecs become the library's own class; trunks keep their
    blocks.  Raises WeightsError for a checkpoint that is missing, unknown or of other sizes.
    """
    if source == RANDOM:
        module.weights_source = RANDOM
        return Report(RANDOM)
    if source != "hub":
        source = str(Path(source).expanduser().resolve())
    model: Model = module.plan.model
    parts = tuple(_load(module, model, named, source) for named in named_weights(model))
    _resize(module, model)
    module.weights_source = source
    return Report(source, parts)


def _load(module: nn.Module, model: Model, named: Named, source: str) -> PartReport:
    kind = named.part.kind
    checkpoint = find(named, source, COMPONENTS.get(kind, ""))
    if not isinstance(named.part, Codec):
        return _load_trunk(module, model, named, checkpoint)
    stream = model.streams[read_streams(model, named.part)[0]]
    match kind:
        case "vae":
            made, report = frames.load(named, checkpoint)
        case "vit":
            own = checkpoint.kind in (*towers.QWEN, *towers.SAM)
            loader = towers.load if own else features.load
            made, report = loader(named, checkpoint, stream.shape[-2:])
        case "vq":
            made, report = codes.load(named, checkpoint, stream.shape[-2:])
        case "text_encoder":
            tokens = named.part.attributes["tokens"] or stream.shape[0]
            made, report = words.load(named, checkpoint, tokens)
        case "tokenizer":
            made, report = words.load_tokenizer(named, checkpoint)
        case _:
            raise errors.no_loader(named, f"a codec of kind {kind}", tuple(COMPONENTS))
    _replace(module, named.part, made)
    return report


def _load_trunk(
    module: nn.Module, model: Model, named: Named, checkpoint: Checkpoint
) -> PartReport:
    """Fill a trunk by the map of its checkpoint's class."""
    part = getattr(module, own_name("trunk", named.part.name))
    kinds = MAPS.get(named.part.kind, {})
    if checkpoint.kind not in kinds:
        raise errors.no_loader(named, f"{checkpoint.kind} as a {named.part.kind}", tuple(kinds))
    return kinds[checkpoint.kind](module, part, model, named, checkpoint)


def _replace(module: nn.Module, codec: Codec, made: Pretrained) -> None:
    """Put a codec in the place of its stand-in, with its device and precision."""
    own = next(module.parameters())
    made.frozen = codec.frozen
    made.requires_grad_(not codec.frozen).to(own.device, own.dtype).train(module.training)
    setattr(module, own_name("codec", codec.name), made)


def own_name(form: str, name: str) -> str:
    """The attribute of the emitted module that holds a declaration."""
    return Names(RESERVED).of((form, name), name, form)


def _resize(module: nn.Module, model: Model) -> None:
    """Trunks that start as another one, whose weights may just have been loaded."""
    for trunk in model.trunks.values():
        begin = trunk.attributes.get("init")
        if isinstance(begin, CallValue):
            stacks = [getattr(module, own_name("trunk", name))["blocks"]
                      for name in (trunk.name, *begin.arguments)]  # fmt: skip
            resize(*stacks)
