"""Loudness and pitch of waveforms, and checks for waveforms without speech."""

from torch import Tensor
from torchaudio.functional import detect_pitch_frequency

_FRAME_SECONDS = 0.025
_SILENCE_DBFS = -60.0
_MIN_SPREAD_DB = 3.0  # syllables and pauses vary by more: the steadiest recording of libri10 has 6.2
_MAX_PEAK = 10.0  # lossy codecs and vocoders exceed 1 by a little
_MIN_RMS = 1e-10
_PITCH_SECONDS, _MIN_PITCH_SECONDS = 5.0, 0.3
_PITCH_HZ = (60, 400)
_MIN_FRAME_POWER = 1e-10


def loudness_dbfs(waveform: Tensor) -> float:
    """Return the root mean square of `[T]` in decibels: 0 for a square wave at full scale, -200 for zeros.

    >>> import torch
    >>> loudness_dbfs(torch.full((8,), 0.1))
    -20.0
    """
    power = waveform.double().square().mean().clamp(min=_MIN_RMS**2)
    return round(float(10 * power.log10()), 6)


def normalise_loudness(waveform: Tensor, dbfs: float) -> Tensor:
    """Scale `[T]` to a root mean square of `dbfs`. Silence is returned unchanged; peaks over full scale are not cut.

    >>> import torch
    >>> loudness_dbfs(normalise_loudness(torch.full((8,), 0.1), -27.0))
    -27.0
    """
    loudness = loudness_dbfs(waveform)
    return waveform if loudness < _SILENCE_DBFS else waveform * 10 ** ((dbfs - loudness) / 20)


def excess_of(waveform: Tensor) -> str | None:
    """Say that the samples `[T]` are far beyond full scale, as 16-bit integers written as floats are; None if not."""
    peak = float(waveform.abs().max())
    if peak > _MAX_PEAK:
        return f"far beyond full scale: its peak is {peak:g}, and should be at most 1 (divide integers by 32768)"
    return None


def loudness_spread_db(waveform: Tensor, sample_rate: int) -> float:
    """Return the standard deviation in dB of the loudness of 25 ms frames of `[T]`: near 0 for noise and tones."""
    frames = waveform.double().unfold(0, max(1, round(_FRAME_SECONDS * sample_rate)), max(1, len(waveform) // 400))
    return float((10 * frames.square().mean(dim=1).clamp(min=_MIN_FRAME_POWER).log10()).std(correction=0))


def median_pitch(waveform: Tensor, sample_rate: int) -> float | None:
    """Return the median pitch in Hz of the first 5 s of `[T]`, roughly: it tells low voices from high ones, no more.

    By torchaudio's normalised cross-correlation, over voiced and unvoiced frames alike; None if `[T]` is too short.

    >>> import torch
    >>> round(median_pitch(torch.sin(2 * torch.pi * 200 * torch.arange(16_000) / 16_000), 16_000))
    200
    """
    beginning = waveform[: round(_PITCH_SECONDS * sample_rate)]
    if len(beginning) < _MIN_PITCH_SECONDS * sample_rate:
        return None
    low, high = _PITCH_HZ
    return float(detect_pitch_frequency(beginning[None], sample_rate, freq_low=low, freq_high=high).median())


def problem_of(waveform: Tensor, sample_rate: int) -> str | None:
    """Say in a few words why `[T]` cannot be speech; None if it can."""
    wrong = (~waveform.isfinite()).nonzero()
    if len(wrong):
        first = int(wrong[0]) / sample_rate
        return f"not finite: {len(wrong)} of {len(waveform)} samples NaN or infinite, the first at {first:.3f} s"
    if loudness_dbfs(waveform) < _SILENCE_DBFS:
        return "silence"
    if len(waveform) < 2 * _FRAME_SECONDS * sample_rate:
        return "shorter than 0.05 s"
    if loudness_spread_db(waveform, sample_rate) < _MIN_SPREAD_DB:
        return "steady noise or a tone"
    return None
