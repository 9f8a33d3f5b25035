"""Recordings whose embeddings are known, an encoder that gives them, and error rates computed independently."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
from torch import Tensor, nn
from torch.nn.functional import normalize

from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SyntheticRecording
from coqui_scl_plugin.references.recordings import Recording

RATE = 8_000


class FirstSamples(nn.Module):
    """Keeps the contract of a speaker encoder: the embedding is the first samples of a waveform, of unit length."""

    sample_rate, min_samples = RATE, 1

    def __init__(self, embedding_dim: int, skip: int = 0) -> None:
        super().__init__()
        self.embedding_dim, self.skip = embedding_dim, skip

    def forward(self, waveform: Tensor) -> Tensor:
        return normalize(waveform[:, self.skip : self.skip + self.embedding_dim], dim=-1)


def first_samples(embedding_dim: int, skip: int = 0) -> SegmentEncoder:
    return SegmentEncoder(FirstSamples(embedding_dim, skip)).eval()


def syllables(seconds: float = 0.4, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes as often as speech does: not taken for steady noise."""
    noise = np.random.default_rng(seed).normal(0, 0.1, int(seconds * rate))
    return noise * np.where(np.arange(len(noise)) % (rate // 5) < rate // 10, 1.0, 0.03)


def write_voice(path: Path, vector: Sequence[float]) -> Path:
    """A file of 0.4 s that begins with the vector, at a tenth of its length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beginning = 0.1 * np.asarray(vector, dtype=float)
    soundfile.write(path, np.concatenate([beginning, syllables()]), RATE, subtype="FLOAT")
    return path


class Voices:
    """An evaluation set in the making."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.real: list[Recording] = []
        self.synthetic: list[SyntheticRecording] = []
        self.vectors: dict[Path, np.ndarray] = {}

    def _file(self, kind: str, name: str, vector: Sequence[float]) -> Path:
        path = write_voice(self.folder / kind / f"{name}.wav", vector)
        self.vectors[path] = np.asarray(vector, dtype=float) / np.linalg.norm(vector)
        return path

    def add_real(self, name: str, speaker: str, vector: Sequence[float]) -> None:
        self.real.append(Recording(name, self._file("real", name, vector), speaker))

    def add_synthetic(self, name: str, speaker: str, vector: Sequence[float], reference: str | None = None) -> None:
        file = self._file("synthetic", name, vector)
        self.synthetic.append(SyntheticRecording(name, file, speaker, reference=reference))

    def cosine(self, one: Recording, other: Recording) -> float:
        return float(self.vectors[one.path] @ self.vectors[other.path])

    @property
    def evaluation_set(self) -> EvaluationSet:
        return EvaluationSet("voices", {"made": "up"}, self.real, self.synthetic)


# --- error rates, by counting at every threshold ----------------------------------------------------------------------


def operating_points(scores: Sequence[float], same: Sequence[bool]) -> list[tuple[Fraction, Fraction]]:
    """Shares of false alarms and of misses at each threshold at which a score is accepted that reaches it."""
    points = []
    for threshold in [*sorted(set(scores)), float("inf")]:
        accepted = [score >= threshold for score in scores]
        alarms = sum(a and not s for a, s in zip(accepted, same, strict=True))
        misses = sum(s and not a for a, s in zip(accepted, same, strict=True))
        points.append((Fraction(alarms, len(same) - sum(same)), Fraction(misses, sum(same))))
    return points


def possible_eers(scores: Sequence[float], same: Sequence[bool]) -> set[float]:
    """In percent; two where the rates are equally near at two thresholds."""
    points = operating_points(scores, same)
    nearest = min(abs(alarm - miss) for alarm, miss in points)
    return {float(50 * (alarm + miss)) for alarm, miss in points if abs(alarm - miss) == nearest}


def smallest_cost(
    scores: Sequence[float], same: Sequence[bool], p_target: float = 0.05, c_miss: float = 1, c_false_alarm: float = 1
) -> float:
    costs = [
        c_miss * p_target * float(miss) + c_false_alarm * (1 - p_target) * float(alarm)
        for alarm, miss in operating_points(scores, same)
    ]
    blind = min(c_miss * p_target, c_false_alarm * (1 - p_target))  # rejects all, or accepts all
    return min(costs) / blind
