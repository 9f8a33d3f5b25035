"""Runs with several processes, and the role of each process.

Every process builds its own model, encoders and guards, checks the run before step 1, embeds all recordings (the
reference cache is shared, and replaced as a whole), and checks its own encoders. The main process alone records the run
in its folder, prints tables, and removes the folder of a run that did not start: `run_start.py` and `training_run.py`
ask `is_main_process`. Progress bars and warnings come from every process.

Coqui's `trainer.distribute` sets the rank in `trainer.args`. torchrun sets the environment variable RANK alone, which
Coqui obeys for checkpoints and TensorBoard: there every process takes itself for the main one here.

Coqui's trainer calls `train_step` past DistributedDataParallel, so gradients are not averaged and the processes drift
apart. Code that averages them belongs here, to be called from `TrainingRun.begin`.
"""

from trainer import Trainer


def is_main_process(trainer: Trainer) -> bool:
    """Tell whether this process records and prints for all processes."""
    return bool(trainer.args.rank == 0)
