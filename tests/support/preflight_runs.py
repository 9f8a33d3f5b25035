"""Made-up speech with and without defects, configs on it, and what a command on them came to."""

import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
from tiny_vits import SIZES
from toy_speech import speech

RATE = 16_000


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    status: int
    out: str
    err: str
    changed: list[str]
    """Files that it wrote, changed or removed, and folders that it made."""

    @property
    def report(self) -> dict[str, Any]:
        """What `--json` printed."""
        report: dict[str, Any] = json.loads(self.out)
        return report

    @property
    def not_passed(self) -> dict[str, str]:
        """Status by id of the checks that were run and did not pass."""
        return {c["id"]: c["status"] for c in self.report["checks"] if c["status"] not in ("passed", "not run")}

    def check(self, id_: str) -> dict[str, Any]:
        (found,) = [check for check in self.report["checks"] if check["id"] == id_]
        return dict(found)


def contents(*folders: Path) -> dict[str, bytes | None]:
    """All files and folders in `folders`."""
    return {
        str(path): path.read_bytes() if path.is_file() else None for folder in folders for path in folder.rglob("*")
    }


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name, 0) != after.get(name, 0))


# --- the speech -------------------------------------------------------------------------------------------------------

SPEAKERS = ("a", "b", "c")


def _table(path: Path, rows: list[tuple[str, str]]) -> None:
    lines = ["audio_file|text|speaker_name", *(f"{file}|a short text|{speaker}" for file, speaker in rows)]
    path.write_text("\n".join(lines) + "\n")


def _write(path: Path, seconds: float, seed: int, rate: int = RATE) -> None:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, speech(seconds, seed=seed, rate=rate), rate)


def write_speech(folder: Path) -> None:
    """Six recordings of each of three speakers, and tables that each have something wrong."""
    folder.mkdir()
    for speaker in SPEAKERS:
        for take in range(6):
            _write(folder / speaker / f"{take}.wav", 1.0 + 0.02 * take, seed=ord(speaker))
    rows = [(f"{speaker}/{take}.wav", speaker) for take in range(6) for speaker in SPEAKERS]
    _table(folder / "metadata.csv", rows)
    _table(folder / "one_speaker.csv", [row for row in rows if row[1] == "a"])
    _table(folder / "lopsided.csv", [(f"a/{take % 6}.wav", "a") for take in range(99)] + [("b/0.wav", "b")])
    _table(folder / "prefixed.csv", [(file, f"VCTK_{speaker}") for file, speaker in rows])
    _table(folder / "spaced.csv", [(file, f"{speaker} ") for file, speaker in rows])
    many = [(f"{take % 3}_{take}.wav", f"speaker {take % 12:02}") for take in range(24)]
    for file, speaker in many:
        _write(folder / file, 1.0, seed=zlib.crc32(speaker.encode()))
    _table(folder / "many.csv", many)
    two_of_three = [
        (f"{speaker}/{take}.wav", speaker) for speaker, takes in (("a", 6), ("b", 3)) for take in range(takes)
    ]
    _table(folder / "two_of_three.csv", two_of_three)
    _table(folder / "gone.csv", [("gone/0.wav", "a"), ("gone/1.wav", "b")])
    _write(folder / "fast" / "0.wav", 1.0, seed=1, rate=22_050)
    _table(folder / "two_rates.csv", [*rows, ("fast/0.wav", "a")])
    _write(folder / "short" / "0.wav", 0.15, seed=1)
    _table(folder / "short.csv", [*rows, ("short/0.wav", "a")])
    _table(folder / "fifteen.csv", [("short/0.wav", "a"), ("short/0.wav", "b")])
    (folder / "broken").mkdir()
    (folder / "broken" / "0.wav").write_bytes(b"no audio")
    _table(folder / "broken.csv", [*rows, ("broken/0.wav", "a")])
    names = [f"{take}|a short text|a short text" for take in range(6)]
    (folder / "ljspeech.csv").write_text("\n".join(names) + "\n")  # its formatter does not look for the files
    shutil.copytree(folder / "a", folder / "wavs")
    (folder / "ljspeech_gone.csv").write_text("gone|a short text|a short text\n" * 6)


def d_vectors(keys: Callable[[str, str], str], names: Callable[[str], str], size: int = 8) -> dict[str, Any]:
    """A file of d-vectors of the recordings in metadata.csv."""
    return {
        keys(speaker, str(take)): {"name": names(speaker), "embedding": [0.1] * size}
        for speaker in SPEAKERS
        for take in range(6)
    }


# --- configs ----------------------------------------------------------------------------------------------------------


def dataset(folder: Path, table: str = "metadata.csv", **more: str) -> dict[str, str]:
    return {"formatter": "coqui", "dataset_name": "toy", "path": str(folder), "meta_file_train": table, **more}


def run_config(folder: Path, *, args: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A config that is sound, but for `changes` of it and of its `model_args`."""
    return {
        "model": "scl_vits",
        "model_args": SIZES | dict(args or {}),
        "audio": {"sample_rate": RATE},
        "datasets": [dataset(folder)],
        "text_cleaner": "basic_cleaners",
        "output_path": "runs",
        "batch_size": 4,
        "eval_batch_size": 4,
        "eval_split_size": 3,
        "num_loader_workers": 0,
        "num_eval_loader_workers": 0,
        "epochs": 1,
        "test_delay_epochs": 9,
        "scl": {"encoders": [{"name": "sound"}]},
    } | changes
