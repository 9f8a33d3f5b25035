"""A recording channel between the generator and the encoders, drawn anew at every training step.

An encoder hears more than the voice: loudness, microphone, noise and room leave traces in an embedding, and a generator
can learn to imitate these traces. A channel that changes at every step, and is the same for generated speech and for
the real slice that it is compared with, makes them useless as hints.
"""

import functools
import math
import random
from dataclasses import dataclass, replace

import torch
from julius.bands import SplitBands
from julius.resample import ResampleFrac
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.functional import fftconvolve, gain

from coqui_scl_plugin.config import AugmentConfig
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.references.sources import ReferenceBatch
from coqui_scl_plugin.utils.on_device import on_device

BANDS = 8
"""Bands of the equaliser, evenly spaced in mel."""
DIRECT_TO_REVERBERANT_DB = (3.0, 15.0)
"""Range of the ratio of direct sound to reverberation: from across a small room to close to the microphone."""
_SILENCE = 1e-10
"""Mean square below which speech counts as silent (-100 dBFS): noise does not become weaker than it is then."""


@dataclass(frozen=True)
class Channel:
    """What stands between a speaker and an encoder. Equal waveforms stay equal."""

    speed_percent: int = 100
    """Speed and pitch, as of a tape; 100 leaves both as they are."""
    reverberation_seconds: float = 0.0
    """Time in which the reverberation decays by 60 dB; 0: no room."""
    direct_to_reverberant_db: float = 0.0
    """Ratio of the energies of direct sound and reverberation."""
    band_gains_db: tuple[float, ...] = (0.0,) * BANDS
    """Gain of each band of the equaliser."""
    snr_db: float | None = None
    """Ratio of each row's energy to that of the noise; None: no noise."""
    gain_db: float = 0.0
    """Gain of speech and noise together."""
    seed: int = 0
    """Determines the samples of the reverberation and the noise."""

    def __call__(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """Pass `[B, T]` in float32 through the channel; only a change of speed changes T."""
        if self.speed_percent != 100:
            waveform = _resampler(self.speed_percent, waveform.device)(waveform)
        if self.reverberation_seconds > 0:
            waveform = _convolve(waveform, self.room_response(sample_rate)[: waveform.shape[-1]], first=0)
        if any(self.band_gains_db):
            equaliser = self._equaliser(sample_rate)
            waveform = _convolve(waveform, equaliser, first=len(equaliser) // 2)
        if self.snr_db is not None:
            waveform = self._add_noise(waveform, self.snr_db)
        return gain(waveform, self.gain_db)

    def room_response(self, sample_rate: int) -> Tensor:
        """Return the impulse response of the room, `[K]`: direct sound of 1, then Gaussian noise that decays by 60 dB.

        Source: Polack's statistical model of reverberation (1988), with the tail right behind the direct sound.
        """
        samples = max(1, round(self.reverberation_seconds * sample_rate))
        decay = torch.logspace(0, -3, samples)
        tail = decay * torch.randn(samples, generator=torch.Generator().manual_seed(self.seed + 1))
        tail *= 10 ** (-self.direct_to_reverberant_db / 20) / tail.norm()
        return torch.cat([torch.ones(1), tail])

    def _equaliser(self, sample_rate: int) -> Tensor:
        """Return the filter of the equaliser, `[K]`, symmetric."""
        gains = 10 ** (torch.tensor(self.band_gains_db) / 20)
        return gains @ _bands(sample_rate)

    def _add_noise(self, waveform: Tensor, snr_db: float) -> Tensor:
        """Add white noise, the same samples to every row. The gradient of torchaudio's add_noise is NaN at silence."""
        noise = torch.randn(waveform.shape[-1], generator=torch.Generator().manual_seed(self.seed))
        noise = on_device(noise / noise.square().mean().sqrt(), waveform.device)
        loudness = (waveform.square().mean(dim=-1, keepdim=True) + _SILENCE).sqrt()
        return waveform + noise * loudness * 10 ** (-snr_db / 20)


def _convolve(waveform: Tensor, response: Tensor, first: int) -> Tensor:
    """Convolve `[B, T]` with `[K]`, and keep T samples from the first one on. Zeros make a length with a fast FFT."""
    samples = waveform.shape[-1]
    length = samples + len(response) - 1
    response = on_device(pad(response, (0, next_fast_len(length, real=True) - length)), waveform.device)
    return fftconvolve(waveform, response.unsqueeze(0))[..., first : first + samples]


@functools.cache
def _bands(sample_rate: int) -> Tensor:
    """Return the filters of the equaliser's bands, `[BANDS, K]`, symmetric; they add up to an impulse."""
    with torch.inference_mode(False):
        split = SplitBands(sample_rate, n_bands=BANDS)
        half = split.lowpass.half_size
        impulse = torch.zeros(1, 4 * half + 1)  # filters reach half as far, and see zeros at the edges
        impulse[0, 2 * half] = 1.0
        return split(impulse)[:, 0, half : 3 * half + 1]


@functools.cache
def _resampler(speed_percent: int, device: torch.device) -> ResampleFrac:
    with torch.inference_mode(False):  # a filter made in inference mode can never take part in a backward pass
        return ResampleFrac(speed_percent, 100).to(device)


class Augmentation:
    """The channels of a run.

    A channel depends on the step alone, so that a continued run draws the same ones; no global random state is used.
    All items of a batch pass through one channel: with a channel for each item, a loss that compares items with each
    other could match generated speech to its reference by the channel.
    """

    def __init__(self, config: AugmentConfig) -> None:
        """Take the largest strengths of the effects."""
        self._config = config

    def draw(self, step: int) -> Channel:
        """Draw the channel of a training step. What one effect draws does not depend on which others are on."""
        config, draws = self._config, random.Random(f"channel {step}")
        seed, speed, seconds, ratio, snr, loudness = draws.getrandbits(62), *(draws.random() for _ in range(5))
        low, high = config.noise_snr_db or (0.0, 0.0)
        percents = math.floor(100 * config.speed + 1e-6)
        closest, farthest = max(DIRECT_TO_REVERBERANT_DB), min(DIRECT_TO_REVERBERANT_DB)
        return Channel(
            speed_percent=100 - percents + math.floor(speed * (2 * percents + 1)),
            reverberation_seconds=seconds * config.room_seconds,
            direct_to_reverberant_db=farthest + ratio * (closest - farthest),
            band_gains_db=tuple(draws.uniform(-1, 1) * config.equaliser_db for _ in range(BANDS)),
            snr_db=low + snr * (high - low) if config.noise_snr_db else None,
            gain_db=(2 * loudness - 1) * config.gain_db,
            seed=seed,
        )

    def __call__(
        self, generated: ResampledAudio, real: ReferenceBatch, step: int
    ) -> tuple[ResampledAudio, ReferenceBatch]:
        """Pass generated speech and the real slices through the channel of a step; whole recordings stay clean."""
        channel = self.draw(step)
        return _heard(generated, channel), replace(real, segments=_heard(real.segments, channel))


def _heard(audio: ResampledAudio, channel: Channel) -> ResampledAudio:
    with torch.autocast(audio.device.type, enabled=False):
        return ResampledAudio(channel(audio.waveform, audio.sample_rate), audio.sample_rate)


def build_augmentation(config: AugmentConfig) -> Augmentation | None:
    """Build the channels that `scl.augment` describes; None if all effects are off."""
    return Augmentation(config) if config != AugmentConfig() else None
