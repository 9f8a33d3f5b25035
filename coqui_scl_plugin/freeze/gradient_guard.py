"""The guard that verifies during training that the loss still reaches the generated waveform."""

import math

import torch
from torch import Tensor

from coqui_scl_plugin.errors import GradientError

_MAX_SKIPPED = 20
"""Steps in a row that a GradScaler may skip: from 65536, the loss scale has then been halved to less than 1."""


class GradientGuard:
    """Records the gradient that a backward pass sends to a waveform, and stops the run if none arrives.

    The gradient is recorded as backward sends it, times a loss scale if there is one; only its being 0 or not finite
    matters.
    """

    def __init__(self) -> None:
        """Expect no gradient until `watch` is called."""
        self._expects = False
        self._norm: Tensor | None = None
        self._skipped = 0

    def watch(self, waveform: Tensor, *, expect: bool) -> None:
        """Record the gradient at `waveform` in the coming backward pass, if one is expected."""
        self._expects, self._norm = expect, None
        if expect and waveform.requires_grad:
            waveform.register_hook(self._record)

    def _record(self, gradient: Tensor) -> None:
        self._norm = torch.linalg.vector_norm(gradient.detach(), dtype=torch.float64)  # squares of 1e-30 stay above 0

    def check(self, step: int, *, skips_overflows: bool = False) -> bool:
        """Check the backward pass of a training step.

        Args:
            step: The training step, for messages.
            skips_overflows: Whether a GradScaler leaves out steps whose gradients are not finite.

        Returns:
            Whether to watch the next step, since the scaler left out this one.

        Raises:
            GradientError: a gradient was expected, but none arrived, or one that is 0 or not finite.
        """
        if not self._expects:
            return False
        self._expects = False
        norm = None if self._norm is None else float(self._norm)
        if norm is None or norm == 0.0:
            msg = (
                f"At step {step} the speaker consistency loss sent no gradient to the generated waveform "
                f"(norm {norm}). The run stops here, since it would learn nothing from the loss."
            )
            raise GradientError(msg)
        if math.isfinite(norm):
            self._skipped = 0
            return False
        self._skipped += 1
        if skips_overflows and self._skipped <= _MAX_SKIPPED:
            return True
        raise GradientError(self._not_finite(step, norm))

    def postpone(self) -> bool:
        """Expect nothing of this step, in which the loss was left out; return whether a gradient was expected."""
        expected, self._expects = self._expects, False
        return expected

    def _not_finite(self, step: int, norm: float) -> str:
        rows = f" in {self._skipped} checks in a row" if self._skipped > 1 else ""
        return (
            f"At step {step} the speaker consistency loss sent a gradient that is not finite to the generated waveform "
            f"(norm {norm}{rows}). The run stops here, since such a gradient makes every weight of the generator "
            "unusable. Listen to the recordings of the batch, or lower the learning rate."
        )
