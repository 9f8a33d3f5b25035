"""Runs in processes of their own that are killed at a chosen moment: forks of this one, which has imported all."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from coqui_scl_plugin.coqui.whole_files import WholeFile


def in_a_fork(work: Callable[[], object], log: Path) -> int:
    """Start a process that does some work, with what it prints in a file, and return its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    status = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", closefd=False)
        torch.set_num_threads(1)
        work()
        status = 0
    except BaseException:  # noqa: BLE001  # the parent sees the status, and the file has the rest
        import traceback

        traceback.print_exc(file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(status)


def end_of(pid: int) -> int:
    """Wait for a process, and return its exit status; negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_when_there(pid: int, folder: Path, pattern: str, seconds: float) -> None:
    """Kill a process some time after a file appears in a folder."""
    while not list(folder.glob(pattern)):
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise AssertionError("the process ended before")
        time.sleep(0.005)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_writing(name: str, size: int) -> None:
    """From now on, die after so many bytes of a file whose name begins with `name` have been written."""
    write, written = WholeFile.write, {}

    def counted(self: WholeFile, data: Any) -> Any:
        if self._target.name.startswith(name):
            written[self.path] = written.get(self.path, 0) + memoryview(data).nbytes
            if written[self.path] > size:
                write(self, memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
                self.flush()
                _die()
        return write(self, data)

    WholeFile.write = counted  # type: ignore[method-assign]


def die_at_rename(name: str, *, before: bool) -> None:
    """From now on, die before or after a file is renamed to a name that begins with `name`."""
    replace = Path.replace

    def dying(self: Path, target: Any) -> Path:
        hit = Path(target).name.startswith(name)
        if hit and before:
            _die()
        result = replace(self, target)
        if hit:
            _die()
        return result

    Path.replace = dying  # type: ignore[method-assign]


def die_in_write(name: str, call: int) -> None:
    """From now on, die in the middle of the so-manieth `write_bytes` to a file whose name begins with `name`."""
    write, calls = Path.write_bytes, []

    def dying(self: Path, data: bytes) -> int:
        if self.name.startswith(name):
            calls.append(self)
            if len(calls) > call:
                write(self, data[: len(data) // 2])
                _die()
        return write(self, data)

    Path.write_bytes = dying  # type: ignore[method-assign]
