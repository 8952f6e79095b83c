"""Errors per token and their means over valid samples.

B batch, T tokens, N samples, C features, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def valid_mean(error_BT: Tensor, valid_BN: Tensor) -> Tensor:
    """Mean of the errors of valid samples; a sample stands for T / N tokens in a row."""
    weight_BN = valid_BN.to(error_BT.dtype)
    error_BN = error_BT.unflatten(1, (weight_BN.shape[1], -1)).mean(dim=2)
    return (error_BN * weight_BN).sum() / weight_BN.sum().clamp(min=1)


def over_numbers(error_BT: Tensor, valid_BTC: Tensor) -> Tensor:
    """Errors that are means over channels, of which the others are 0, as means over valid ones."""
    count = valid_BTC.to(error_BT.dtype).sum(dim=-1)
    return error_BT * valid_BTC.shape[-1] / count.clamp(min=1)


def chosen_mean(error_BT: Tensor, chosen_BT: Tensor, valid_BN: Tensor) -> Tensor:
    """Mean of the errors of chosen tokens of valid samples; 0 where there are none."""
    each = error_BT.shape[1] // valid_BN.shape[1]
    weight = (chosen_BT & valid_BN.repeat_interleave(each, dim=1)).to(error_BT.dtype)
    return (error_BT * weight).sum() / weight.sum().clamp(min=1)


def bell(time: Tensor) -> Tensor:
    """Weight of an error at a time: a bell around the middle, 0 at both ends, 1 in the mean."""
    at_the_ends, mean = math.exp(-0.5), 0.2490937321795
    return (torch.exp(-2 * (time - 0.5) ** 2) - at_the_ends) / mean


def l1(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean absolute difference of each token [B, T]."""
    return (x_BTC - y_BTC).abs().mean(dim=-1)


def l2(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean squared difference of each token [B, T]."""
    return (x_BTC - y_BTC).square().mean(dim=-1)


def smooth_l1(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean Huber distance of each token [B, T], threshold 1."""
    return functional.smooth_l1_loss(x_BTC, y_BTC, reduction="none").mean(dim=-1)


def cosine_over_features(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """1 - cosine of each token's features [B, T]."""
    return 1 - functional.cosine_similarity(x_BTC, y_BTC, dim=-1)


def cosine_over_tokens(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """1 - cosine along the tokens of each feature, mean over features [B, 1]."""
    return (1 - functional.cosine_similarity(x_BTC, y_BTC, dim=1)).mean(dim=-1, keepdim=True)


def infonce(x_BTC: Tensor, y_BTC: Tensor, temperature: float) -> Tensor:
    """Cross-entropy [B, T] of finding the own target among those of the batch at this token."""
    x_TBC = functional.normalize(x_BTC, dim=-1).transpose(0, 1)
    y_TBC = functional.normalize(y_BTC, dim=-1).transpose(0, 1)
    logits_TBB = x_TBC @ y_TBC.transpose(1, 2) / temperature
    return logits_TBB.logsumexp(dim=2).T - logits_TBB.diagonal(dim1=1, dim2=2).T


def cross_entropy(logits_BTV: Tensor, index_BT: Tensor) -> Tensor:
    """Cross-entropy of each token [B, T]."""
    return functional.cross_entropy(logits_BTV.transpose(1, 2), index_BT, reduction="none")


def vcreg(x_BTC: Tensor) -> Tensor:
    """Penalty on features that vanish (deviation below 1) or repeat each other (covariance)."""
    x = x_BTC.flatten(0, 1)
    x = x - x.mean(dim=0)
    deviation = (x.var(dim=0) + 1e-4).sqrt()
    covariance = x.T @ x / (len(x) - 1)
    off_diagonal = covariance - torch.diag(covariance.diagonal())
    return torch.relu(1 - deviation).mean() + off_diagonal.square().sum() / x.shape[1]
