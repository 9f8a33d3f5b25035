"""Runs with several processes: how they begin and end together, and the role of each.

The main process alone checks the run, embeds the recordings, writes the run folder, prints, and saves; the others wait
for its decision and take what it measured. All of them train: each on its own share of the data, with averaged
gradients (`averaging.py`), and each watches its own encoders.
"""

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data.distributed import DistributedSampler
from trainer import Trainer

from coqui_scl_plugin.coqui.launch import Launch, refuse_lone_rank
from coqui_scl_plugin.errors import ConfigError, ProcessError
from coqui_scl_plugin.utils import processes

Losses = dict[str, Any]

_OF_OWN_SHARE = ("bad_steps", "bad_recordings")
"""Modules whose warnings are of a process's own share of the data, so that each process says its own."""


def is_main_process(trainer: Trainer) -> bool:
    """Tell whether this process records and prints for all processes."""
    return bool(trainer.args.rank == 0)


@contextlib.contextmanager
def joined(launch: Launch) -> Iterator[None]:
    """Within the block, the processes of a launch are a group.

    Raises:
        ProcessError: the others do not come.
    """
    if launch.count == 1 or processes.several():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.device_count() > 0 else "gloo"
    wait = processes.timeout()
    try:
        dist.init_process_group(backend, launch.url, rank=launch.rank, world_size=launch.count, timeout=wait)
    except (RuntimeError, ValueError) as error:
        msg = f"Process {launch.rank} of {launch.count} did not find the others at {launch.url} within {wait}: {error}"
        raise ProcessError(msg) from error
    if launch.rank:
        for name in ("TTS", "trainer", "coqui_scl_plugin"):
            logging.getLogger(name).setLevel(logging.ERROR)  # what the main process says, they need not repeat
        for name in _OF_OWN_SHARE:
            logging.getLogger(f"coqui_scl_plugin.coqui.{name}").setLevel(logging.WARNING)
    try:
        processes.meet()
        yield
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def check_group(trainer: Trainer) -> None:
    """Refuse a trainer that does not know what the launcher of its process has set.

    Raises:
        ConfigError: Coqui's trainer and the group of processes disagree, so that several would write as the main one.
        ProcessError: another process does not come.
    """
    if not processes.several():
        refuse_lone_rank()
    own = trainer.args.rank or 0
    if own != processes.rank():
        msg = (
            f"TrainerArgs.rank = {own}, but this is process {processes.rank()} of {processes.count()}: give the "
            "trainer TrainerArgs(rank=torch.distributed.get_rank()), or start coqui-scl train."
        )
        raise ConfigError(msg)
    processes.meet()


# --- what the main process decides ------------------------------------------------------------------------------------

_STARTS, _REFUSES, _LOADS = "starts", "refuses", "loads"


@contextlib.contextmanager
def deciding(answer: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """Do in the main process what the others wait for in `decision`: they go on only if the block does not fail.

    Args:
        answer: Returns what they receive, once the block is done.
    """
    try:
        yield
    except (Exception, SystemExit):
        with contextlib.suppress(ProcessError):
            processes.from_main((_REFUSES, None))
        raise
    processes.from_main((_STARTS, answer()))


def decision() -> Any:
    """Wait in another process for the main one, and return its answer.

    Raises:
        ProcessError: the main process does not start the run, or has ended.
    """
    while (message := processes.from_main())[0] == _LOADS:
        dist.barrier()
    if message[0] == _REFUSES:
        msg = f"Process {processes.rank()} ends, since the main process did not start the run; its message says why."
        raise ProcessError(msg)
    return message[1]


def load_alone() -> None:
    """Let the others take part in the barrier of a data loader that Coqui makes in the main process for a check."""
    if processes.several():
        processes.from_main((_LOADS, None))


# --- what all processes do together -----------------------------------------------------------------------------------


def copy_model_from_main(model: nn.Module, frozen: Sequence[nn.Module]) -> None:
    """Begin with the parameters and buffers of the main process; frozen encoders are the same already."""
    kept = {id(t) for module in frozen for t in itertools.chain(module.parameters(), module.buffers())}
    processes.copy_from_main([t for t in itertools.chain(model.parameters(), model.buffers()) if id(t) not in kept])


def shuffle_anew(trainer: Trainer) -> None:
    """Give an epoch an order of its own, the same in all processes; Coqui's would be that of the first epoch."""
    sampler = getattr(trainer.train_loader, "sampler", None)
    if processes.several() and isinstance(sampler, DistributedSampler):
        sampler.set_epoch(trainer.epochs_done)


def mean_losses(losses: Losses) -> Losses:
    """Return the means over all processes of an evaluation step's losses."""
    if not processes.several():
        return losses
    everyone = processes.from_all({k: float(v) for k, v in losses.items() if isinstance(v, float | int | Tensor)})
    return {k: sum(own[k] for own in everyone) / len(everyone) for k in losses if all(k in own for own in everyone)}
