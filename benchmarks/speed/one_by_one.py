"""`python -m benchmarks.speed.one_by_one PAIRS ENCODER...`: mean similarity of pairs, one recording at a time."""

import csv
import statistics
import sys
from pathlib import Path

import torch

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.references.recordings import Recording


@torch.inference_mode()
def main() -> None:
    """Load and embed both recordings of each pair, compare them, and print the mean cosine by each encoder."""
    listing, *names = sys.argv[1:]
    encoders = {name: SegmentEncoder(build_encoder(name, {})).eval() for name in names}
    cosines: dict[str, list[float]] = {name: [] for name in names}
    with Path(listing).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            paths = [Path(listing).parent / row[side] for side in ("reference", "synthetic")]
            loaded = [Recording(path.name, path, row["speaker"]).load() for path in paths]
            pair = [ResampledAudio(waveform.unsqueeze(0), rate) for waveform, rate in loaded]
            for name, encoder in encoders.items():
                first, second = (encoder(audio.at(encoder.sample_rate))[0] for audio in pair)
                cosines[name].append(float(first @ second))
    for name, values in cosines.items():
        sys.stdout.write(f"{name}: {statistics.mean(values):.4f}\n")


if __name__ == "__main__":
    main()
