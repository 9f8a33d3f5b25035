"""Wav files, of which a full disk is the system's error and not one of libsndfile's assertions."""

import io
from pathlib import Path

import soundfile
from torch import Tensor


def write_wav(path: Path, waveform: Tensor, rate: int, subtype: str | None = None) -> None:
    """Write a waveform `[T]` in [-1, 1] at a rate in Hz.

    Args:
        path: The file.
        waveform: The waveform.
        rate: Its rate.
        subtype: libsndfile's name of the samples' format; None for 16 bit.

    Raises:
        OSError: the file cannot be written.
    """
    encoded = io.BytesIO()
    soundfile.write(encoded, waveform.numpy(), rate, format="WAV", subtype=subtype)
    path.write_bytes(encoded.getvalue())
