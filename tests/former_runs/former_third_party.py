"""Parts of the runs in this folder that are not the package's: an encoder, losses, a small model, and speech."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, cosine_similarity, normalize
from TTS.tts.layers.glow_tts.duration_predictor import DurationPredictor
from TTS.tts.models import vits

from coqui_scl_plugin.losses.cosine import CosineLoss

RATE, BANDS, EMBEDDING_DIM = 8_000, 11, 7
SPEAKERS, TAKES = ("ann", "bob", "cat"), 6


class BandEncoder(nn.Module):
    """The spectrum in a few bands, projected by seeded weights: `[B, T]` to `[B, 7]`."""

    sample_rate, embedding_dim, min_samples = RATE, EMBEDDING_DIM, 400

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.projection = nn.Parameter(torch.randn(EMBEDDING_DIM, BANDS, generator=generator))

    def forward(self, waveform: Tensor) -> Tensor:
        power = torch.fft.rfft(waveform, norm="ortho").abs().square()
        bands = adaptive_avg_pool1d(power.unsqueeze(1), BANDS).squeeze(1)
        colour = (bands + 1e-9).log()
        return normalize((colour - colour.mean(dim=-1, keepdim=True)) @ self.projection.T, dim=-1)


def _metric() -> nn.Parameter:
    return nn.Parameter(torch.ones(EMBEDDING_DIM))


class LearnedDistance(nn.Module):
    """One minus the cosine in a learned metric; derives from no class of the package."""

    def __init__(self) -> None:
        super().__init__()
        self.metric = _metric()

    def forward(
        self,
        generated: Tensor,
        reference: Tensor,
        speaker_ids: Tensor | None = None,
        prototypes: Tensor | None = None,
    ) -> Tensor:
        return 1 - cosine_similarity(generated * self.metric, reference * self.metric).mean()


class LearnedCosine(CosineLoss):
    """The package's cosine in a learned metric, which an ensemble can calibrate."""

    def __init__(self) -> None:
        super().__init__()
        self.metric = _metric()

    def forward(self, generated: Tensor, reference: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().forward(generated * self.metric, reference * self.metric, *args, **kwargs)


LOSSES = {"learned_distance": LearnedDistance, "learned_cosine": LearnedCosine}
ENCODERS = {"bands": BandEncoder}


class SmallDurationPredictor(DurationPredictor):
    """Coqui's, narrowed; its width is not a config field."""

    def __init__(self, channels: int, hidden_channels: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(channels, 8, *args, **kwargs)


def small_duration_predictor() -> AbstractContextManager[Any]:
    """Build models with the small one inside the block: Coqui's would be nine tenths of each checkpoint."""
    return mock.patch.object(vits, "DurationPredictor", SmallDurationPredictor)


def write_speech(folder: Path, seed: int) -> None:
    """Write six recordings of each of three speakers, who differ in pitch and timbre, and `metadata.csv`."""
    folder.mkdir(parents=True)
    lines, random = ["audio_file|text|speaker_name"], np.random.default_rng(seed)
    for take in range(TAKES):
        for number, speaker in enumerate(SPEAKERS):
            time = np.arange(int((0.6 + 0.02 * take) * RATE)) / RATE
            pitch = 110.0 * 1.4**number * (1 + 0.02 * take)
            harmonics = [np.sin(2 * np.pi * pitch * k * time) / k ** (0.6 + 0.5 * number) for k in range(1, 12)]
            noise = random.normal(0, 0.05, len(time))
            samples = 0.1 * (np.sum(harmonics, axis=0) + noise) * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * time))
            soundfile.write(folder / f"{speaker}_{take}.wav", samples, RATE, subtype="PCM_16")
            lines.append(f"{speaker}_{take}.wav|{speaker} says {'abcdef'[take]}|{speaker}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
