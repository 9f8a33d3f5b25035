"""Keep a speaker encoder from moving, and prove that it did not."""

import hashlib
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from coqui_scl_plugin.errors import DriftError
from coqui_scl_plugin.hookspecs import hookimpl


class FreezePolicy(Protocol):
    """How an encoder is kept; see `hookspecs.scl_freeze_policies`."""

    trainable: bool

    def apply(self, encoder: nn.Module) -> None:
        """Enforce the policy on the encoder; called again whenever something may have undone it."""


class FrozenPolicy:
    """Nothing of the encoder moves, and gradients pass through it to the waveform.

    Blocks: weights (no gradient is asked for), buffers (eval mode, so no running statistics), gradients on weights
    (none are computed, which saves their time and memory), optimizer state and checkpoint (it is in neither).
    Costs: nothing.
    """

    trainable = False

    def apply(self, encoder: nn.Module) -> None:
        """Turn gradients and train mode off, whoever turned them on."""
        encoder.eval()
        for parameter in encoder.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None


@hookimpl
def scl_freeze_policies() -> dict[str, type]:
    """The policies of this package."""
    return {"frozen": FrozenPolicy}


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, also those that a state dict leaves out."""
    parameters = module.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(module.named_buffers(remove_duplicate=False))}


def _digest(tensor: Tensor) -> bytes:
    digest = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=16)
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()


def tensor_digests(module: nn.Module) -> dict[str, bytes]:
    """An exact hash of each parameter and buffer, by name: equal if and only if type, shape and every bit are."""
    return {name: _digest(tensor) for name, tensor in named_tensors(module).items()}


def fingerprint(module: nn.Module) -> str:
    """One hash over all parameters and buffers, as 16 hexadecimal digits."""
    total = hashlib.blake2b(digest_size=8)
    for name, digest in sorted(tensor_digests(module).items()):
        total.update(name.encode() + digest)
    return total.hexdigest()


class FreezeGuard:
    """Remembers what frozen encoders were when it was made, and raises once one is anything else."""

    def __init__(self, encoders: Mapping[str, nn.Module]) -> None:
        """Fingerprint the encoders, by the name that messages shall call them."""
        self._encoders = dict(encoders)
        self._start = {name: tensor_digests(encoder) for name, encoder in self._encoders.items()}
        self._last_step = 0

    def check(self, step: int) -> None:
        """Compare with the start; `step` is for the message.

        Raises:
            DriftError: tensors changed, came or went. It names them and the steps between which that happened.
        """
        for name, encoder in self._encoders.items():
            start, now = self._start[name], tensor_digests(encoder)
            moved = sorted(key for key in start.keys() | now.keys() if start.get(key) != now.get(key))
            if moved:
                listing = ", ".join(moved[:5]) + (f" and {len(moved) - 5} more" if len(moved) > 5 else "")
                msg = (
                    f"The frozen speaker encoder {name!r} changed between step {self._last_step} and step {step}: "
                    f"{len(moved)} of {len(start)} tensors, {listing}. Something outside this package wrote to it, "
                    "such as an optimizer that was given its parameters, a load_state_dict, or a callback. The run "
                    "stops here, since its loss would no longer measure the speaker; earlier checkpoints are sound."
                )
                raise DriftError(msg)
        self._last_step = step
