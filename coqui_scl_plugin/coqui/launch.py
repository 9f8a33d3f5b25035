"""Which of several processes this one is, as the launcher says: torchrun, or Coqui's `trainer.distribute`.

Nothing here imports torch: which GPU a process sees must be settled before torch looks.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from coqui_scl_plugin.errors import ConfigError

_COQUI_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Variables by which Coqui's trainer decides whether a process writes checkpoints, the first that is set."""
_COQUI_URL = "tcp://localhost:54321"
"""The default of `distributed_url`."""


@dataclass(frozen=True)
class Launch:
    """The place of this process among those of a run."""

    rank: int = 0
    """Its number; 0 is the main process."""
    count: int = 1
    url: str = "env://"
    """Where the processes meet."""


def launched(arguments: Sequence[str]) -> Launch:
    """Read what the launcher of this process has set, and let the process see a single GPU.

    Args:
        arguments: Of the command. `trainer.distribute` adds some to them, and sets no more than RANK.

    Raises:
        ConfigError: the variables contradict each other.
    """
    if _number("WORLD_SIZE", 1) > 1:
        launch = Launch(_needed("RANK"), _number("WORLD_SIZE", 1))
        _see_one_gpu(_number("LOCAL_RANK", launch.rank))
    elif "--use_ddp=true" in arguments:
        own = [argument for argument in arguments if argument.startswith("--rank=")]
        rank = int(own[-1].partition("=")[2]) if own else _number("RANK", 0)
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        launch = Launch(rank, len(gpus), _COQUI_URL)
        _see_one_gpu(rank)
    else:
        launch = Launch()
    if not launch.rank < launch.count:
        raise ConfigError(f"RANK = {launch.rank}: must be less than the number of processes, {launch.count}.")
    if launch.count == 1:
        refuse_lone_rank()
    return launch


def refuse_lone_rank() -> None:
    """Raise a ConfigError if a variable makes Coqui take a process that is alone for one of several."""
    if _number("WORLD_SIZE", 1) > 1:
        msg = (
            f"WORLD_SIZE = {os.environ['WORLD_SIZE']} is set, but the processes are no group, and each would train "
            "alone in the same folder. Start with torchrun --nproc_per_node=N -m coqui_scl_plugin train ..., or call "
            "torch.distributed.init_process_group before the trainer is made, with TrainerArgs(rank=get_rank())."
        )
        raise ConfigError(msg)
    name = next((name for name in _COQUI_RANKS if name in os.environ), None)
    if name is not None and _number(name, 0) > 0:
        msg = (
            f"{name} = {os.environ[name]} is set, and no WORLD_SIZE greater than 1: Coqui would take this process for "
            "one of several, and write no checkpoint. Start several processes with torchrun "
            "--nproc_per_node=N -m coqui_scl_plugin train ..., or unset it."
        )
        raise ConfigError(msg)


def _needed(name: str) -> int:
    if name not in os.environ:
        raise ConfigError(f"WORLD_SIZE = {os.environ['WORLD_SIZE']} is set, and {name} is not: start with torchrun.")
    return _number(name, 0)


def _number(name: str, default: int) -> int:
    given = os.environ.get(name) or str(default)
    if not given.isdecimal():
        raise ConfigError(
            f"{name} = {given[:40]!r}: must be a whole number; the launcher of several processes sets it."
        )
    return int(given)


def _see_one_gpu(local_rank: int) -> None:
    """Let this process see the GPU of its number alone; a launcher may have given each process one already."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible is not None else None
    if gpus is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(local_rank)
    elif len(gpus) > 1:
        if local_rank >= len(gpus):
            msg = (
                f"LOCAL_RANK = {local_rank}: CUDA_VISIBLE_DEVICES = {visible} names {len(gpus)} GPUs, and each process "
                "needs one of its own. Start as many processes as there are GPUs."
            )
            raise ConfigError(msg)
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[local_rank].strip()
