"""What is finite in a training step, noted on the device and read once the trainer has waited for it anyway."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Bad(NamedTuple):
    """Something of a step that is not finite."""

    what: str
    """In words, such as `loss_mel`."""
    names: list[str]
    """The recordings that it is of."""


class StepFlags:
    """Flags of one step. All go to the CPU in one copy, for which nothing waits; `read` comes after the step.

    The trainer reads the losses of a step, and so waits for all that came before, before it calls
    `on_train_step_end`.
    """

    def __init__(self) -> None:
        """Note nothing yet."""
        self._noted: list[tuple[str, Sequence[str], Tensor]] = []
        self._sent: Tensor | None = None

    @property
    def noted(self) -> bool:
        """Whether anything was noted."""
        return bool(self._noted)

    def note(self, what: str, finite: Tensor, names: Sequence[str]) -> None:
        """Note whether something is finite.

        Args:
            what: Name for messages.
            finite: Bool: `[len(names)]`, or a scalar for all of them.
            names: Recordings.
        """
        self._noted.append((what, names, finite.detach()))
        self._sent = None

    def send(self) -> None:
        """Begin to copy the flags to the CPU; to pinned memory, where they come from a GPU."""
        if self._noted:
            packed = torch.cat([finite.reshape(-1) for _, _, finite in self._noted])
            self._sent = packed.to("cpu", non_blocking=True)

    def read(self) -> list[Bad]:
        """Return what is not finite, in the order of `note`."""
        if self._sent is None:
            self.send()
        if self._sent is None:
            return []
        parts = self._sent.split([finite.numel() for _, _, finite in self._noted])
        found = []
        for (what, names, finite), part in zip(self._noted, parts, strict=True):
            flags: list[bool] = part.tolist()
            if not all(flags):
                each = flags if finite.ndim else [False] * len(names)
                found.append(Bad(what, [name for name, ok in zip(names, each, strict=True) if not ok]))
        return found
