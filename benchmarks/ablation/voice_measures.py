"""Voices judged without a network: fundamental frequency, and the long-term average spectrum of speech."""

from collections.abc import Sequence
from dataclasses import dataclass

import librosa
import numpy as np
from numpy.typing import NDArray

DISTANCES = ("f0_median", "f0_spread", "spectrum")
"""Measures that are a distance to a speaker's real voice."""
_FRAME, _HOP = 1024, 512  # samples at 16 kHz
_F0_HZ = (70.0, 400.0)  # above 62.5 Hz, the rate of the frames of which a decoder makes speech, at which it may buzz
_SPEECH_DB = 30.0
_BANDS = 40
_BAND_HZ = (80.0, 7600.0)

Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class Voice:
    """What several recordings of a speaker have in common; None where they hold nothing to measure."""

    f0_median: float | None
    """Median fundamental frequency, in semitones above 100 Hz; None without a voiced frame."""
    f0_spread: float | None
    """Its interquartile range in semitones, which an octave error now and then does not move."""
    unvoiced: float | None
    """Share of speech frames without a fundamental frequency, 0 to 1; None without speech."""
    spectrum: list[float] | None
    """Mean power of speech frames in 40 mel bands of 80 to 7600 Hz, in dB; the mean over bands is 0."""


def _frames(waveform: Waveform, rate: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, of the speech frames, F0 in Hz `[N]`, NaN where unvoiced, and mel powers `[40, N]` of mean level 1.

    Speech frames are those within 30 dB of the loudest one. Frames are of 1024 samples every 512, at a resolution of
    0.1 semitones: 0.05 CPU seconds for each second of speech. A frame without a clear period is unvoiced: by librosa's
    default, white noise would have a fundamental frequency near the lowest one in six frames of seven.
    """
    power = np.abs(librosa.stft(waveform, n_fft=_FRAME, hop_length=_HOP)) ** 2
    loudness = power.sum(axis=0)
    if not loudness.max(initial=0.0) > 0:
        return np.empty(0), np.empty((_BANDS, 0))
    speech = loudness >= loudness.max() * 10 ** (-_SPEECH_DB / 10)
    f0, voiced, _ = librosa.pyin(
        waveform,
        fmin=_F0_HZ[0],
        fmax=_F0_HZ[1],
        sr=rate,
        frame_length=_FRAME,
        hop_length=_HOP,
        no_trough_prob=0.0,
    )
    mel = librosa.feature.melspectrogram(
        S=power[:, speech] / loudness[speech].mean(), sr=rate, n_fft=_FRAME, n_mels=_BANDS, fmin=_BAND_HZ[0],
        fmax=_BAND_HZ[1],
    )  # fmt: skip
    return np.where(voiced, f0, np.nan)[speech], mel


def voice_of(waveforms: Sequence[Waveform], rate: int) -> Voice:
    """Pool the recordings `[T]` of one speaker at `rate` Hz; each has the same level in the spectrum."""
    framed = [_frames(waveform, rate) for waveform in waveforms]
    f0, mel = np.concatenate([one for one, _ in framed]), np.concatenate([one for _, one in framed], axis=1)
    if not len(f0):
        return Voice(None, None, None, None)
    decibels = 10 * np.log10(mel.mean(axis=1) + 1e-10)
    spectrum = [round(float(value), 4) for value in decibels - decibels.mean()]
    voiced = f0[~np.isnan(f0)]
    unvoiced = 1 - len(voiced) / len(f0)
    if not len(voiced):
        return Voice(None, None, unvoiced, spectrum)
    low, median, high = np.percentile(12 * np.log2(voiced / 100), (25, 50, 75))
    return Voice(float(median), float(high - low), unvoiced, spectrum)


def distances(made: Voice, real: Voice) -> dict[str, float | None]:
    """Return how far a voice is from a real one: of F0 in semitones, and of the spectrum as a root mean square in dB.

    None where one of the two is not known.
    """
    found: dict[str, float | None] = dict.fromkeys(DISTANCES)
    if made.f0_median is not None and real.f0_median is not None:
        found["f0_median"] = abs(made.f0_median - real.f0_median)
    if made.f0_spread is not None and real.f0_spread is not None:
        found["f0_spread"] = abs(made.f0_spread - real.f0_spread)
    if made.spectrum is not None and real.spectrum is not None:
        found["spectrum"] = float(np.sqrt(np.mean(np.square(np.subtract(made.spectrum, real.spectrum)))))
    return found
