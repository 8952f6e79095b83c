"""What surrounds attention in a block steered by a time code: modulated norm, gated residual.

In: tokens, and per run of tokens (a stream at a timestep) one row of shift, scale or gate.
Out: tokens. Each row is read where it is used; it is never spread over the tokens.
Invariant: a back end computes the same function or refuses with a reason.

Importing this loads no torch. B batch, T tokens, W width, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def modulated_norm(
    x: torch.Tensor,
    shift: torch.Tensor,
    scale: torch.Tensor,
    lengths: Sequence[int] | None = None,
    *,
    kind: str = "layer",
    epsilon: float = 1e-5,
    backend: str | None = None,
) -> torch.Tensor:
    """norm(x) (1 + scale) + shift, without weights of the norm's own.

    x [B, T, W]; shift and scale [B, R, W], whose row r belongs to the next `lengths[r]` tokens
    (None: one row for all tokens) -> [B, T, W]. `kind` is "layer" or "rms". Under autocast the
    tensors take the widest of their dtypes. Raises ArgumentError for what does not fit, and
    DispatchError where the named back end refuses.
    """
    from wmdsl_kernels.adaln.dispatch import normalise

    return normalise(x, shift, scale, lengths, kind, epsilon, backend)


def gated_residual(
    x: torch.Tensor,
    change: torch.Tensor,
    gate: torch.Tensor,
    lengths: Sequence[int] | None = None,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """x + gate * change.

    x and change [B, T, W]; gate [B, R, W], whose row r belongs to the next `lengths[r]` tokens
    (None: one row for all tokens) -> [B, T, W]. Autocast and errors as in `modulated_norm`.
    """
    from wmdsl_kernels.adaln.dispatch import add_gated

    return add_gated(x, change, gate, lengths, backend)


def explain_rowwise(*tensors: torch.Tensor) -> list[tuple[str, bool, str]]:
    """(back end, whether it accepts, why not) for the tensors of either function."""
    from wmdsl_kernels.adaln.dispatch import explain

    return explain(*tensors)


__all__ = ["explain_rowwise", "gated_residual", "modulated_norm"]
