"""The log-sum-exp of an item's cosines with very many prototypes, by two matrix products with them.

At 100,000 prototypes of 256 numbers, these two products are nearly all of the time. The prototypes are neither copied
nor normalised, only their lengths are divided out of the cosines, and the lengths are computed once. For the backward
pass, nothing is kept that grows with the prototypes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

_SMALLEST_NORM = 1e-12
"""As in `torch.nn.functional.normalize`."""
_known_scales = WeakTensorKeyDictionary()
"""By tensor of prototypes, as long as it exists: its version, and what `_scales_of` found."""


def _scales_of(prototypes: Tensor) -> Tensor:
    """Return what brings each row to unit length, `[S]`; found out once, unless the tensor is written to."""
    version = None if prototypes.is_inference() else prototypes._version
    known = _known_scales.get(prototypes)
    if known is None or version is None or known[0] != version:
        known = version, torch.linalg.vector_norm(prototypes, dim=1).clamp_min_(_SMALLEST_NORM).reciprocal_()
        _known_scales[prototypes] = known
    scales: Tensor = known[1]
    return scales


class _OthersLogSumExp(torch.autograd.Function):
    """The function below; its gradient is computed along with its value."""

    @staticmethod
    def forward(ctx: Any, directions: Tensor, prototypes: Tensor, own: Tensor, scale: float) -> Tensor:
        """Compute the logits, the log of their sum, and what each prototype contributes to the gradient."""
        scales = _scales_of(prototypes)
        # in this order, for the prototypes are then read as they lie in memory
        logits = (prototypes @ (scale * directions).T).T.contiguous().mul_(scales)
        logits.scatter_(1, own[:, None], -torch.inf)
        largest = logits.amax(dim=1, keepdim=True).clamp_min_(-scale)  # without others, there would be none
        shares = logits.sub_(largest).exp_()
        total = shares.sum(dim=1, keepdim=True)
        pull = shares.mul_(scales) @ prototypes
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
