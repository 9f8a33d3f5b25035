"""Resampling, tiling and mel spectrograms between a waveform and an encoder's layers, all differentiable."""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram, Resample

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.on_device import rows

_MAX_FILTER = 2**24
"""Coefficients, about, of the filter between two rates: 128 MiB while it is made. 44100 to 16000 Hz takes 70,000."""


@functools.cache
def _resampler(from_rate: int, to_rate: int, device: torch.device) -> Resample:
    common = math.gcd(from_rate, to_rate)
    if (from_rate // common) * (to_rate // common) > _MAX_FILTER:
        raise ConfigError(
            f"{from_rate} Hz cannot be resampled to {to_rate} Hz: their common divisor, {common}, is too small. "
            "Resample the audio to a usual rate, such as 16000, 22050 or 48000 Hz."
        )
    with torch.inference_mode(False):  # a filter made in inference mode can never take part in a backward pass
        return Resample(from_rate, to_rate).to(device)


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Resample `[B, T]` to `[B, ceil(T * to_rate / from_rate)]`, as `torchaudio.functional.resample` does.

    The filter for a pair of rates is made once. For equal rates the tensor itself is returned.

    Raises:
        ConfigError: the filter would take gigabytes, as between 44101 and 16000 Hz.
    """
    if from_rate == to_rate:
        return waveform
    resampled: Tensor = _resampler(from_rate, to_rate, waveform.device)(waveform)
    return resampled


class ResampledAudio:
    """A waveform that is resampled to each rate at most once, however many encoders ask for it."""

    def __init__(self, waveform: Tensor, sample_rate: int) -> None:
        """Keep the waveform `[B, T]` at `sample_rate` Hz, converted to float32."""
        self.waveform = waveform.float()
        self.sample_rate = sample_rate
        self._by_rate: dict[int, Tensor] = {}

    @property
    def device(self) -> torch.device:
        """The device of the waveform."""
        return self.waveform.device

    def at(self, rate: int) -> Tensor:
        """Return the waveform at `rate` Hz, `[B, T']`, in float32 even under autocast."""
        if rate not in self._by_rate:
            with torch.autocast(self.device.type, enabled=False):
                self._by_rate[rate] = resample(self.waveform, self.sample_rate, rate)
        return self._by_rate[rate]

    def select(self, items: Sequence[int]) -> "ResampledAudio":
        """Return some rows of the waveform; itself if they are all of them."""
        if len(items) == len(self.waveform):
            return self
        return ResampledAudio(rows(self.waveform, items), self.sample_rate)


def tile(waveform: Tensor, samples: int) -> Tensor:
    """Repeat `[B, T]` until it has exactly `samples`, without zero padding; return longer waveforms unchanged.

    >>> tile(torch.tensor([[1, 2, 3]]), 7).tolist()
    [[1, 2, 3, 1, 2, 3, 1]]
    """
    length = waveform.shape[-1]
    if length >= samples:
        return waveform
    return waveform.repeat(1, -(-samples // length))[:, :samples]


def librosa_mel(*, n_fft: int, win_length: int, hamming: bool, center: bool) -> MelSpectrogram:
    """Build a power spectrogram of 40 mel bands every 10 ms at 16 kHz, equal to `librosa.feature.melspectrogram`.

    Args:
        n_fft: Size of the Fourier transform in samples.
        win_length: Size of the window in samples, centred in the transform.
        hamming: Use a Hamming window instead of a Hann window.
        center: Whether frames are centred, with zeros beyond both ends.
    """
    return MelSpectrogram(
        sample_rate=16_000, n_fft=n_fft, win_length=win_length, hop_length=160, n_mels=40, power=2.0,
        window_fn=torch.hamming_window if hamming else torch.hann_window,
        norm="slaney", mel_scale="slaney", center=center, pad_mode="constant",
    )  # fmt: skip


def standardise(waveform: Tensor) -> Tensor:
    """Bring each row of `[B, T]` to zero mean and unit variance, as `Wav2Vec2FeatureExtractor` with `do_normalize`."""
    centred = waveform - waveform.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-7).sqrt()
