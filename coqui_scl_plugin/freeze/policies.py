"""Freeze policies for speaker encoders, one class each."""

import logging
from typing import Protocol

import torch
from torch import Tensor, nn

from coqui_scl_plugin.utils.fingerprint import all_same_bits, named_tensors, same_bits
from coqui_scl_plugin.utils.frozen import is_frozen

logger = logging.getLogger(__name__)


class FreezePolicy(Protocol):
    """A freeze policy; see `hookspecs.scl_freeze_policies`."""

    trainable: bool

    def apply(self, encoder: nn.Module) -> None:
        """Enforce the policy on the encoder; called whenever something may have undone it."""


def undoes_changes(policy: FreezePolicy) -> bool:
    """Tell whether optimizers and gradients may reach the encoder, since the policy undoes what they do."""
    return bool(getattr(policy, "undoes_changes", False))


class FrozenPolicy:
    """Freeze weights and buffers; gradients still pass through the encoder to the waveform.

    Blocks changes of weights (no gradient is required) and of buffers (eval mode, so no running statistics), gradients
    on weights (none are computed), optimizer state and checkpoint (neither holds it), and the memory and time of all of
    these. Costs nothing.
    """

    trainable = False

    def apply(self, encoder: nn.Module) -> None:
        """Turn off gradients and train mode, whatever turned them on."""
        if is_frozen(encoder):
            return
        encoder.eval()
        for parameter in encoder.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None


class RestorePolicy(FrozenPolicy):
    """Freeze the encoder, and put it back before and after every step, bit by bit.

    For an encoder that other code writes to: a callback, a moving average, an optimizer that holds it. Blocks what
    `frozen` blocks (weights, buffers, gradients on weights, the state of our optimizers, and the checkpoint) and any
    lasting change. Does not block a change within a step, which affects that step's loss, nor the state of another
    optimizer. Costs the memory of a copy of the encoder, and the time of two comparisons per step.
    """

    undoes_changes = True

    def __init__(self) -> None:
        """Start without a copy; the first `apply` makes it."""
        self._copy: dict[str, Tensor] = {}

    @torch.no_grad()
    def apply(self, encoder: nn.Module) -> None:
        """Freeze the encoder, and put back every tensor that differs from the first call."""
        super().apply(encoder)
        tensors = named_tensors(encoder)
        if not self._copy:
            self._copy = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        known = [name for name, tensor in tensors.items() if self._has(name, tensor)]
        for name in known:
            self._copy[name] = self._copy[name].to(tensors[name].device)
        if not all_same_bits([tensors[name] for name in known], [self._copy[name] for name in known]):
            for name in known:
                if not same_bits(tensors[name], self._copy[name]):
                    tensors[name].copy_(self._copy[name])

    def _has(self, name: str, tensor: Tensor) -> bool:
        """Tell whether there is a copy of this tensor's size."""
        return name in self._copy and self._copy[name].shape == tensor.shape


class TrainablePolicy:
    """Train the encoder with the generator, as stock Coqui does silently; for comparisons only.

    Blocks nothing: the generator's optimizer changes weights, train mode changes buffers, gradients and optimizer state
    take time and memory, and the checkpoint holds the encoder. The loss can then fall without any change of the
    generator. Never the default, and logs a warning.
    """

    trainable = True

    def __init__(self) -> None:
        """Start without having warned."""
        self._warned = False

    def apply(self, encoder: nn.Module) -> None:
        """Warn once that this encoder is not frozen."""
        if not self._warned:
            logger.warning(
                "The policy 'trainable' lets the generator's optimizer CHANGE THE SPEAKER ENCODER: the loss can fall "
                "to its floor without teaching the generator anything. Cached references remain those of the encoder "
                "at the start of the run. Use 'frozen' for anything but a comparison."
            )
            self._warned = True
