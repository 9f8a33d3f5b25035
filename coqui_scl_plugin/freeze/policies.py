"""How a speaker encoder is kept from moving, one class a policy."""

import logging
from typing import Protocol

import torch
from torch import Tensor, nn

from coqui_scl_plugin.utils.fingerprint import named_tensors, same_bits

logger = logging.getLogger(__name__)


class FreezePolicy(Protocol):
    """How an encoder is kept; see `hookspecs.scl_freeze_policies`."""

    trainable: bool

    def apply(self, encoder: nn.Module) -> None:
        """Enforce the policy on the encoder; called again whenever something may have undone it."""


def undoes_changes(policy: FreezePolicy) -> bool:
    """Whether the policy allows optimizers and gradients to reach the encoder, since it undoes what they do."""
    return bool(getattr(policy, "undoes_changes", False))


class FrozenPolicy:
    """Nothing of the encoder moves, and gradients pass through it to the waveform.

    Blocks: weights (no gradient is asked for), buffers (eval mode, so no running statistics), gradients on weights
    (none are computed), optimizer state and checkpoint (it is in neither), and the memory and time of all of these.
    Costs: nothing.
    """

    trainable = False

    def apply(self, encoder: nn.Module) -> None:
        """Turn gradients and train mode off, whoever turned them on."""
        encoder.eval()
        for parameter in encoder.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None


class RestorePolicy(FrozenPolicy):
    """Frozen, and whatever writes to the encoder all the same is undone before and after every step, bit by bit.

    For an encoder that others insist on writing to: a callback, a moving average, an optimizer that holds it. Blocks
    what `frozen` blocks: weights, buffers, gradients on weights, our optimizers' state and checkpoint; and lasting
    changes by anybody. Does not block a change within a step, which that step's loss hears, nor the state of an
    optimizer that somebody else gave it to. Costs: the memory of a copy of the encoder, and the time of comparing it
    twice a step.
    """

    undoes_changes = True

    def __init__(self) -> None:
        """Hold no copy yet; the first `apply` makes it."""
        self._copy: dict[str, Tensor] = {}

    @torch.no_grad()
    def apply(self, encoder: nn.Module) -> None:
        """Freeze it, and put back what differs from how it was at the first call."""
        super().apply(encoder)
        tensors = named_tensors(encoder)
        if not self._copy:
            self._copy = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            original = self._copy.get(name)
            if original is not None and original.shape == tensor.shape:
                self._copy[name] = original = original.to(tensor.device)
                if not same_bits(tensor, original):
                    tensor.copy_(original)


class TrainablePolicy:
    """The encoder trains with the generator: what stock Coqui does without saying so, for comparisons only.

    Blocks nothing: weights move by the generator's optimizer, buffers in train mode; gradients and optimizer state take
    their time and memory, and the checkpoint holds it. The loss can then fall without any change of the generator.
    Must be asked for, and is warned about.
    """

    trainable = True

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._warned = False

    def apply(self, encoder: nn.Module) -> None:
        """Say once, loudly, that this encoder is not frozen."""
        if not self._warned:
            logger.warning(
                "The policy 'trainable' lets the generator's optimizer CHANGE THE SPEAKER ENCODER: the loss can fall "
                "to its floor without teaching the generator anything. Cached references are those of the encoder as "
                "the run began. Use 'frozen' for anything but a comparison."
            )
            self._warned = True
