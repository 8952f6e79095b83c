"""Tiny checkpoints of the library's classes with random weights, saved where a hub id points."""

import pytest
import torch

import wmdsl

HEAD = "edition 2026\n\nmodel small {\n"


@pytest.fixture
def saved(tmp_path):
    """Save a model of a class with a config under a hub id; gives the model back."""

    def save(hub, model, component=""):
        folder = tmp_path / hub / component
        model.eval().save_pretrained(folder, safe_serialization=True)
        return model

    return save


def spec(*lines):
    return HEAD + "\n".join(f"  {line}" for line in lines) + "\n}\n"


def module_of(*lines):
    torch.manual_seed(0)
    return wmdsl.compile(spec(*lines)).eval()


def words_of(folder):
    """A tokeniser of single bytes and a few words, saved beside a checkpoint."""
    pieces = pytest.importorskip("tokenizers")
    library = pytest.importorskip("transformers")
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, "push": 3, "the": 4, "block": 5}
    tokenizer = pieces.Tokenizer(pieces.models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pieces.pre_tokenizers.Whitespace()
    fast = library.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    return fast


def as_bytes(*lines, length=12):
    rows = [[byte + 1 for byte in line.encode()] for line in lines]
    return torch.tensor([row + [0] * (length - len(row)) for row in rows])


def tiny_wan():
    """Wan's auto-encoder with 4 channels and statistics that are not the identity."""
    torch.manual_seed(1)
    return pytest.importorskip("diffusers").AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 2.0, 0.5, 1.0],
    )  # fmt: skip
