"""The log-sum-exp of an item's cosines with very many prototypes, in one pass over them, forward and backward.

At 100,000 prototypes of 256 numbers, reading them (100 MB) is what takes the time; each normalised copy of them, and
each matrix of all cosines, would have to be written and read as well. So a block of rows is read once, and stays in the
processor's cache while all that is needed of it is computed. Memory holds no more than a block beside the prototypes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 1_024
"""Rows that are read at a time: 1 MiB at 256 dimensions."""
_SMALLEST_NORM = 1e-12
"""As in `torch.nn.functional.normalize`."""


class _OthersLogSumExp(torch.autograd.Function):
    """The function below; its gradient is known when its value is, as in online softmax (Milakov, Gimelshein 2018)."""

    @staticmethod
    def forward(ctx: Any, directions: Tensor, prototypes: Tensor, own: Tensor, scale: float) -> Tensor:
        """Go once over the prototypes, with sums that are relative to the largest logit so far."""
        largest = directions.new_full((len(directions), 1), -scale)
        total, pull = torch.zeros_like(largest), torch.zeros_like(directions)
        rows = torch.arange(_BLOCK, device=directions.device)
        for start in range(0, len(prototypes), _BLOCK):
            block = prototypes[start : start + _BLOCK]
            logits = directions @ block.T
            lengths = torch.linalg.vector_norm(block, dim=1).clamp_min_(_SMALLEST_NORM)
            logits.div_(lengths).mul_(scale)
            logits.masked_fill_(rows[: len(block)] == own[:, None] - start, -torch.inf)
            larger = torch.maximum(largest, logits.amax(dim=1, keepdim=True))
            shrunk, shares = (largest - larger).exp_(), logits.sub_(larger).exp_()
            total.mul_(shrunk).add_(shares.sum(dim=1, keepdim=True))
            pull.mul_(shrunk).addmm_(shares.div_(lengths), block)
            largest = larger
        ctx.save_for_backward(scale * pull / total.clamp_min(torch.finfo(total.dtype).tiny))
        return (largest + total.log()).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        """Send the gradient to the directions."""
        (gradient,) = ctx.saved_tensors
        return upstream[0][:, None] * gradient, None, None, None


def others_log_sum_exp(directions: Tensor, prototypes: Tensor, own: Tensor, scale: float) -> Tensor:
    """Compute log Σ exp(scale · cos) of each item with all prototypes but its own: `[B]`, -inf if there is no other.

    Args:
        directions: `[B, D]`, unit length; they alone get a gradient.
        prototypes: `[S, D]`, of any length.
        own: `[B]`, the row that is left out for each item.
        scale: Factor of the cosines, above 0.

    >>> one, axes = torch.tensor([[1.0, 0.0, 0.0]]), torch.eye(3)
    >>> round(float(others_log_sum_exp(one, axes, torch.tensor([0]), 30.0)), 4)  # log(1 + 1)
    0.6931
    """
    result: Tensor = _OthersLogSumExp.apply(directions, prototypes, own, scale)
    return result
