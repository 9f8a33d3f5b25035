"""Runs with several processes, and the role of each process.

Under torchrun or Coqui's `trainer.distribute`, every process builds its own model, encoders and guards, checks the run
before step 1 and guards its own encoders. Only the main process, of rank 0, writes to the run folder, prints, and
removes a run that did not start. Coqui's trainer calls `train_step` past DistributedDataParallel, so gradients are not
averaged; code that averages them would belong here.
"""

from trainer import Trainer


def is_main_process(trainer: Trainer) -> bool:
    """Tell whether this process writes and prints for all processes."""
    return bool(trainer.args.rank == 0)
