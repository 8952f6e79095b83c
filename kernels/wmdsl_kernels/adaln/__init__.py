"""What surrounds attention in a block steered by a time code: modulated norm, gated residual.

In: tokens, and per run of tokens (a stream at a timestep) one row of shift, scale or gate.
Out: tokens. Each row is read where it is used; it is never spread over the tokens.
Invariant: a back end computes the same function or refuses with a reason.
"""

from wmdsl_kernels.adaln.dispatch import explain_rowwise, gated_residual, modulated_norm

__all__ = ["explain_rowwise", "gated_residual", "modulated_norm"]
