"""Text encoders and tokenisers of transformers behind the calls of our own.

B batch, T bytes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from wmdsl.weights import errors
from wmdsl.weights.library import Pretrained, imported, model_of
from wmdsl.weights.named import Named
from wmdsl.weights.pieces import config_of, piece_of
from wmdsl.weights.report import PartReport
from wmdsl.weights.source import Checkpoint

CLASSES = {
    "t5": "T5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "clip": "CLIPTextModelWithProjection",
    "clip_text_model": "CLIPTextModelWithProjection",
    "siglip": "SiglipTextModel",
    "siglip_text_model": "SiglipTextModel",
}
POOLED = ("clip", "clip_text_model")
# Language models, of which the last hidden states are taken; some are a part of a larger one.
DECODERS = {
    "llama": "LlamaModel",
    "qwen2": "Qwen2Model",
    "qwen3": "Qwen3Model",
    "qwen2_vl": "Qwen2VLTextModel",
    "qwen2_5_vl": "Qwen2_5_VLTextModel",
    "qwen3_vl": "Qwen3VLTextModel",
}
PREFIXES = ("model.language_model.", "language_model.model.", "model.")


def texts(bytes_BT: Tensor) -> list[str]:
    """Bytes (byte + 1, 0 pads) -> text; what is no UTF-8 is replaced."""
    rows = [bytes(byte - 1 for byte in row if byte) for row in bytes_BT.tolist()]
    return [row.decode("utf-8", errors="replace") for row in rows]


class PretrainedWords(Pretrained):
    """Bytes [B, T] -> features [B, tokens, W], zero behind the end of the text.

    Where `pooled` the one token is the projected summary of the text.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, tokens: int, pooled: bool):
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.tokens = tokens
        self.pooled = pooled

    def forward(self, bytes_BT: Tensor) -> Tensor:
        own, text_of_sample = torch.unique(bytes_BT, dim=0, return_inverse=True)
        device = bytes_BT.device
        longest = {} if self.pooled else {"max_length": self.tokens}
        read = self.tokenizer(texts(own), padding="longest" if self.pooled else "max_length",
                              truncation=True, return_tensors="pt", **longest)  # fmt: skip
        index, mask = read["input_ids"].to(device), read["attention_mask"].to(device)
        answer = self.model(input_ids=index, attention_mask=mask)
        if self.pooled:
            return answer.text_embeds[:, None][text_of_sample]
        return (answer.last_hidden_state * mask[..., None])[text_of_sample]


class PretrainedTokenizer(Pretrained):
    """Bytes [B, T] -> indices [B, tokens] of a pretrained vocabulary, padded or cut."""

    def __init__(self, tokenizer: Any, tokens: int):
        super().__init__()
        self.tokenizer = tokenizer
        self.tokens = tokens

    def forward(self, bytes_BT: Tensor) -> Tensor:
        read = self.tokenizer(texts(bytes_BT), padding="max_length", truncation=True,
                              max_length=self.tokens, return_tensors="pt")  # fmt: skip
        return read["input_ids"].to(bytes_BT.device)


def load(
    named: Named, checkpoint: Checkpoint, tokens: int
) -> tuple[Pretrained, PartReport]:
    """The encoder of a `text_encoder` with so many tokens; WeightsError where widths differ."""
    model, report = _encoder(named, checkpoint)
    pooled = checkpoint.kind in POOLED and tokens == 1
    config = model.config
    width = config.projection_dim if pooled else getattr(config, "d_model", config.hidden_size)
    declared = named.part.attributes["channels"]
    if declared != width:
        raise errors.misfit(named, [f"channels {declared} in the spec, {width} in it"])
    module = PretrainedWords(model, _tokenizer(named, checkpoint), tokens, pooled)
    note = "one token: the projected summary of the text" if pooled else "padding is zero"
    notes = (note, "the last hidden states of a language model") if _speaks(checkpoint) else (note,)
    return module, replace(report, notes=notes)


def _speaks(checkpoint: Checkpoint) -> bool:
    return checkpoint.kind in DECODERS


def _encoder(named: Named, checkpoint: Checkpoint) -> tuple[Any, PartReport]:
    """The model that reads the text: an encoder, or the blocks of a language model."""
    if not _speaks(checkpoint):
        return model_of(named, checkpoint, "transformers", {**CLASSES, **DECODERS})
    config = config_of(named, checkpoint).get_text_config()
    model = getattr(imported("transformers"), DECODERS[checkpoint.kind])(config).eval()
    return model, piece_of(named, checkpoint, model, PREFIXES)


def load_tokenizer(named: Named, checkpoint: Checkpoint) -> tuple[Pretrained, PartReport]:
    """The tokeniser of a `tokenizer`; WeightsError where its vocabulary is larger than declared."""
    tokenizer, declared = _tokenizer(named, checkpoint), named.part.attributes["vocabulary"]
    if len(tokenizer) > declared:
        size = f"vocabulary {declared} in the spec, {len(tokenizer)} in it"
        raise errors.misfit(named, [size])
    note = f"{len(tokenizer)} of {declared} indices are words of its vocabulary"
    module = PretrainedTokenizer(tokenizer, named.part.attributes["tokens"])
    return module, PartReport(named.title, named.hub, notes=(note,))


def _tokenizer(named: Named, checkpoint: Checkpoint) -> Any:
    beside = checkpoint.folder.parent / "tokenizer"
    folder = beside if (beside / "tokenizer_config.json").is_file() else checkpoint.folder
    try:
        load = imported("transformers").AutoTokenizer.from_pretrained
        tokenizer = load(str(folder), local_files_only=True)
    except (OSError, ValueError) as reason:
        raise errors.absent(named, folder, str(reason).strip().splitlines()[0]) from None
    tokenizer.padding_side = "right"  # those of language models may pad in front
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
