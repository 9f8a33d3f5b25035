"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it has is kept, nothing half is left, and one line says so."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_driver import SCRIPT, environment
from tiny_vits import dataset, run_config

from coqui_scl_plugin.references.cache import ReferenceCache

_SECONDS = 120
_PROMPT_SECONDS = 20  # a few on a quiet machine


@dataclass
class Running:
    """A command that runs in a session of its own, so that no process of it can be missed."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def said(self) -> str:
        return "".join((self.folder / name).read_text(errors="replace") for name in ("out", "err"))

    def wait_for(self, *parts: str, file: str = "") -> None:
        """Wait until the command has said one of the parts, or has written a file."""
        until = time.monotonic() + _SECONDS
        while not any(part in self.said for part in parts) and not (file and list(self.folder.rglob(file))):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < until, self.said
            time.sleep(0.02)

    def end(self, number: int) -> int:
        """Send a signal, and return the exit status; no process is left, and no traceback was printed."""
        os.kill(self.process.pid, number)
        status = self.process.wait(_PROMPT_SECONDS)
        left = subprocess.run(["ps", "-s", str(self.process.pid), "-o", "stat="], capture_output=True, check=False)
        assert left.stdout.strip() in (b"", b"Z")
        assert "Traceback" not in self.said, self.said
        assert self.said.count("coqui-scl: ") == 1
        assert self.said.endswith(f"coqui-scl: ended by {signal.Signals(number).name}.\n")
        assert not list(self.folder.rglob("*.partial*"))
        return status


def _ignore_nothing() -> None:
    """Undo in a command what the tests themselves may have inherited, as from nohup."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def run(tmp_path: Path, libri10: Path) -> Iterator[Any]:
    """Return a function that starts a command on a config of real speech."""
    started = []

    def start(command: str, prefix: tuple[str, ...] = (), **changes: Any) -> Running:
        config = run_config(libri10, datasets=[dataset(libri10)], epochs=99, print_step=1, run_eval=False, **changes)
        (tmp_path / "config.json").write_text(json.dumps(config))
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            process = subprocess.Popen(
                [*prefix, SCRIPT, command, "--config_path", "config.json"],
                cwd=tmp_path, stdout=out, stderr=err, start_new_session=True,
                env=environment(OMP_NUM_THREADS="1"), preexec_fn=_ignore_nothing,
            )  # fmt: skip
        started.append(process)
        return Running(process, tmp_path)

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_training_is_saved_and_ends_with_the_status_of_the_signal(run: Any) -> None:
    running = run("train", num_loader_workers=2)
    running.wait_for("STEP: 3/")
    assert running.end(signal.SIGTERM) == 128 + signal.SIGTERM
    (checkpoint,) = running.folder.glob("runs/*/checkpoint_*.pth")
    assert int(checkpoint.stem.rpartition("_")[2]) >= 3
    config = next(running.folder.glob("runs/*/config.json"))
    assert json.loads(config.read_text())["model"] == "scl_vits"


def test_embeddings_are_kept(run: Any) -> None:
    running = run("embed", scl={"encoders": [{"name": "dvector"}]})
    running.wait_for(file="speaker_references.safetensors")
    assert running.end(signal.SIGHUP) == 128 + signal.SIGHUP
    (entries,) = ReferenceCache.load(running.folder / "runs" / "speaker_references.safetensors")._entries.values()
    assert 0 < len(entries) < 100


def test_a_run_that_has_not_begun_leaves_nothing_and_ignored_signals_stay_ignored(run: Any) -> None:
    """As in the background of a shell, which ignores SIGINT, and under nohup, which ignores SIGHUP."""
    running = run("train", prefix=("bash", "-c", 'trap \'\' INT HUP; exec "$0" "$@"'))
    running.wait_for("References by ge2e")  # the run folder is there
    os.kill(running.process.pid, signal.SIGINT)
    os.kill(running.process.pid, signal.SIGHUP)
    time.sleep(0.1)
    assert running.process.poll() is None
    os.kill(running.process.pid, signal.SIGTERM)  # as `timeout` does, which sends it to the group as well
    assert running.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert not [path for path in running.folder.glob("runs/*") if path.is_dir()]
