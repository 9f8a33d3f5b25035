"""How a training ends that a signal interrupts: as Coqui's does, but with the exit status of the signal."""

from trainer import Trainer
from trainer.generic_utils import remove_experiment_folder

from coqui_scl_plugin.utils.signals import received, status_of


def end_by_signal(trainer: Trainer) -> None:
    """Let a command's run end by itself after a signal, once the trainer has saved and all other callbacks are done.

    The trainer would leave the process at once, with the status of Ctrl-C whatever the signal was.
    """
    trainer.callbacks.parse_callbacks_dict({"on_keyboard_interrupt": _end})


def _end(trainer: Trainer) -> None:
    """Do what the trainer does next, then raise SystemExit. Without a signal that a command watches, do nothing."""
    if (number := received()) is None:
        return
    remove_experiment_folder(trainer.output_path)
    if trainer.args.rank == 0:
        trainer.dashboard_logger.finish()
    raise SystemExit(status_of(number))
