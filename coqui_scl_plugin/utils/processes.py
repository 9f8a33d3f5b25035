"""What the processes of one run tell each other, by `torch.distributed`. A single process hears only itself.

Plain objects travel through a gloo group of their own, so that nothing waits for a GPU; tensors through the group that
the run was started with. Each function must be called by all processes, in the same order.
"""

import contextlib
import datetime
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from coqui_scl_plugin.errors import ConfigError, ProcessError, SclError

TIMEOUT = "SCL_PROCESS_TIMEOUT"
"""Variable with the seconds for which a process waits for the others in a step."""
_SECONDS = 600.0
_PATIENCE = datetime.timedelta(days=7)
"""For what the main process does before step 1; if it ends, the others notice at once."""


class _Groups(NamedTuple):
    """The groups for plain objects, and the run's own group, which they belong to."""

    whole: Any
    quick: Any
    patient: Any


_groups: _Groups | None = None


def timeout() -> datetime.timedelta:
    """Return for how long a process waits for the others in a step. Raises ConfigError."""
    given = os.environ.get(TIMEOUT, "")
    try:
        seconds = float(given) if given else _SECONDS
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _PATIENCE.total_seconds():
        raise ConfigError(f"{TIMEOUT} = {given!r}: must be a number of seconds greater than 0, at most a week.")
    return datetime.timedelta(seconds=seconds)


def count() -> int:
    """Return the number of processes of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0, which is the main one."""
    return dist.get_rank() if count() > 1 else 0


def several() -> bool:
    """Tell whether this run has several processes."""
    return count() > 1


def _plain() -> _Groups:
    global _groups
    whole = dist.group.WORLD
    if _groups is None or _groups.whole is not whole:
        wait = timeout()
        groups = [dist.new_group(backend="gloo", timeout=wait) for wait in (wait, _PATIENCE)]
        _groups = _Groups(whole, *groups)
    return _groups


def meet() -> None:
    """Make the groups for plain objects while all processes are there, before one waits long for another.

    Raises:
        ProcessError: another process does not come within the timeout.
    """
    if several():
        with in_contact():
            _plain()


@contextlib.contextmanager
def in_contact() -> Iterator[None]:
    """Turn what `torch.distributed` raises within the block into a message. Raises ProcessError."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        msg = (
            f"Process {rank()} of {count()} lost contact with the others: one of them has ended, or has not answered "
            f"within {timeout().total_seconds():g} s. Look for its own message; if all of them work and are slow, "
            f"raise {TIMEOUT}. ({reason[:160]})"
        )
        raise ProcessError(msg) from error


# --- plain objects ----------------------------------------------------------------------------------------------------


def from_all(value: Any) -> list[Any]:
    """Return the values of all processes, by rank. Raises ProcessError."""
    if not several():
        return [value]
    values: list[Any] = [None] * count()
    with in_contact():
        dist.all_gather_object(values, value, group=_plain().quick)
    return values


def from_main(value: Any = None) -> Any:
    """Return the value of the main process, however long it takes to send one. Raises ProcessError."""
    if not several():
        return value
    values = [value]
    with in_contact():
        dist.broadcast_object_list(values, src=0, group=_plain().patient)
    return values[0]


def any_of(flags: Sequence[bool]) -> list[bool]:
    """Return for each of the flags whether it is set in any process. Raises ProcessError."""
    if not several():
        return list(flags)
    joint = torch.tensor(flags, dtype=torch.uint8)
    with in_contact():
        dist.all_reduce(joint, dist.ReduceOp.MAX, group=_plain().quick)
    return [bool(flag) for flag in joint.tolist()]


# --- tensors ----------------------------------------------------------------------------------------------------------


def total(tensor: Tensor) -> Tensor:
    """Return the sum over all processes, without a gradient. Raises ProcessError."""
    joint = tensor.detach().clone()
    if several():
        with in_contact():
            dist.all_reduce(joint)
    return joint


def rows_of_all(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the rows of all processes one below the other, `[sum(counts), D]`, with the graph of the own ones.

    The gradient of the own rows is multiplied by the number of processes, since gradients are averaged afterwards: a
    loss of all rows then has, after averaging, the gradient that it has in a single process.

    Args:
        rows: The rows of this process, `[B, D]`.
        counts: The number of rows of each process.

    Raises:
        ProcessError: another process does not answer.
    """
    if not several():
        return rows
    own = rows.view_as(rows)
    if own.requires_grad:
        factor = count()
        own.register_hook(lambda gradient: gradient * factor)
    padded = rows.detach().new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    gathered = [torch.empty_like(padded) for _ in counts]
    with in_contact():
        dist.all_gather(gathered, padded)
    parts = [part[:number] for part, number in zip(gathered, counts, strict=True)]
    parts[rank()] = own
    return torch.cat(parts)


def copy_from_main(tensors: Sequence[Tensor]) -> None:
    """Overwrite tensors by those of the main process. Raises ProcessError."""
    if several():
        with in_contact(), torch.no_grad():
            for tensor in tensors:
                dist.broadcast(tensor.data, 0)


# --- ends -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def same_fate(*, together: bool = True) -> Iterator[None]:
    """End all processes with a message if an error of ours ends the block in one of them.

    Args:
        together: Whether they tell each other now. If not, the others notice at their next exchange.

    Raises:
        ProcessError: the block failed in another process.
    """
    failure = None
    try:
        yield
    except SclError as error:
        failure = error
    if together and several():
        others = {number: text for number, text in enumerate(from_all(failure and str(failure))) if text}
        if failure is None and others:
            raise ProcessError(
                "; ".join(f"process {number} stopped the run: {text}" for number, text in others.items())
            )
    if failure is not None:
        raise failure
