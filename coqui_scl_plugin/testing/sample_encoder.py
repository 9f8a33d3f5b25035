"""A small encoder with all that a policy must hold still."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from coqui_scl_plugin.encoders.base import SpeakerEncoder

_FRAME, _HOP, _CHANNELS = 400, 200, 8


class SampleEncoder(SpeakerEncoder):
    """Convolutions over log power, with weights, running statistics, dropout, and a buffer outside the state dict."""

    sample_rate, embedding_dim, min_samples = 16_000, 12, 4 * _FRAME

    def __init__(self, seed: int = 0) -> None:
        """Draw the weights from the seed."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.convolution = nn.Conv1d(_FRAME // 2 + 1, _CHANNELS, 3)
            self.normalisation = nn.BatchNorm1d(_CHANNELS)
            self.dropout = nn.Dropout(0.1)
            self.project = nn.Linear(_CHANNELS, self.embedding_dim)
        self.register_buffer("window", torch.hann_window(_FRAME), persistent=False)
        self.window: Tensor

    def embed(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]`: `[B, embedding_dim]`, unit length."""
        spectrum = torch.view_as_real(torch.fft.rfft(waveform.unfold(1, _FRAME, _HOP) * self.window, norm="ortho"))
        features = (spectrum.square().sum(dim=-1) + 1e-6).log().transpose(1, 2)
        hidden = self.dropout(torch.tanh(self.normalisation(self.convolution(features))))
        return normalize(self.project(hidden.mean(dim=2)), dim=-1)
