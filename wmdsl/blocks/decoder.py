"""Language-model decoder block. B batch, T tokens, W width, H heads, K head dim."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class SwiGLU(nn.Module):
    """silu(gate x) * (value x), back to the width; no biases."""

    def __init__(self, width: int, ffn: int):
        super().__init__()
        self.gate = nn.Linear(width, ffn, bias=False)
        self.value = nn.Linear(width, ffn, bias=False)
        self.outward = nn.Linear(ffn, width, bias=False)

    def forward(self, x_BTW: Tensor) -> Tensor:
        return self.outward(functional.silu(self.gate(x_BTW)) * self.value(x_BTW))


class DecoderBlock(nn.Module):
    """Attention and SwiGLU behind RMS norms."""

    def __init__(self, width: int, heads: nn.Module, ffn: int):
        super().__init__()
        self.heads_norm = nn.RMSNorm(width, eps=1e-6)
        self.heads = heads
        self.ffn_norm = nn.RMSNorm(width, eps=1e-6)
        self.ffn = SwiGLU(width, ffn)

    def project(self, x_BTW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value."""
        return self.heads.project(self.heads_norm(x_BTW))

    def merge(self, x_BTW: Tensor, mixed_BTHK: Tensor) -> Tensor:
        """What attention mixed, added to the tokens."""
        return x_BTW + self.heads.merge(mixed_BTHK)

    def feed(self, x_BTW: Tensor) -> Tensor:
        """The feed-forward part."""
        return x_BTW + self.ffn(self.ffn_norm(x_BTW))
