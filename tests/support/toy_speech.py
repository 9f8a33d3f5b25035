"""Made-up recordings of made-up speakers, and a speaker encoder that embeds them in no time."""

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, normalize

from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.references.cache import ReferenceCache, encoder_key
from coqui_scl_plugin.references.recordings import Recording

RATE = 8_000


class ToyEncoder(SpeakerEncoder):
    """Embeds the spectrum in 12 bands, weighted by a seed; calls `before`, and lists the shapes of its inputs."""

    sample_rate, embedding_dim, min_samples = RATE, 12, 400

    def __init__(self, seed: int = 0, before: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.before = before
        self.weight = nn.Parameter(1.0 + torch.rand(12, generator=torch.Generator().manual_seed(seed)))
        self.heard: list[tuple[int, ...]] = []

    @property
    def rows_heard(self) -> int:
        """The number of recordings that were embedded."""
        return sum(shape[0] for shape in self.heard)

    def forward(self, waveform: Tensor) -> Tensor:
        self.before()
        self.heard.append(tuple(waveform.shape))
        power = torch.fft.rfft(waveform, norm="ortho").abs().square()
        bands = adaptive_avg_pool1d(power.unsqueeze(1), 12).squeeze(1)
        return normalize(self.weight * (bands + 1e-9).sqrt(), dim=-1)


def speech(seconds: float, *, seed: int, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """Return noise whose colour and loudness depend on `seed`: `[T]`, or `[T, channels]` for several channels."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(int(seconds * rate), channels))
    coloured = noise.copy()
    coloured[1:] += generator.uniform(-0.9, 0.9) * noise[:-1]
    samples = (generator.uniform(0.02, 0.1) * coloured).astype(np.float32)
    return samples[:, 0] if channels == 1 else samples


def write_recording(
    folder: Path, name: str, seconds: float, *, speaker: str = "a", seed: int | None = None
) -> Recording:
    """Write a recording as `NAME.wav`."""
    path = folder / f"{name}.wav"
    own = zlib.crc32(name.encode()) if seed is None else seed
    soundfile.write(path, speech(seconds, seed=own), RATE, subtype="FLOAT")
    return Recording(name, path, speaker)


def write_recordings(folder: Path, lengths: dict[str, float]) -> list[Recording]:
    """Write a WAV file for each name, of so many seconds; the first letter of a name is the speaker."""
    return [write_recording(folder, name, seconds, speaker=name[0]) for name, seconds in lengths.items()]


def write_metadata(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write a table for Coqui's formatter `coqui`: files and their speakers, all with the same text."""
    lines = ["audio_file|text|speaker_name", *(f"{file}|a short text|{speaker}" for file, speaker in rows)]
    path.write_text("\n".join(lines) + "\n")


def toy(seed: int = 0, before: Callable[[], object] = lambda: None) -> SegmentEncoder:
    """Return a `ToyEncoder` as a run prepares it."""
    return SegmentEncoder(ToyEncoder(seed, before)).eval()


def cached(cache: ReferenceCache, encoder: SegmentEncoder, recording: Recording) -> Tensor | None:
    """Return the embedding of this recording by this encoder, if the cache holds it."""
    return cache.get(encoder_key(encoder), recording)


def kept(path: Path, encoder: SegmentEncoder, recordings: list[Recording]) -> set[str]:
    """Return the names of the recordings whose embeddings by this encoder are in the file at `path`."""
    cache = ReferenceCache.load(path)
    return {recording.name for recording in recordings if cached(cache, encoder, recording) is not None}
