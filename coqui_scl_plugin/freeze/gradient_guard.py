"""The guard that verifies during training that the loss still reaches the generated waveform."""

from torch import Tensor

from coqui_scl_plugin.errors import GradientError


class GradientGuard:
    """Records the gradient that a backward pass sends to a waveform, and stops the run if none arrives."""

    def __init__(self) -> None:
        """Expect no gradient until `watch` is called."""
        self._expects = False
        self._norm: Tensor | None = None

    def watch(self, waveform: Tensor, *, expect: bool) -> None:
        """Record the gradient at `waveform` in the coming backward pass, if one is expected."""
        self._expects, self._norm = expect, None
        if expect and waveform.requires_grad:
            waveform.register_hook(self._record)

    def _record(self, gradient: Tensor) -> None:
        self._norm = gradient.detach().norm()

    def check(self, step: int) -> None:
        """Check the backward pass of a training step.

        Raises:
            GradientError: a gradient was expected, but none arrived, or one that is 0 or not a number.
        """
        if self._expects and (self._norm is None or not self._norm > 0):
            msg = (
                f"At step {step} the speaker consistency loss sent no gradient to the generated waveform "
                f"(norm {self._norm}). The run stops here, since it would learn nothing from the loss."
            )
            raise GradientError(msg)
        self._expects = False

    def postpone(self) -> bool:
        """Expect nothing of this step, in which the loss was left out; return whether a gradient was expected."""
        expected, self._expects = self._expects, False
        return expected
