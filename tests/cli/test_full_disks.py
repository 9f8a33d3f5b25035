"""A disk that is full or cannot be written to: one message with the file and the reason, and what was there stays."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from command_driver import Command, Outcome, changes_in, run_commands
from tiny_vits import dataset, run_config

from coqui_scl_plugin.coqui.d_vectors import export_d_vectors
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.preflight.report import PreflightReport
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.recordings import Recording, Stamp
from coqui_scl_plugin.utils.atomic import replacing_folder
from coqui_scl_plugin.utils.wav_file import write_wav

FULL = "No space left on device"
READ_ONLY = "Read-only file system"


def mount(folder: Path, options: str) -> None:
    """Mount a file system in memory on a new folder, or skip the test where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small disk here")


# --- training ---------------------------------------------------------------------------------------------------------

SIZES = {"4k": "config", "28k": "records", "100k": "steps", "1m": "checkpoint"}
"""What no longer fits on disks of these sizes."""


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory, libri10: Path) -> Iterator[dict[str, tuple[Outcome, Path]]]:
    """Train on full disks of several sizes and on one that is read-only; return outcomes, and the folders of runs."""
    work = tmp_path_factory.mktemp("disks")
    commands, disks = {}, {}
    for name in (*SIZES, "read-only"):
        disks[name] = work / name
        mount(disks[name], f"size={name}" if name in SIZES else "ro")
        config = run_config(
            libri10, datasets=[dataset(libri10)], epochs=2, print_step=1, run_eval=False, save_step=2,
            output_path=str(disks[name] / "runs"), scl={"reference": {"cache": str(work / "cache.safetensors")}},
        )  # fmt: skip
        place = work / f"{name}-config"
        place.mkdir()
        (place / "config.json").write_text(json.dumps(config))
        commands[name] = Command(place, ["train", "--config_path", "config.json", "--small_run=8"])
    outcomes = run_commands(commands)
    yield {name: (outcome, disks[name]) for name, outcome in outcomes.items()}
    for disk in disks.values():
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    shutil.rmtree(work)


@pytest.mark.parametrize("name", SIZES)
def test_a_training_ends_with_one_message(trainings: dict[str, tuple[Outcome, Path]], name: str) -> None:
    outcome, disk = trainings[name]
    outcome.assert_one_message([f"coqui-scl: {disk}/runs/", FULL])
    assert outcome.status == 1
    assert not list(disk.rglob("*.partial*"))
    if name in ("4k", "28k"):  # it did not start
        assert not list(disk.glob("runs/*"))


def test_a_training_on_a_disk_that_is_read_only(trainings: dict[str, tuple[Outcome, Path]]) -> None:
    outcome, disk = trainings["read-only"]
    outcome.assert_refused([f"output_path = '{disk}/runs'", "cannot be written to", "(check 'files')"])


# --- all other files --------------------------------------------------------------------------------------------------


def save_cache(folder: Path) -> None:
    cache = ReferenceCache.load(folder / "cache.safetensors")
    cache.put("one", "a", Stamp(1, 1), torch.randn(8192))
    cache.save()


def export(folder: Path, name: str) -> None:
    export_d_vectors(folder / name, [Recording("a", folder / "a.wav", "b")], torch.randn(1, 8192))


def write_preflight(folder: Path) -> None:
    PreflightReport().write(folder, {"more": ["x" * 8192]})


def write_audio(folder: Path) -> None:
    with replacing_folder(folder / "audio") as temporary:
        write_wav(temporary / "a.wav", torch.zeros(8192), 16_000)


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "cache": ("cache.safetensors", save_cache),
    "d-vectors, pth": ("made.pth", lambda folder: export(folder, "made.pth")),
    "d-vectors, json": ("made.json", lambda folder: export(folder, "made.json")),
    "preflight": ("preflight.json", write_preflight),
    "audio": ("audio", write_audio),
}


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    mount(tmp_path / "disk", "size=512k")
    yield tmp_path / "disk"
    subprocess.run(["umount", "--lazy", str(tmp_path / "disk")], check=True)


@pytest.mark.parametrize("state", ["full", "read-only"])
@pytest.mark.parametrize("name", WRITERS)
def test_the_file_is_named_and_what_was_there_stays(disk: Path, name: str, state: str) -> None:
    file, write = WRITERS[name]
    write(disk)
    assert (disk / file).exists()
    if state == "full":
        fill(disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with changes_in(disk) as changed, pytest.raises((OSError, ConfigError)) as caught:
        write(disk)
    assert str(disk / file) in str(caught.value)
    assert (FULL if state == "full" else READ_ONLY) in str(caught.value)
    assert changed == []
