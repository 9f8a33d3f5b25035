"""A console logger for Coqui's trainer that records losses instead of printing them."""

from collections.abc import Callable, Collection
from typing import Any

from trainer.logging import ConsoleLogger


class LossRecorder(ConsoleLogger):
    """Prints nothing, and records some losses of every step that the trainer would print."""

    def __init__(self, kept: Collection[str], on_step: Callable[[], object] = lambda: None) -> None:
        """Create an empty history.

        Args:
            kept: Names of the losses to record.
            on_step: Called after each of those steps.
        """
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self._kept, self._on_step = kept, on_step

    @staticmethod
    def log_with_flush(msg: str) -> None:
        """Print nothing."""

    def print_train_step(
        self, batch_steps: int, step: int, global_step: int, loss_dict: Any, avg_loss_dict: Any
    ) -> None:
        """Record the losses of a step."""
        for key in self._kept:
            if key in loss_dict:
                self.history.setdefault(key, []).append(float(loss_dict[key]))
        self._on_step()
