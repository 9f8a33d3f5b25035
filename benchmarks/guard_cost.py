"""Measure the cost of policy and drift guard as a share of the loss through an encoder, the least a step can cost."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.originals import Case, cases, frozen
from coqui_scl_plugin import SclConfig
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.freeze import DriftGuard, FrozenPolicy

_ENCODER_LABELS = ("ge2e", "dvector", "coqui resnet", "transformers wavlm")
_SEGMENTS_SHAPE = (8, 5_944)  # 0.37 s at 16 kHz, tiled to the encoder's own shortest length if that is more


def _milliseconds(work: Callable[[], object], runs: int) -> float:
    work()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def line(case: Case, check_every: int, runs: int) -> str:
    """Format the milliseconds of loss, policy and check, and the share of policy and check in a step."""
    encoder, policy = SegmentEncoder(frozen(case)), FrozenPolicy()
    waveform = (0.1 * torch.randn(_SEGMENTS_SHAPE)).requires_grad_()

    def step() -> Tensor:
        embedded = encoder(waveform)
        return torch.autograd.grad(torch.cosine_similarity(embedded[::2], embedded[1::2]).mean(), waveform)[0]

    guard = DriftGuard({case.label: encoder})
    loss, check = _milliseconds(step, runs), _milliseconds(lambda: guard.check(0), runs)
    applied = 2 * _milliseconds(lambda: policy.apply(encoder), runs)  # before and after a step
    share = (applied + check / check_every) / loss
    size = sum(p.numel() for p in encoder.parameters()) / 1e6
    return (
        f"{case.label:20} {size:6.1f} M parameters: loss {loss:7.1f} ms a step, policy {applied:5.2f} ms a step, "
        f"guard {check:6.1f} ms every {check_every} steps: {share:.2%} of the loss"
    )


def main() -> None:
    """Print a line for each encoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check-every", type=int, default=SclConfig().freeze.check_every, help="steps between checks")
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each")
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            if case.label in _ENCODER_LABELS:
                sys.stdout.write(line(case, options.check_every, options.runs) + "\n")


if __name__ == "__main__":
    main()
