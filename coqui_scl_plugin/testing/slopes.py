"""Gradients compared with differences of values."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_STEPS = {torch.float32: (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5), torch.float64: (1e-4, 1e-5, 1e-6)}
"""Lengths of steps that suit a type, from a point of length 1."""


def slope_error(
    value: Callable[[Sequence[Tensor]], Tensor], point: Sequence[Tensor], computed_in: torch.dtype, directions: int = 3
) -> float:
    """Return by how much the gradient of a value differs from the slopes that small steps measure.

    Slopes are measured along the gradient and along directions at random, since a gradient that lacks a part has the
    slope along itself.

    Args:
        value: Maps tensors of the sizes of `point` to a scalar.
        point: Where, in float64.
        computed_in: The type in which the value is computed, float32 or float64.
        directions: The number of directions at random.

    Returns:
        The largest error over the directions, each with the step that suits it best, as a share of the slope or of what
        the gradient gives in a direction at random, whichever is larger; infinite if there is no gradient.
    """
    leaves = [part.detach().clone().requires_grad_() for part in point]
    gradients = torch.autograd.grad(value(leaves), leaves, allow_unused=True)
    pairs = zip(leaves, gradients, strict=True)
    gradient = torch.cat([(torch.zeros_like(leaf) if g is None else g).flatten() for leaf, g in pairs])
    norm = float(gradient.norm())
    if norm == 0.0:
        return float("inf")
    start = torch.cat([part.detach().flatten() for part in point])
    size = float(start.norm())
    usual = norm / len(gradient) ** 0.5
    generator = torch.Generator().manual_seed(0)
    ways = [gradient, *torch.randn(directions, len(gradient), generator=generator, dtype=gradient.dtype)]

    def at(position: Tensor) -> float:
        parts = position.split([part.numel() for part in point])
        with torch.no_grad():
            return float(value([part.view_as(one) for part, one in zip(parts, point, strict=True)]))

    def error(way: Tensor) -> float:
        way = way / way.norm()
        expected = float(gradient @ way)
        return min(
            abs((at(start + size * h * way) - at(start - size * h * way)) / (2 * size * h) - expected)
            for h in _STEPS[computed_in]
        ) / max(abs(expected), usual)

    return max(error(way) for way in ways)
