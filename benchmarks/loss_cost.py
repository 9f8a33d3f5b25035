"""Compare the cost of the loss as stock Coqui computes it, with a frozen encoder, and with cached references."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from coqui_encoder_files import write_coqui_encoder
from torch.nn.functional import cosine_similarity
from TTS.config import load_config
from TTS.encoder.utils.generic_utils import setup_encoder_model

from coqui_scl_plugin import build_encoder, build_loss

_SEGMENT_SAMPLES = 8_192


def _steps(batch_size: int, folder: Path) -> dict[str, Callable[[], None]]:
    """Return one step of each kind, on the same noise, for the ResNet that YourTTS trains with."""
    files = write_coqui_encoder("resnet", folder)
    config = load_config(str(files.config_path))
    stock_encoder = setup_encoder_model(config)
    stock_encoder.load_checkpoint(config, str(files.model_path), eval=True)
    encoder, loss = build_encoder("coqui", files.params()).eval().requires_grad_(False), build_loss("cosine")
    real = 0.1 * torch.randn(batch_size, _SEGMENT_SAMPLES)
    generated = (0.1 * torch.randn(batch_size, _SEGMENT_SAMPLES)).requires_grad_()
    cached = torch.randn(batch_size, encoder.embedding_dim)

    def stock() -> None:
        both = torch.cat([real, generated]).unsqueeze(1)
        target, produced = stock_encoder.forward(both, l2_norm=True).chunk(2)
        (-cosine_similarity(target, produced).mean()).backward()

    def frozen_segment() -> None:
        with torch.no_grad():
            reference = encoder(real)
        loss(encoder(generated), reference).backward()

    def frozen_cached() -> None:
        loss(encoder(generated), cached).backward()

    return {
        "stock": stock,
        "frozen, reference: segment": frozen_segment,
        "frozen, reference: cached": frozen_cached,
    }


def _milliseconds(steps: dict[str, Callable[[], None]], runs: int) -> dict[str, float]:
    """Return the median of each kind. The kinds take turns, so that other load affects all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for run in range(runs + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if run:  # the first warms up
                seconds[name].append(time.perf_counter() - started)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Print the milliseconds of each step, and their ratio to stock."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=8, help="segments a step")
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each")
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        found = _milliseconds(_steps(options.batch_size, Path(folder)), options.runs)
    for name, milliseconds in found.items():
        sys.stdout.write(f"{name:28} {milliseconds:7.0f} ms a step, {milliseconds / found['stock']:.2f} of stock\n")


if __name__ == "__main__":
    main()
