"""How a speaker encoder is kept from moving, one class a policy."""

import logging
from typing import Protocol

import torch
from torch import Tensor, nn

from coqui_scl_plugin.freeze.fingerprint import named_tensors, same_bits

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


class RestorePolicy:
    """Whatever moves the encoder within a step is undone at its end, bit by bit.

    For an encoder that others insist on writing to: one that shares weights with a model that trains, or that somebody
    else's optimizer holds. Blocks: lasting changes of weights and buffers, and checkpoint (it is not in it); eval mode
    is kept as by `frozen`. Does not block: gradients on weights (computed, then dropped), the state of an optimizer
    that somebody else gave it to, and a change within the step, which that step's loss hears. Costs: a copy of the
    encoder in memory, a comparison with it at each step, and the gradients' time and memory.
    """

    trainable = False
    undoes_changes = True

    def __init__(self) -> None:
        """Hold no copy yet; the first `apply` makes it."""
        self._copy: dict[str, Tensor] = {}

    @torch.no_grad()
    def apply(self, encoder: nn.Module) -> None:
        """Put back what differs from how the encoder was at the first call; turn train mode off, drop gradients."""
        encoder.eval()
        tensors = named_tensors(encoder)
        if not self._copy:
            self._copy = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            tensor.grad = None
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
