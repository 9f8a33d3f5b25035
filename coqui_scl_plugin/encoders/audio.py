"""What lies between a waveform and an encoder's layers: rates, lengths and mel spectrograms, all differentiable."""

import functools

import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram, Resample


@functools.cache
def _resampler(from_rate: int, to_rate: int, device: torch.device) -> Resample:
    with torch.inference_mode(False):  # a filter made while evaluating could never take part in a backward pass
        return Resample(from_rate, to_rate).to(device)


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """`[B, T]` at `from_rate` to `[B, ceil(T * to_rate / from_rate)]`, as `torchaudio.functional.resample`.

    The filter of a pair of rates is made once; equal rates give the tensor itself.
    """
    if from_rate == to_rate:
        return waveform
    resampled: Tensor = _resampler(from_rate, to_rate, waveform.device)(waveform)
    return resampled


class ResampledAudio:
    """A waveform, and what it is at other rates: resampled to each at most once, however many encoders ask."""

    def __init__(self, waveform: Tensor, sample_rate: int) -> None:
        """Take `[B, T]` at `sample_rate` Hz; it becomes float32."""
        self.waveform = waveform.float()
        self.sample_rate = sample_rate
        self._kept: dict[int, Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where the waveform is."""
        return self.waveform.device

    def at(self, rate: int) -> Tensor:
        """`[B, T']` at `rate` Hz, float32 whatever autocast says."""
        if rate not in self._kept:
            with torch.autocast(self.device.type, enabled=False):
                self._kept[rate] = resample(self.waveform, self.sample_rate, rate)
        return self._kept[rate]


def tile(waveform: Tensor, samples: int) -> Tensor:
    """Repeat `[B, T]` up to exactly `samples`; what is long enough stays as it is. Nothing is padded with zeros.

    >>> tile(torch.tensor([[1, 2, 3]]), 7).tolist()
    [[1, 2, 3, 1, 2, 3, 1]]
    """
    length = waveform.shape[-1]
    if length >= samples:
        return waveform
    return waveform.repeat(1, -(-samples // length))[:, :samples]


def librosa_mel(*, n_fft: int, win_length: int, hamming: bool, center: bool) -> MelSpectrogram:
    """40 mel bands of power every 10 ms at 16 kHz, as `librosa.feature.melspectrogram` gives them.

    Args:
        n_fft: Samples of a Fourier transform.
        win_length: Samples of the window, in its middle.
        hamming: Hamming window; else Hann.
        center: Whether frames are centred, with zeros beyond both ends.
    """
    return MelSpectrogram(
        sample_rate=16_000, n_fft=n_fft, win_length=win_length, hop_length=160, n_mels=40, power=2.0,
        window_fn=torch.hamming_window if hamming else torch.hann_window,
        norm="slaney", mel_scale="slaney", center=center, pad_mode="constant",
    )  # fmt: skip


def standardise(waveform: Tensor) -> Tensor:
    """Each row of `[B, T]` with zero mean and unit variance, as `Wav2Vec2FeatureExtractor` with `do_normalize`."""
    centred = waveform - waveform.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-7).sqrt()
