"""Whole commands, timed from outside: until they end, or until they say that they have reached a place."""

import os
import resource
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.speed.timing import Effort

COQUI_SCL = str(Path(sysconfig.get_path("scripts")) / "coqui-scl")
_ROOT = Path(__file__).parents[2]
Command = Sequence[str]


def python(*arguments: str) -> list[str]:
    """Return a command of this Python."""
    return [sys.executable, *arguments]


def _cpu_seconds_of_children() -> float:
    """Return the CPU time of all processes that were waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


class Timed:
    """Commands of one figure: their clock and their environment."""

    def __init__(self, effort: Effort, folder: Path) -> None:
        """Take how to measure, and the folder that commands run in."""
        self._cpu_time, self._folder = effort.cpu_time, folder
        self._environment = {
            **os.environ, "OMP_NUM_THREADS": str(effort.threads), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(_ROOT),
        }  # fmt: skip
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled, and so is stock's

    def seconds(self, command: Command) -> float:
        """Run a command to its end, and return the seconds that it took.

        Raises:
            RuntimeError: it failed.
        """
        started, spent = time.perf_counter(), _cpu_seconds_of_children()
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(_failed(command, done.returncode, done.stdout + done.stderr))
        return _cpu_seconds_of_children() - spent if self._cpu_time else time.perf_counter() - started

    def seconds_until(self, command: Command, places: Sequence[str]) -> list[float]:
        """Run a command until the last of several lines that it writes, and return the seconds until each.

        Args:
            command: What to run; it is killed after the last line.
            places: What the lines hold, in their order.

        Raises:
            RuntimeError: it ended without one of the lines.
        """
        started, reached, lines = time.perf_counter(), list[float](), list[str]()
        with subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            for line in process.stdout or ():
                lines.append(line)
                if places[len(reached)] in line:
                    reached.append(self._spent(process, started))
                    if len(reached) == len(places):
                        process.kill()
                        return reached
        raise RuntimeError(_failed(command, process.returncode, "".join(lines)))

    def _spent(self, process: subprocess.Popen[str], started: float) -> float:
        if not self._cpu_time:
            return time.perf_counter() - started
        spent = psutil.Process(process.pid).cpu_times()
        return float(spent.user + spent.system)


def _failed(command: Command, status: int, said: str) -> str:
    return f"{' '.join(command)} ended with {status}:\n{said[-4000:]}"
