"""No terminal, pipe or encoding turns the output of a command into a traceback."""

import os
import subprocess
from dataclasses import dataclass, field

import pytest
from command_driver import SCRIPT, environment

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CANNOT_BE_WRITTEN = "coqui-scl: standard output cannot be written: No space left on device.\n"
NARROW = "| . | it | | k. |"


@dataclass(frozen=True)
class Case:
    """A line for the shell, and what it ends with."""

    line: str
    status: int = 0
    err: str | None = ""
    has: str = ""
    """Part of the output."""
    environment: dict[str, str] = field(default_factory=dict)


CASES = {
    # rich tables
    "C locale": Case("coqui-scl list", has=NARROW, environment=ASCII | {"COLUMNS": "20", "TERM": "dumb"}),
    "full": Case("coqui-scl list > /dev/full", status=1, err=CANNOT_BE_WRITTEN),
    # text, which comes at once
    "ASCII": Case("coqui-scl -h", has="preflight", environment={"PYTHONIOENCODING": "ascii"}),
    "full, help": Case("coqui-scl embed -h > /dev/full", status=1, err=CANNOT_BE_WRITTEN),
    "full, both": Case("coqui-scl -h > /dev/full 2>&1", status=1),
    "full, messages": Case("coqui-scl train --config_path nowhere 2> /dev/full", status=2),
    "closed": Case("coqui-scl -h >&- 2>&-"),
    "closed, an error": Case("coqui-scl train --config_path nowhere >&- 2>&- <&-", status=2),
    "read in part": Case(
        "set -o pipefail; coqui-scl -h | head -1",
    ),
    "no reader": Case("set -o pipefail; coqui-scl -h | true"),
    "surrogates": Case("coqui-scl train --config_path $'a\xff\u2026.json'", status=2, err=None, environment=ASCII),
}


@pytest.mark.parametrize("name", CASES)
def test_no_traceback(name: str) -> None:
    case = CASES[name]
    line = case.line.replace("coqui-scl", str(SCRIPT))
    env = environment() | case.environment
    process = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=env, check=False, timeout=60)
    assert process.returncode == case.status, process.stderr
    assert case.has in " ".join(process.stdout.split())
    if case.err is not None:
        assert process.stderr == case.err
    else:
        assert process.stderr.count("coqui-scl: ") == 1
        assert "Traceback" not in process.stderr


def test_nothing_is_written_to_a_file_that_is_opened_in_place_of_closed_output(tmp_path: os.PathLike[str]) -> None:
    program = """
import sys
from coqui_scl_plugin.utils.streams import holding_streams
with holding_streams(), open("mine.txt", "w") as file:
    print("to nobody")
    sys.stderr.write("to nobody")
    __import__("os").write(1, b"by a library")
"""
    line = f"{SCRIPT.with_name('python')} -c '{program}' >&- 2>&-"
    assert subprocess.run(["bash", "-c", line], cwd=tmp_path, check=False).returncode == 0
    with open(os.path.join(tmp_path, "mine.txt")) as file:  # noqa: PTH118, PTH123
        assert file.read() == ""
