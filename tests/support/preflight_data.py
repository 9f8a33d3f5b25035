"""Made-up speech with tables and d-vectors that fit it, and others that do not."""

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import soundfile
from tiny_vits import RATE
from toy_speech import speech, write_metadata

SPEAKERS = ("a", "b", "c")


def _write(path: Path, seconds: float, seed: int, rate: int = RATE) -> None:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, speech(seconds, seed=seed, rate=rate), rate)


def write_speech(folder: Path) -> None:
    """Write six recordings of each of three speakers, a sound table of them, and others that each have a defect."""
    folder.mkdir()
    for speaker in SPEAKERS:
        for take in range(6):
            _write(folder / speaker / f"{take}.wav", 1.0 + 0.02 * take, seed=ord(speaker))
    many = [(f"{take % 3}_{take}.wav", f"speaker {take % 12:02}") for take in range(24)]
    for file, speaker in many:
        _write(folder / file, 1.0, seed=zlib.crc32(speaker.encode()))
    _write(folder / "fast" / "0.wav", 1.0, seed=1, rate=22_050)
    for take in range(2):
        _write(folder / "short" / f"{take}.wav", 0.15, seed=1)
    for take in range(6):
        _write(folder / "apart" / f"{take}.wav", 1.0 + 0.02 * take, seed=ord("a"))
    (folder / "broken").mkdir()
    (folder / "broken" / "0.wav").write_bytes(b"no audio")

    rows = [(f"{speaker}/{take}.wav", speaker) for take in range(6) for speaker in SPEAKERS]
    tables = {
        "metadata": rows,
        "many": many,
        "one_speaker": [row for row in rows if row[1] == "a"],
        "apart": [(f"apart/{take}.wav", "a") for take in range(6)],
        "lopsided": [(f"a/{take % 6}.wav", "a") for take in range(99)] + [("b/0.wav", "b")],
        "two_of_three": [(f"a/{take}.wav", "a") for take in range(6)] + [(f"b/{take}.wav", "b") for take in range(3)],
        "prefixed": [(file, f"VCTK_{speaker}") for file, speaker in rows],
        "spaced": [(file, f"{speaker} ") for file, speaker in rows],
        "gone": [("gone/0.wav", "a"), ("gone/1.wav", "b")],
        "two_rates": [*rows, ("fast/0.wav", "a")],
        "short": [*rows, ("short/0.wav", "a")],
        "fifteen": [("short/0.wav", "a"), ("short/1.wav", "b")],
        "broken": [*rows, ("broken/0.wav", "a")],
    }
    for name, table in tables.items():
        write_metadata(folder / f"{name}.csv", table)

    # the formatter `ljspeech` does not check that the files exist
    shutil.copytree(folder / "a", folder / "wavs")
    (folder / "ljspeech.csv").write_text("".join(f"{take}|a short text|a short text\n" for take in range(6)))
    (folder / "ljspeech_gone.csv").write_text("gone|a short text|a short text\n" * 6)


def d_vectors(keys: Callable[[str, str], str], names: Callable[[str], str], size: int = 8) -> dict[str, Any]:
    """Return what Coqui's d-vector file holds for the recordings in metadata.csv, with these keys and speaker names."""
    return {
        keys(speaker, str(take)): {"name": names(speaker), "embedding": [0.1] * size}
        for speaker in SPEAKERS
        for take in range(6)
    }
