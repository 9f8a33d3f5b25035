"""The weight that keeps the gradient of the loss at a share of the mel loss's."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from coqui_scl_plugin.consistency.finite_term import FiniteTerm
from coqui_scl_plugin.utils import processes

_DECAY = 0.95
"""Of the running means: about the last 20 steps in which the loss takes part count."""


class BalancedTerm(NamedTuple):
    """A loss that was weighted by its gradient."""

    loss: Tensor
    """Scalar, weighted; its gradient reaches the generated waveform."""
    weight: Tensor
    """Scalar, without a gradient."""
    share: Tensor
    """Norm of the weighted loss's gradient, divided by that of the mel loss's gradient; scalar. Where the loss takes
    part in every n-th step only, it is the mean of them all: the one of this step is n times as large."""


class GradientShare(nn.Module):
    """A running measure of two gradients, and the weight that follows from it.

    As the balancer of Défossez et al. ("High fidelity neural audio compression", 2022, section 3.4), it divides by
    running means of the norms. They are buffers, so that a continued run goes on with the same weight.
    """

    mel_norm: Tensor
    term_norm: Tensor

    def __init__(self, share: float) -> None:
        """Measure nothing yet.

        Args:
            share: Norm of the weighted loss's gradient that is aimed at, divided by that of the mel loss's.
        """
        super().__init__()
        self.share = share
        for name in ("mel_norm", "term_norm"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @property
    def weight(self) -> Tensor:
        """The factor of the unweighted loss, a float32 scalar; 0 before the first measurement."""
        weight = torch.where(self.term_norm > 0, self.share * self.mel_norm / self.term_norm, 0.0)
        return weight.float()

    def forget(self) -> None:
        """Measure anew."""
        self.mel_norm.zero_()
        self.term_norm.zero_()

    def update(self, mel_norm: Tensor, term_norm: Tensor) -> None:
        """Take the norms of a step, unless one of them is 0 or not finite, which says nothing about the other steps."""
        usable = mel_norm.isfinite() & term_norm.isfinite() & (mel_norm > 0) & (term_norm > 0)
        for mean, norm in ((self.mel_norm, mel_norm), (self.term_norm, term_norm)):
            mean.copy_(torch.where(usable, mean * _DECAY + norm.double() * (1.0 - _DECAY), mean))

    def balance(self, term: FiniteTerm, mel_gradient: Tensor, *, ramp: float, joint: bool = False) -> BalancedTerm:
        """Weight a loss by the gradients of this and earlier steps.

        Args:
            term: The loss, unweighted, and its gradient; a step in which it is left out measures nothing.
            mel_gradient: Gradient of the mel loss at the waveform that it was computed from.
            ramp: Factor of the weight at this step.
            joint: Whether the norms are those of the joint batch of all processes, which then agree on the weight.
        """
        mel_norm, term_norm = mel_gradient.float().norm(), term.gradient.norm()
        if joint:
            mel_norm, term_norm = joint_norms(mel_norm, term_norm)
        self.update(mel_norm, term_norm)
        weight = ramp * self.weight
        return BalancedTerm(weight * term.loss, weight, weight * term_norm / mel_norm)


def joint_norms(*norms: Tensor) -> tuple[Tensor, ...]:
    """Return the norms of gradients of the joint batch of all processes, by those of the processes' own means."""
    squares = processes.total(torch.stack(norms).double().square())
    return tuple((squares.sqrt() / processes.count()).float())
