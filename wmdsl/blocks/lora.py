"""Low-rank adapters beside frozen weights. B batch, T tokens, C features."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn


class Adapted(nn.Linear):
    """A frozen linear map and a trained product of low rank, which is zero at first."""

    def __init__(self, linear: nn.Linear, rank: int):
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.down = nn.Linear(linear.in_features, rank, bias=False)
        self.up = nn.Linear(rank, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return super().forward(x_BTC) + self.up(self.down(x_BTC))


def adapt(trunk: nn.ModuleDict, rank: int, trained: Collection[str]) -> None:
    """Freeze a trunk but for some of its parts; give each matrix of its blocks' attention and
    feed-forward an adapter."""
    for name, part in trunk.items():
        part.requires_grad_(name in trained)
    for block in trunk["blocks"]:
        for module in [*block.heads.modules(), *block.ffn.modules()]:
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear) and not isinstance(module, Adapted):
                    setattr(module, name, Adapted(child, rank))
