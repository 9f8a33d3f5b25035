"""Kaldi's log mel features as speaker encoders of 3D-Speaker take them: batched, differentiable, on any device."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchaudio.compliance.kaldi import get_mel_banks

_FRAME, _HOP, _FFT = 400, 160, 512  # samples at 16 kHz: 25 ms, 10 ms, the next power of two
_PREEMPHASIS = 0.97
_FLOOR = torch.finfo(torch.float32).eps  # of mel energies, for waveforms in [-1, 1]; Kaldi's in every precision


class KaldiMel(nn.Module):
    """80 log mel energies every 10 ms at 16 kHz, less their mean over time.

    Equal, row by row, to `torchaudio.compliance.kaldi.fbank(row, num_mel_bins=80, subtract_mean=True)`, which takes one
    waveform at a time: Povey window, no dither, whole frames only.
    """

    window: Tensor
    banks: Tensor

    def __init__(self) -> None:
        """Make the window and the mel filters."""
        super().__init__()
        banks, _ = get_mel_banks(80, _FFT, 16_000.0, 20.0, 0.0, 100.0, -500.0, 1.0)
        self.register_buffer("window", torch.hann_window(_FRAME, periodic=False).pow(0.85), persistent=False)
        self.register_buffer("banks", pad(banks, (0, 1)).T.contiguous(), persistent=False)  # no band at Nyquist

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute `[B, 80, 1 + (T - 400) // 160]` of `[B, T]`, T >= 400. Energies at the floor have a gradient of 0."""
        frames = waveform.unfold(-1, _FRAME, _HOP)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        preceding = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        spectrum = torch.fft.rfft((frames - _PREEMPHASIS * preceding) * self.window, n=_FFT)
        energies = torch.view_as_real(spectrum).square().sum(dim=-1) @ self.banks
        mel = energies.clamp_min(_FLOOR).log()
        return (mel - mel.mean(dim=1, keepdim=True)).transpose(1, 2)
