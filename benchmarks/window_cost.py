"""Measure what the listening window costs: time and memory of a training step, by its length and number of items.

Real speech, Coqui's own `train_step` and backward passes. All choices take turns in one process. Memory is what the
generator's pass keeps for its backward pass, each storage counted once.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from benchmarks.speech import FOLDER, need_speech
from coqui_scl_plugin import SclVits, SclVitsConfig
from coqui_scl_plugin.config import EncoderConfig, LossConfig, SclConfig, WindowConfig
from coqui_scl_plugin.coqui.samples import small_batch
from coqui_scl_plugin.demo.corpus_files import Corpus, Sample
from coqui_scl_plugin.demo.small_vits import small_config
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.recordings import recordings_of
from coqui_scl_plugin.utils.atomic import replacing

_CHOICES = ((0.0, None), (1.0, None), (2.0, None), (4.0, None), (1.0, 1), (2.0, 1), (4.0, 1))
_SECONDS = (4.5, 7.0)
"""Length of the recordings of the batch, so that each window fits."""


def _samples(corpus: Corpus, count: int) -> list[Sample]:
    """Return recordings of different speakers, none shorter than the longest window."""
    low, high = _SECONDS
    fitting = [s for s in corpus.train if low <= soundfile.info(s["audio_file"]).duration <= high]
    first = {sample["speaker_name"]: sample for sample in fitting}
    return list(first.values())[:count]


def _config(corpus: Corpus, encoders: list[str], size: str, folder: Path) -> SclVitsConfig:
    config = small_config(corpus, steps=1, batch_size=4, seed=0, runs=folder)
    config.model_args.upsample_initial_channel_decoder = 64  # the demo's when docs/window.md was measured
    if size == "full":
        speakers = config.model_args.num_speakers
        config.model_args = type(config.model_args)(use_speaker_embedding=True, num_speakers=speakers)
    loss = LossConfig(name="ensemble") if len(encoders) > 1 else LossConfig()
    config.scl = SclConfig(loss=loss, encoders=[EncoderConfig(name=name) for name in encoders])
    return config


class _SavedBytes:
    """Counts the storages that autograd keeps, parameters left out."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        self._kept: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._parameters:
            self._kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def mebibytes(self) -> float:
        return sum(self._kept.values()) / 2**20


def _step(model: SclVits, batch: dict[str, Any], seed: int) -> tuple[float, float]:
    """Return the seconds of a step of both optimizers, and the MiB that the generator's pass keeps."""
    criteria, saved = model.get_criterion(), _SavedBytes(model)
    torch.manual_seed(seed)
    started = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        _, losses = model.train_step(batch, criteria[0], 0)
        losses["loss"].backward()
        _, losses = model.train_step(batch, criteria[1], 1)
        losses["loss"].backward()
    seconds = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    return seconds, saved.mebibytes


def measure(encoders: list[str], size: str, runs: int) -> list[dict[str, Any]]:
    """Measure every choice, and a step without the loss."""
    corpus = Corpus.load(FOLDER.resolve())
    with tempfile.TemporaryDirectory() as folder:
        config, samples = _config(corpus, encoders, size, Path(folder)), _samples(corpus, 4)
        model = SclVits(config)
        model.parts.build_consistency()
        consistency = model.parts.consistency
        if consistency is None:
            raise RuntimeError("the section is off")
        consistency.embed_references(recordings_of(corpus.train), ReferenceCache())
        model.train()
        batch = small_batch(model, config, samples)
    found: dict[tuple[float, int | None] | None, list[tuple[float, float]]] = {}
    for run in range(runs + 1):
        for choice in (None, *_CHOICES):
            model.config.scl.weight = 0.0 if choice is None else 9.0
            model.config.scl.window = WindowConfig(*(choice or (0.0, None)))
            measured = _step(model, batch, run)
            if run:  # the first warms up
                found.setdefault(choice, []).append(measured)
    without = statistics.median(seconds for seconds, _ in found[None])
    rows = []
    for choice, values in found.items():
        seconds, mebibytes = (statistics.median(column) for column in zip(*values, strict=True))
        seconds_of_window, items = choice or (None, None)
        rows.append({
            "window": seconds_of_window, "items": items or len(samples), "ms": 1000 * seconds, "mib": mebibytes,
            "of_a_step_without": seconds / without,
        })  # fmt: skip
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table."""
    lines = [
        "| window (s) | items | ms a step | of a step without the loss | MiB kept |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        window = "no loss" if row["window"] is None else f"{row['window']:g}"
        items = "-" if row["window"] is None else row["items"]
        lines.append(f"| {window} | {items} | {row['ms']:.0f} | {row['of_a_step_without']:.2f} | {row['mib']:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=["ge2e", "campplus"], help="training encoders")
    parser.add_argument(
        "--size", choices=["small", "full"], default="small", help="the demo's VITS, or Coqui's defaults"
    )
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each choice")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    need_speech()
    rows = measure(options.encoders, options.size, options.runs)
    sys.stdout.write(markdown(rows))
    if options.json is not None:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
