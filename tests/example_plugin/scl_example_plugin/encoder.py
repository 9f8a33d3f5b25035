"""A speaker encoder with feature maps."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize
from torchaudio.transforms import MFCC

from coqui_scl_plugin.encoders.base import SpeakerEncoder

_FRAME, _HOP, _MELS = 400, 160, 40
_SCALE = 10.0
_SMALLEST_VARIANCE = 1e-4


class CepstralEncoder(SpeakerEncoder):
    """Mean and deviation of mel cepstra over time: the long-term timbre. It has no weights to load.

    The first coefficient, which is the loudness, is left out.
    """

    sample_rate = 16_000
    min_samples = 2 * _FRAME

    def __init__(self, coefficients: Annotated[int, Field(ge=2, le=_MELS - 1)] = 20) -> None:
        """Choose the number of cepstral coefficients."""
        super().__init__()
        self.embedding_dim = 2 * coefficients
        spectrogram = {"n_fft": _FRAME, "hop_length": _HOP, "n_mels": _MELS, "center": False}
        self.cepstra = MFCC(self.sample_rate, coefficients + 1, log_mels=True, melkwargs=spectrogram)

    def embed(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]`: `[B, embedding_dim]`, unit length."""
        (cepstra,) = self.features(waveform)
        deviation = (cepstra.var(dim=-1) + _SMALLEST_VARIANCE).sqrt()
        return normalize(torch.cat([cepstra.mean(dim=-1), deviation], dim=-1), dim=-1)

    def features(self, waveform: Tensor) -> list[Tensor]:
        """Return one feature map of `[B, T]`: the cepstra, `[B, coefficients, frames]`."""
        self.check(waveform)
        cepstra: Tensor = self.cepstra(waveform)
        return [cepstra[:, 1:] / _SCALE]
