"""A loss whose gradient is known before the backward pass, and which is 0 where a number of it is not finite."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class FiniteTerm(NamedTuple):
    """A loss, and its gradient at the generated waveform. All are 0 where a number is not finite."""

    loss: Tensor
    """Scalar; its backward pass sends on the gradients that were computed here."""
    gradient: Tensor
    """Gradient at the generated waveform, `[K, T]`."""
    finite: Tensor
    """Whether the loss and all its gradients are finite, so that none was replaced: scalar, bool."""
    finite_items: Tensor
    """Whether the gradient at each generated waveform is finite, `[K]`, bool."""


class _KnownGradients(torch.autograd.Function):
    """A value whose backward pass sends given gradients, and computes none."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *tensors: Tensor) -> Tensor:
        """Return the value. `tensors`: what it depends on, followed by as many gradients."""
        ctx.save_for_backward(*tensors[len(tensors) // 2 :])
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        """Send each gradient, times the factor that the value was multiplied with."""
        gradients = ctx.saved_tensors
        return (None, *(upstream[0] * gradient for gradient in gradients), *(None for _ in gradients))


def keep_finite(loss: Tensor, generated: Tensor, weights: Iterable[Tensor] = ()) -> FiniteTerm:
    """Run the backward pass from a loss to the generated waveform, and leave the loss out if a number is not finite.

    It decides by a mask on the device of the loss, so that nothing waits for a GPU. The encoders' backward pass
    runs here, once; the generator's later takes its result. Without a graph, only the value is kept finite.

    Args:
        loss: Scalar, unweighted.
        generated: Waveforms `[K, T]` that the loss was computed from.
        weights: Weights of the loss and of encoders that train along; they get their gradients as well.
    """
    inputs = [tensor for tensor in (generated, *weights) if tensor.requires_grad]
    found: list[Tensor | None] = [None] * len(inputs)
    if loss.requires_grad and inputs:
        found = list(torch.autograd.grad(loss, inputs, allow_unused=True))
    reached = [(tensor, gradient) for tensor, gradient in zip(inputs, found, strict=True) if gradient is not None]
    finite = torch.stack([loss.detach().isfinite(), *(gradient.isfinite().all() for _, gradient in reached)]).all()
    at_waveform = next((gradient for tensor, gradient in reached if tensor is generated), None)
    if at_waveform is None:
        at_waveform = torch.zeros_like(generated)
    finite_items = at_waveform.isfinite().flatten(1).all(dim=1)
    value = loss.detach().masked_fill(~finite, 0.0)
    kept = [gradient.masked_fill(~finite, 0.0) for _, gradient in reached]
    if kept:
        value = _KnownGradients.apply(value, *(tensor for tensor, _ in reached), *kept)
    return FiniteTerm(value, at_waveform.detach().masked_fill(~finite, 0.0), finite, finite_items)
