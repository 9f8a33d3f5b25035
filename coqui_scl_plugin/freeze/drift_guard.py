"""The proof that frozen encoders are what they were, and what is said and done once one is not."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coqui_scl_plugin.errors import DriftError
from coqui_scl_plugin.utils.fingerprint import named_tensors, tensor_digests

logger = logging.getLogger(__name__)

_NAMED = 5  # tensors that a message names
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_OUTCOMES = {
    "raise": "The run stops here, since its loss would no longer measure the speaker; earlier checkpoints are sound.",
    "restore": "It was put back, bit by bit (on_drift = restore); the steps in between heard a changed encoder.",
    "warn": "The run goes on with the changed encoder (on_drift = warn), and its loss no longer measures the speaker.",
}


@dataclass(frozen=True)
class Drift:
    """A change of one encoder that the guard found."""

    encoder: str
    after_step: int
    """The last check that found no change."""
    step: int
    """The check that found it."""
    tensors: list[str]
    message: str


def held(optimizer: torch.optim.Optimizer) -> set[int]:
    """The `id` of each parameter that an optimizer holds."""
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def _likely_cause(
    moved: Sequence[str],
    now: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
) -> str:
    """What the evidence points at."""
    if any(name not in now or name not in start for name in moved):
        return "Tensors came or went: a part of it was replaced."
    if any(now[name].dtype != start[name].dtype or now[name].shape != start[name].shape for name in moved):
        return "Tensors have another type or shape: look for half(), to(dtype), or a part that was replaced."
    tensors = {id(now[name]) for name in moved}
    if holders := [index for index, optimizer in enumerate(optimizers) if tensors & held(optimizer)]:
        return f"Optimizer {holders[0]} of the trainer holds some of them: leave the encoder out of get_optimizer."
    if all(name.endswith(_STATISTICS) for name in moved):
        return "These are running statistics, which a forward in train mode updates: look for what calls train() on it."
    return (
        "Something outside this package wrote to it, such as an optimizer that was given its parameters, a "
        "load_state_dict, or a callback."
    )


def _distances(moved: Sequence[str], now: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> str:
    """How far the tensors moved that moved furthest, as a sentence; empty where they cannot be compared."""
    distances = {
        name: float((now[name].detach().cpu().double() - start[name].double()).abs().max())
        for name in moved
        if name in now and name in start and now[name].shape == start[name].shape and now[name].numel()
    }
    furthest = sorted(distances, key=lambda name: (distances[name] == distances[name], -distances[name]))[:3]
    if not furthest:
        return ""
    return f" Largest changes of a value: {', '.join(f'{name} {distances[name]:.1e}' for name in furthest)}."


class DriftGuard:
    """Remembers what frozen encoders were when it was made, and acts once one is anything else.

    Holds a copy of them in the memory of the CPU, to say how far they moved and to put them back.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], on_drift: str = "raise", step: int = 0) -> None:
        """Fingerprint the encoders.

        Args:
            encoders: By the name that messages shall call them.
            on_drift: `raise`, `restore` or `warn`.
            step: At which it begins, for messages.
        """
        self._encoders = dict(encoders)
        self._on_drift = on_drift
        self._digests = {name: tensor_digests(encoder) for name, encoder in self._encoders.items()}
        self._start = {
            name: {key: tensor.detach().cpu().clone() for key, tensor in named_tensors(encoder).items()}
            for name, encoder in self._encoders.items()
        }
        self._last_step = step

    def check(self, step: int, optimizers: Sequence[torch.optim.Optimizer] = ()) -> list[Drift]:
        """Compare with the start, and act as `on_drift` says.

        Args:
            step: For the message; one before the last check, as a save within a step gives, means that of the check.
            optimizers: Of the trainer, to find out whether one of them did it.

        Returns:
            What had changed, where that does not end the run.

        Raises:
            DriftError: tensors changed, came or went, and `on_drift` is `raise`, or they cannot be put back.
        """
        step = max(step, self._last_step)
        drifts = [drift for name in self._encoders if (drift := self._check(name, step, optimizers)) is not None]
        self._last_step = step
        return drifts

    def _moved(self, name: str) -> tuple[list[str], dict[str, bytes]]:
        known, digests = self._digests[name], tensor_digests(self._encoders[name])
        return sorted(key for key in known.keys() | digests.keys() if known.get(key) != digests.get(key)), digests

    def _check(self, name: str, step: int, optimizers: Sequence[torch.optim.Optimizer]) -> Drift | None:
        moved, digests = self._moved(name)
        if not moved:
            return None
        start, now = self._start[name], named_tensors(self._encoders[name])
        listing = ", ".join(moved[:_NAMED]) + (f" and {len(moved) - _NAMED} more" if len(moved) > _NAMED else "")
        message = (
            f"The frozen speaker encoder {name!r} changed between step {self._last_step} and step {step}: "
            f"{len(moved)} of {len(start)} tensors, {listing}.{_distances(moved, now, start)} "
            f"{_likely_cause(moved, now, start, optimizers)} "
        )
        if self._on_drift == "raise" or (self._on_drift == "restore" and not self._put_back(name)):
            raise DriftError(message + _OUTCOMES["raise"])
        if self._on_drift == "warn":
            self._digests[name] = digests  # so that it is said once, and again only if it goes on
        message += _OUTCOMES[self._on_drift]
        logger.warning(message)
        return Drift(name, self._last_step, step, moved, message)

    @torch.no_grad()
    def _put_back(self, name: str) -> bool:
        """Whether the encoder is again what it was."""
        for key, tensor in named_tensors(self._encoders[name]).items():
            original = self._start[name].get(key)
            if original is not None and original.shape == tensor.shape:
                tensor.copy_(original)
        return not self._moved(name)[0]
