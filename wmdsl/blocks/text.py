"""Text bytes through a small encoder. B batch, T bytes, W width, H heads, K head dim."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wmdsl.blocks.heads import Heads
from wmdsl.blocks.vit import ViTBlock


class BytesEncoder(nn.Module):
    """Bytes [B, T] (byte + 1, 0 pads) -> pooled tokens [B, tokens, W]; padding is never read."""

    def __init__(self, length: int, width: int, layers: int, heads: int, tokens: int):
        super().__init__()
        self.table = nn.Embedding(257, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(
            [
                ViTBlock(width, Heads(width, heads, heads, width // heads), 4 * width)
                for _ in range(layers)
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, tokens, bias=False)

    def forward(self, bytes_BT: Tensor) -> Tensor:
        # How many texts differ the host learns of a GPU only by waiting, which no CUDA graph can.
        if len(bytes_BT) == 1 or (bytes_BT.is_cuda and not torch.is_grad_enabled()):
            return self.encoded(bytes_BT)
        # Most samples of a batch share their instruction: each text is encoded once.
        texts, text_of_sample = torch.unique(bytes_BT, dim=0, return_inverse=True)
        return self.encoded(texts)[text_of_sample]

    def encoded(self, bytes_BT: Tensor) -> Tensor:
        """Every row by itself."""
        # A large finite number: an empty text must not become NaN.
        hidden = torch.zeros(bytes_BT.shape, device=bytes_BT.device, dtype=self.places.dtype)
        hidden = hidden.masked_fill(bytes_BT == 0, -1e9)
        x = self.table(bytes_BT) + self.places
        for block in self.blocks:
            heads = [part.transpose(1, 2) for part in block.project(x)]
            mixed = functional.scaled_dot_product_attention(*heads, attn_mask=hidden[:, None, None])
            x = block.feed(block.merge(x, mixed.transpose(1, 2)))
        x = self.norm(x)
        weight = (self.scores(x) + hidden[..., None]).softmax(dim=1)
        return weight.transpose(1, 2) @ x


class HashTokenizer(nn.Module):
    """Bytes (byte + 1, 0 pads) -> one index for each run of them [B, tokens]; 0 where all pad."""

    def __init__(self, tokens: int, vocabulary: int):
        super().__init__()
        self.tokens = tokens
        self.vocabulary = vocabulary

    def forward(self, bytes_BT: Tensor) -> Tensor:
        each = -(-bytes_BT.shape[1] // self.tokens)
        padded = functional.pad(bytes_BT, (0, self.tokens * each - bytes_BT.shape[1]))
        runs = padded.unflatten(1, (self.tokens, each))
        index = torch.zeros_like(runs[..., 0])
        for byte in runs.unbind(dim=2):
            index = (257 * index + byte) % (self.vocabulary - 1)
        return torch.where(runs.any(dim=2), index + 1, 0)
