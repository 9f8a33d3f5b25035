"""Configs and lists of recordings for commands, made from libri10."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from benchmarks.speech import FOLDER, RATE, utterances

_CONFIG = Path(__file__).parents[2] / "recipes" / "libri10" / "finetune" / "config.json"
PAIRS = 1_000
_PAIR_SECONDS = 1.5


def write_config(folder: Path, recordings: Sequence[Mapping[str, str]], **fields: Any) -> Path:
    """Write a config of a run with these recordings, with `fields` in place of those of the recipe."""
    listing = folder / "metadata.csv"
    with listing.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(recordings[0]), delimiter="|", quoting=csv.QUOTE_NONE, escapechar="\\")
        writer.writeheader()
        writer.writerows(recordings)
    dataset = {
        "formatter": "coqui", "dataset_name": "libri10", "path": str(FOLDER.resolve()),
        "meta_file_train": str(listing.resolve()), "language": "en",
    }  # fmt: skip
    config = json.loads(_CONFIG.read_text(encoding="utf-8"))
    config |= {"output_path": str(folder.resolve()), "datasets": [dataset], **fields}
    path = folder / f"{config['model']}.json"
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), encoding="utf-8")
    return path


def write_pairs(folder: Path) -> Path:
    """Cut 2,000 recordings of 1.5 s out of libri10, and list them as pairs, so that none is embedded twice."""
    recordings = utterances()
    listing = folder / "pairs.csv"
    samples = round(_PAIR_SECONDS * RATE)
    with listing.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["reference", "synthetic", "speaker"])
        for number in range(PAIRS):
            names = []
            for side in (0, 1):
                utterance = recordings[(number + side * (number % 10 < 9)) % len(recordings)]
                start = (997 * (number // len(recordings)) + 4_001 * side) % (len(utterance.waveform) - samples)
                names.append(f"{number}_{side}.wav")
                soundfile.write(folder / names[-1], utterance.waveform[start : start + samples].numpy(), RATE)
            writer.writerow([*names, recordings[number % len(recordings)].speaker])
    return listing
