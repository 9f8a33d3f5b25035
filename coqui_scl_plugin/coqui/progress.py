"""How far a training has come: recorded in its checkpoints, and taken up by a run that continues it.

The number in a checkpoint of Coqui's trainer is that of the step just taken where it was saved within an epoch, and the
count of all steps where it was saved after one; a continued run adds 1 to either. It also begins the epoch anew,
finished or not, and takes the loss of the last checkpoint for the best one. The record says what was done.
"""

import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from trainer import Trainer
from trainer.generic_utils import KeepAverage

from coqui_scl_plugin.coqui.finite_updates import inner_of
from coqui_scl_plugin.coqui.random_numbers import seed_after_step
from coqui_scl_plugin.utils.checkpoint import read_checkpoint

_KEY = "scl_progress"
"""Key of the record in the state of the generator's optimizer."""
_GENERATOR = 1


@dataclass(frozen=True)
class Progress:
    """What a training has done."""

    steps: int
    """Steps that were taken."""
    epoch: int
    """The epoch, counted from 0."""
    batches: int
    """Batches of this epoch that were trained on."""
    of: int
    """Batches that an epoch has."""
    before_schedulers: bool
    """Whether the schedulers of epochs have yet to take the step that follows the epoch's last batch."""

    @property
    def has_trained_epoch(self) -> bool:
        """Whether every batch of the epoch was trained on."""
        return self.batches >= self.of > 0

    @classmethod
    def read(cls, checkpoint: Mapping[str, Any]) -> Self | None:
        """Return the record of a checkpoint; None where an earlier version, or another program, saved it."""
        optimizers = checkpoint.get("optimizer")
        if not isinstance(optimizers, list) or len(optimizers) <= _GENERATOR:
            return None
        record = optimizers[_GENERATOR].get(_KEY)
        try:
            return cls(**record) if isinstance(record, Mapping) else None
        except TypeError:  # of another version
            return None

    @classmethod
    def taken_up_by(cls, trainer: Trainer) -> Self | None:
        """Return the record that a continued run begins with; None for another run, or where there is none."""
        path = Path(str(trainer.args.restore_path or ""))
        return cls.read(read_checkpoint(str(path))) if trainer.continue_run and path.is_file() else None

    @property
    def lacks_evaluation(self) -> bool:
        """Whether an epoch was trained and not evaluated."""
        return self.has_trained_epoch and self.before_schedulers


class ProgressRecorder:
    """Counts the steps of a run, and adds the record to the state of its optimizer whenever that is saved."""

    def __init__(self, trainer: Trainer, before: Progress | None) -> None:
        """Take the trainer and what a continued run has done before, and from now on add the record."""
        self._trainer = trainer
        self._epoch, self._batches, self._of = (before.epoch, before.batches, before.of) if before else (0, 0, 0)
        self._step = 0
        self._in_step = self._stepped = False
        optimizer = inner_of(trainer.optimizer[_GENERATOR])
        optimizer.register_state_dict_post_hook(self._add)
        optimizer.register_step_post_hook(self._note_step)

    def start_epoch(self) -> None:
        """Begin an epoch."""
        loader = self._trainer.train_loader
        self._epoch, self._batches, self._in_step = self._trainer.epochs_done, 0, False
        self._of = len(loader) if loader is not None else 0

    def start_step(self) -> None:
        """Begin a step."""
        self._step, self._in_step, self._stepped = self._trainer.total_steps_done, True, False

    def end_step(self) -> None:
        """End a step, which the trainer has counted."""
        self._in_step = False
        self._batches += 1

    def _note_step(self, *_: Any) -> None:
        self._stepped = True

    def _add(self, _optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        # the trainer saves at the end of a step, before it counts it, and wherever the user interrupts it
        taken = self._in_step and (self._stepped or not isinstance(sys.exception(), KeyboardInterrupt))
        record = Progress(
            steps=self._step + int(taken) if self._in_step else self._trainer.total_steps_done,
            epoch=self._epoch,
            batches=self._batches + int(taken),
            of=self._of,
            before_schedulers=self._in_step,
        )
        state[_KEY] = asdict(record)


def take_up(trainer: Trainer, done: Progress | None) -> str:
    """Let a continued run go on after the last step of its checkpoint, and say where.

    An epoch whose batches were all trained on is not trained again, and its schedulers take the step that they lack.

    Args:
        trainer: The trainer, which has restored the checkpoint.
        done: The record in the checkpoint.

    Returns:
        A line about it, also where Coqui's order does not go on; empty unless the run continues another.
    """
    if not trainer.continue_run:
        return ""
    path = Path(str(trainer.args.restore_path))
    if done is None:
        return (
            f"Continued from {path.name} at step {trainer.total_steps_done}; epoch {trainer.epochs_done} begins anew."
        )
    trainer.total_steps_done = done.steps
    trainer.epochs_done = done.epoch + int(done.has_trained_epoch)
    begins = f"Continued from {path.name} after {done.steps} steps"
    if done.has_trained_epoch:
        if done.before_schedulers and trainer.config.scheduler_after_epoch:
            _step_schedulers(trainer)
        if done.lacks_evaluation and trainer.config.run_eval:
            if trainer.epochs_done >= trainer.config.epochs:
                trainer.epochs_done, trainer.start_with_eval = done.epoch, True
            return f"{begins}, with the evaluation of epoch {done.epoch}."
        if trainer.epochs_done >= trainer.config.epochs:
            return f"{begins}: all {trainer.config.epochs} epochs are done. To train on, set a larger `epochs`."
        return f"{begins}, with epoch {trainer.epochs_done}."
    if done.batches == 0:
        return f"{begins}, with epoch {done.epoch}."
    return (
        f"{begins}: Coqui begins epoch {done.epoch} anew, so that the first {done.batches} of its {done.of} batches "
        "are trained on once more."
    )


def evaluate_trained_epoch(trainer: Trainer, done: Progress) -> None:
    """Evaluate the epoch that a continued run trained before and did not evaluate, and save the model if it is best.

    The trainer does it itself if that epoch is the last one.
    """
    seed_after_step(trainer.config.training_seed, done.steps)
    if trainer.epochs_done == done.epoch:
        return
    trainer.keep_avg_train, trainer.keep_avg_eval = KeepAverage(), KeepAverage()
    following, trainer.epochs_done = trainer.epochs_done, done.epoch
    trainer.eval_epoch()
    trainer.save_best_model()
    trainer.epochs_done = following


def _step_schedulers(trainer: Trainer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch misses the optimizer's step, which the former process took
        for scheduler in trainer.scheduler:
            if scheduler is not None:
                scheduler.step()


def restore_best_loss(trainer: Trainer) -> None:
    """Set the loss of the best model of a continued run, in place of that of its last checkpoint, which Coqui takes."""
    if not trainer.continue_run or not trainer.args.best_path:
        return
    path = Path(str(trainer.args.best_path))
    if not path.name.startswith("best_model"):  # Coqui names the last checkpoint where there is no best model
        trainer.best_loss = {"train_loss": float("inf"), "eval_loss": float("inf") if trainer.config.run_eval else None}
    elif path.is_file() and isinstance(loss := read_checkpoint(str(path)).get("model_loss"), dict):
        trainer.best_loss = cast(Any, loss)
