"""A speaker encoder as the training loop hears it: at the model's rate, with segments of any length."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torchaudio.transforms import Resample

from coqui_scl_plugin.encoders.base import SpeakerEncoder


def tile(waveform: Tensor, samples: int) -> Tensor:
    """Repeat `[B, T]` up to exactly `samples`; what is long enough stays as it is. Nothing is padded with zeros.

    >>> tile(torch.tensor([[1, 2, 3]]), 7).tolist()
    [[1, 2, 3, 1, 2, 3, 1]]
    """
    length = waveform.shape[-1]
    if length >= samples:
        return waveform
    return waveform.repeat(1, -(-samples // length))[:, :samples]


class ResampledEncoder(nn.Module):
    """Resamples, tiles and embeds `[B, T]` at the model's rate, in float32 whatever autocast says."""

    def __init__(self, encoder: SpeakerEncoder, sample_rate: int, min_seconds: float = 0.0) -> None:
        """Wrap `encoder`.

        Args:
            encoder: Any module that keeps the contract of `SpeakerEncoder`.
            sample_rate: Of the waveforms that `forward` will get, in Hz.
            min_seconds: Shorter waveforms are tiled to this length, or to what the encoder needs if that is more.
        """
        super().__init__()
        self.encoder = encoder
        self.resample = Resample(sample_rate, encoder.sample_rate) if sample_rate != encoder.sample_rate else None
        self.min_samples = max(encoder.min_samples, round(min_seconds * encoder.sample_rate))
        self._recurrent = any(isinstance(module, nn.RNNBase) for module in encoder.modules())

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]`, any T > 0, at the model's rate: `[B, D]`, float32, unit length."""
        with torch.autocast(waveform.device.type, enabled=False), self._backward_in_eval(waveform):
            waveform = waveform.float()
            if self.resample is not None:
                waveform = self.resample(waveform)
            embedding: Tensor = self.encoder(tile(waveform, self.min_samples))
            return embedding

    def _backward_in_eval(self, waveform: Tensor) -> AbstractContextManager[None]:
        """Without cuDNN, which refuses to run backward through a recurrent layer in eval mode."""
        if self._recurrent and waveform.is_cuda and torch.is_grad_enabled():
            return torch.backends.cudnn.flags(enabled=False)
        return nullcontext()
