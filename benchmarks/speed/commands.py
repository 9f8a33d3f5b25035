"""Whole commands, timed from outside: until they end, or until they say that they have reached a place."""

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
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


class Timed:
    """Commands of one figure: their clock and their environment."""

    def __init__(self, effort: Effort, folder: Path) -> None:
        """Take how to measure, and the folder that commands run in."""
        self._cpu_time, self._folder = effort.cpu_time, folder
        self._environment = {
            **os.environ, "OMP_NUM_THREADS": str(effort.threads), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(_ROOT),
        }  # fmt: skip

    def seconds(self, command: Command, until: str | None = None) -> float:
        """Run a command, and return the seconds until it ended, or until a line matched `until`, when it is killed.

        Raises:
            RuntimeError: it failed, or ended without such a line.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
            started = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, stderr=errors, text=True
            )
            lines = self._read(process, until)
            if until is not None and lines and re.search(until, lines[-1]):
                passed = self._passed(process, started)
                process.kill()
                process.wait()
                return passed
            before = os.times()
            status = process.wait()
            if status or until is not None:
                errors.seek(0)
                said = "".join(lines[-20:]) + errors.read()[-2000:]
                raise RuntimeError(f"{' '.join(command)} ended with {status}:\n{said}")
            if not self._cpu_time:
                return time.perf_counter() - started
            after = os.times()  # of children, once they are waited for
            return after.children_user + after.children_system - before.children_user - before.children_system

    @staticmethod
    def _read(process: subprocess.Popen[str], until: str | None) -> list[str]:
        lines: list[str] = []
        for line in process.stdout or ():
            lines.append(line)
            if until is not None and re.search(until, line):
                break
        return lines

    def _passed(self, process: subprocess.Popen[str], started: float) -> float:
        if not self._cpu_time:
            return time.perf_counter() - started
        spent = psutil.Process(process.pid).cpu_times()
        return float(spent.user + spent.system)
