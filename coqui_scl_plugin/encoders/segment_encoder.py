"""A speaker encoder as the training loop uses it: for segments of any length, in float32, on any device."""

import torch
from torch import Tensor, nn

from coqui_scl_plugin.encoders.audio import tile
from coqui_scl_plugin.encoders.base import SpeakerEncoder, backward_in_eval


class SegmentEncoder(nn.Module):
    """A wrapper that tiles and embeds `[B, T]` at the encoder's own rate, in float32 even under autocast."""

    def __init__(self, encoder: SpeakerEncoder, min_seconds: float = 0.0) -> None:
        """Wrap `encoder`.

        Args:
            encoder: Any module that keeps the contract of `SpeakerEncoder`.
            min_seconds: Shorter waveforms are tiled to this length, or to the encoder's own minimum if that is longer.
        """
        super().__init__()
        self.encoder = encoder
        self.min_samples = max(encoder.min_samples, round(min_seconds * encoder.sample_rate))
        self._recurrent = any(isinstance(module, nn.RNNBase) for module in encoder.modules())

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms that `forward` takes: the encoder's."""
        return int(self.encoder.sample_rate)

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]`, any T > 0, at `sample_rate`: `[B, D]`, float32, unit length."""
        with torch.autocast(waveform.device.type, enabled=False), backward_in_eval(waveform, recurrent=self._recurrent):
            embedding: Tensor = self.encoder(tile(waveform.float(), self.min_samples))
            return embedding
