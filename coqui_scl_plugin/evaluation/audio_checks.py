"""Levels of waveforms, and which of them hold no speech."""

from torch import Tensor

_FRAME_SECONDS = 0.025
_SILENCE_DBFS = -60.0
_STEADY_DB = 3.0  # syllables and pauses vary by more: the steadiest recording of libri10 has 6.2
_SMALLEST = 1e-10


def loudness_dbfs(waveform: Tensor) -> float:
    """Root mean square of `[T]` in decibels, 0 for a square wave at full scale; -200 for zeros.

    >>> import torch
    >>> loudness_dbfs(torch.full((8,), 0.1))
    -20.0
    """
    power = waveform.double().square().mean().clamp(min=_SMALLEST**2)
    return round(float(10 * power.log10()), 6)


def normalise_loudness(waveform: Tensor, dbfs: float) -> Tensor:
    """`[T]` scaled to a root mean square of `dbfs`; silence stays as it is. What would be over full scale is not cut.

    >>> import torch
    >>> loudness_dbfs(normalise_loudness(torch.full((8,), 0.1), -27.0))
    -27.0
    """
    level = loudness_dbfs(waveform)
    return waveform if level < _SILENCE_DBFS else waveform * 10 ** ((dbfs - level) / 20)


def steadiness_db(waveform: Tensor, sample_rate: int) -> float:
    """Standard deviation of the levels of frames of 25 ms in `[T]`, in decibels: near 0 for noise and tones."""
    frames = waveform.double().unfold(0, max(1, round(_FRAME_SECONDS * sample_rate)), max(1, len(waveform) // 400))
    return float((10 * frames.square().mean(dim=1).clamp(min=_SMALLEST).log10()).std(correction=0))


def problem_of(waveform: Tensor, sample_rate: int) -> str | None:
    """Why `[T]` holds no speech, in a few words; None where it may."""
    if not waveform.isfinite().all():
        return "not finite"
    if loudness_dbfs(waveform) < _SILENCE_DBFS:
        return "silence"
    if len(waveform) < 2 * _FRAME_SECONDS * sample_rate:
        return "shorter than 0.05 s"
    if steadiness_db(waveform, sample_rate) < _STEADY_DB:
        return "steady noise or a tone"
    return None
