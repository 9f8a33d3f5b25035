"""Real speech for the benchmarks: libri10, at SCL_DATA or beside the repository."""

import csv
import os
import sys
from pathlib import Path
from typing import NamedTuple

import soundfile
import torch
from torch import Tensor

FOLDER = Path(os.environ.get("SCL_DATA", "../shared/data/libri10"))
RATE = 16_000


class Utterance(NamedTuple):
    """A recording of libri10."""

    waveform: Tensor
    """`[T]` at 16 kHz."""
    speaker: str


def need_speech() -> None:
    """End with a message unless the speech is there."""
    if not (FOLDER / "metadata.csv").is_file():
        sys.exit(f"Real speech is not at {FOLDER}; set SCL_DATA to the folder of libri10.")


def listed() -> list[dict[str, str]]:
    """Return the lines of the list."""
    with (FOLDER / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="|", quoting=csv.QUOTE_NONE))


def utterances() -> list[Utterance]:
    """All 100 recordings, in the order of the list."""
    need_speech()
    return [
        Utterance(torch.from_numpy(soundfile.read(FOLDER / row["audio_file"], dtype="float32")[0]), row["speaker_name"])
        for row in listed()
    ]
