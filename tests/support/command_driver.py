"""`coqui-scl` as a user runs it: one command by the installed script, or many in one process.

Importing torch and Coqui takes seconds, so tests that run many commands share one process. This file is its program:
`python command_driver.py COMMANDS RESULTS`.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from coqui_scl_plugin import cli

SCRIPT = Path(sys.executable).with_name("coqui-scl")
_TERMINAL = {"COLUMNS": "200", "NO_COLOR": "1"}
_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Command:
    """The arguments of `coqui-scl`, the folder that it runs in, and files there that are touched before it runs."""

    folder: Path
    arguments: Sequence[str]
    touched: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """The exit status of a command, what it printed, and what it changed in its folder, as `changes_in` lists it."""

    status: int
    out: str
    err: str
    changed: list[str]

    @property
    def report(self) -> Any:
        """The JSON that the command printed."""
        return json.loads(self.out)

    def assert_one_message(self, parts: Sequence[str] = ()) -> None:
        """Assert that the command ended with one message and no traceback, and that the message holds `parts`."""
        assert "Traceback" not in self.err + self.out, self.err[-600:] + self.out[-600:]
        assert self.err.count("coqui-scl: ") == 1, self.err
        assert [part for part in parts if part not in self.err] == [], self.err

    def assert_refused(self, parts: Sequence[str] = (), starts: str = "coqui-scl: ") -> None:
        """Assert that the command changed nothing and ended with status 2, its message alone on standard error."""
        self.assert_one_message(parts)
        assert self.status == 2, self.err
        assert self.err.startswith(starts), self.err
        assert self.changed == []


@contextlib.contextmanager
def changes_in(*folders: Path) -> Iterator[list[str]]:
    """Yield a list that, on leaving, receives the paths within `folders` that were written, changed or removed.

    Files stand for the folders that they are in; an empty folder is listed itself, with a slash at its end.
    """
    changes: list[str] = []
    before = _contents(folders)
    yield changes
    after = _contents(folders)
    changes += sorted({name for (_, name), _ in before.items() ^ after.items()})


def _contents(folders: Sequence[Path]) -> dict[tuple[Path, str], bytes]:
    """Return the bytes of each file, and none for each empty folder, by folder and path within it."""
    contents = {}
    for folder in folders:
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            if path.is_file():
                contents[folder, name] = path.read_bytes()
            elif path.is_dir() and not any(path.iterdir()):
                contents[folder, f"{name}/"] = b""
    return contents


def environment(*paths: Path, **more: str) -> dict[str, str]:
    """Return this process's environment, with `paths` first on PYTHONPATH, for a wide terminal without colours."""
    python_path = filter(None, [*map(str, paths), os.environ.get("PYTHONPATH")])
    return os.environ | _TERMINAL | {"PYTHONPATH": os.pathsep.join(python_path)} | more


def run_script(*arguments: str | Path, folder: Path | None = None, paths: Sequence[Path] = ()) -> Outcome:
    """Run one command by the installed script, in an empty folder unless one is given."""
    with contextlib.ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with changes_in(place) as changed:
            process = _run([SCRIPT, *arguments], cwd=place, env=environment(*paths))
    return Outcome(process.returncode, process.stdout, process.stderr, changed)


def run_here(folder: Path, *arguments: str | Path) -> Outcome:
    """Run one command in this process; an exception that it does not handle is status 1 and a traceback."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        changes_in(folder) as changed,
        contextlib.chdir(folder),
        mock.patch.object(sys, "argv", ["coqui-scl", *map(str, arguments)]),
        mock.patch.dict(os.environ, _TERMINAL),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        except Exception:  # noqa: BLE001  # as the interpreter does, and the commands after this one still run
            traceback.print_exc()
            status = 1
    return Outcome(status, out.getvalue(), err.getvalue(), changed)


def run_commands(commands: Mapping[str, Command], *paths: Path) -> dict[str, Outcome]:
    """Run commands one after the other in one process that has `paths` on PYTHONPATH; return outcomes by name."""
    with tempfile.TemporaryDirectory() as folder:
        work, results = Path(folder) / "commands.json", Path(folder) / "results.jsonl"
        work.write_text(json.dumps({name: asdict(command) for name, command in commands.items()}, default=str))
        results.touch()
        # -P: the folder of this file is not importable by a user's command either
        process = _run([sys.executable, "-P", __file__, work, results], env=environment(*paths))
        outcomes = results.read_text()
    assert process.returncode == 0, f"{outcomes[-2000:]}\n{process.stdout}\n{process.stderr}"
    return {name: Outcome(**outcome) for name, outcome in map(json.loads, outcomes.splitlines())}


def slow_imports_of(*arguments: str) -> tuple[set[str], str]:
    """Return which packages that take seconds to import a command imports, and what it prints."""
    program = """
import sys
from coqui_scl_plugin.cli import main
sys.argv = ["coqui-scl", *sys.argv[1:]]
try:
    main()
finally:
    print("\\nIMPORTED", *sys.modules)
"""
    process = _run([sys.executable, "-c", program, *arguments], env=environment())
    assert process.returncode == 0, process.stderr
    shown, _, imported = process.stdout.rpartition("\nIMPORTED ")
    assert "coqui_scl_plugin.cli" in imported.split()
    return {"torch", "TTS", "trainer", "numpy", "matplotlib"} & set(imported.split()), shown


def _run(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False, **options)


def main() -> None:
    """Run the commands of a file, and append each outcome to another at once, for a command may end the process."""
    work, results = map(Path, sys.argv[1:])
    for name, fields in json.loads(work.read_text()).items():
        folder = Path(fields["folder"])
        for file in fields["touched"]:
            os.utime(folder / file)
        outcome = run_here(folder, *fields["arguments"])
        with results.open("a") as lines:
            lines.write(json.dumps([name, asdict(outcome)]) + "\n")


if __name__ == "__main__":
    main()
