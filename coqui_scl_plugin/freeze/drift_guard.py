"""The guard that detects a change of a frozen encoder, explains it, and ends the run or undoes the change."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coqui_scl_plugin.errors import DriftError
from coqui_scl_plugin.utils.fingerprint import copied_tensors, moved_tensors, named_tensors

logger = logging.getLogger(__name__)

_MAX_NAMED_TENSORS = 5
_STATISTICS_SUFFIXES = ("running_mean", "running_var", "num_batches_tracked")
_OUTCOMES = {
    "raise": "The run stops here, since its loss would no longer measure the speaker; earlier checkpoints are sound.",
    "restore": "It was put back, bit by bit (on_drift = restore); the steps in between used a changed encoder.",
    "warn": "The run continues with the changed encoder (on_drift = warn); its loss no longer measures the speaker.",
}


@dataclass(frozen=True)
class Drift:
    """A change of one encoder that the guard found."""

    encoder: str
    after_step: int
    """Step of the last check that found no change."""
    step: int
    """Step of the check that found it."""
    tensors: list[str]
    message: str


def held(optimizer: torch.optim.Optimizer) -> set[int]:
    """Return the `id` of each parameter that an optimizer holds."""
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def _likely_cause(
    moved: Sequence[str],
    now: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
) -> str:
    """Return the likely cause of a change, as a sentence."""
    if any(name not in now or name not in start for name in moved):
        return "Tensors were added or removed: a part of it was replaced."
    if any(now[name].dtype != start[name].dtype or now[name].shape != start[name].shape for name in moved):
        return "Tensors have another type or shape: look for half(), to(dtype), or a part that was replaced."
    tensors = {id(now[name]) for name in moved}
    if holders := [index for index, optimizer in enumerate(optimizers) if tensors & held(optimizer)]:
        return f"Optimizer {holders[0]} of the trainer holds some of them: leave the encoder out of get_optimizer."
    if all(name.endswith(_STATISTICS_SUFFIXES) for name in moved):
        return (
            "These are running statistics, which a forward pass in train mode updates: find what calls train() on it."
        )
    return (
        "Code outside this package wrote to it, such as an optimizer that was given its parameters, a load_state_dict, "
        "or a callback."
    )


def _distances(moved: Sequence[str], now: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> str:
    """Return the largest changes of a value as a sentence; empty if no tensor can be compared."""
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
    """Compares frozen encoders with what they were when the guard was made, and acts as soon as one differs.

    Keeps a copy of them in CPU memory, to tell how far they moved and to put them back.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], on_drift: str = "raise", step: int = 0) -> None:
        """Copy the encoders.

        Args:
            encoders: Encoders by the name to use in messages.
            on_drift: `raise`, `restore` or `warn`.
            step: The current step, for messages.
        """
        self._encoders = dict(encoders)
        self._on_drift = on_drift
        self._start = {name: copied_tensors(encoder) for name, encoder in self._encoders.items()}
        self._known = dict(self._start)
        """What a check compares with: the start, or what an encoder had become when the guard warned of it."""
        self._last_step = step

    def check(self, step: int, optimizers: Sequence[torch.optim.Optimizer] = ()) -> list[Drift]:
        """Compare the encoders with the start, and act as `on_drift` says.

        Args:
            step: The current step, for messages. A step before the last check, as a save within a step passes, counts
                as that of the check.
            optimizers: The trainer's optimizers, one of which may have made the change.

        Returns:
            The changes, if they do not end the run.

        Raises:
            DriftError: tensors were changed, added or removed, and `on_drift` is `raise` or they cannot be put back.
        """
        step = max(step, self._last_step)
        drifts = [drift for name in self._encoders if (drift := self._check(name, step, optimizers)) is not None]
        self._last_step = step
        return drifts

    def _check(self, name: str, step: int, optimizers: Sequence[torch.optim.Optimizer]) -> Drift | None:
        moved = moved_tensors(self._encoders[name], self._known[name])
        if not moved:
            return None
        start, now = self._start[name], named_tensors(self._encoders[name])
        more = len(moved) - _MAX_NAMED_TENSORS
        listing = ", ".join(moved[:_MAX_NAMED_TENSORS]) + (f" and {more} more" if more > 0 else "")
        message = (
            f"The frozen speaker encoder {name!r} changed between step {self._last_step} and step {step}: "
            f"{len(moved)} of {len(start)} tensors, {listing}.{_distances(moved, now, start)} "
            f"{_likely_cause(moved, now, start, optimizers)} "
        )
        if self._on_drift == "raise" or (self._on_drift == "restore" and not self._put_back(name)):
            raise DriftError(message + _OUTCOMES["raise"])
        if self._on_drift == "warn":
            self._known[name] = copied_tensors(self._encoders[name])  # warn once, and again only after a further change
        message += _OUTCOMES[self._on_drift]
        logger.warning(message)
        return Drift(name, self._last_step, step, moved, message)

    @torch.no_grad()
    def _put_back(self, name: str) -> bool:
        """Put the encoder back, and tell whether every bit is what it was."""
        for key, tensor in named_tensors(self._encoders[name]).items():
            original = self._start[name].get(key)
            if original is not None and original.shape == tensor.shape:
                tensor.copy_(original)
        return not moved_tensors(self._encoders[name], self._known[name])
