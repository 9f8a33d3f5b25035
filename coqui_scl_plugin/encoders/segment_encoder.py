"""A speaker encoder as the training loop uses it: for segments of any length, in float32, on any device."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from coqui_scl_plugin.encoders.audio import tile
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.recurrent import backward_in_eval, recurrent_layers


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

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms that `forward` takes: the encoder's."""
        return int(self.encoder.sample_rate)

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]`, any T > 0, at `sample_rate`: `[B, D]`, float32, unit length."""
        with self._prepared(waveform) as tiled:
            embedding: Tensor = self.encoder(tiled)
            return embedding

    @property
    def embeds_each(self) -> bool:
        """Whether recordings of different lengths share a pass."""
        return hasattr(self.encoder, "embed_each")

    def embed_each(self, waveforms: Sequence[Tensor]) -> Tensor:
        """Embed `[T]` each, any T > 0, at `sample_rate`, as `forward` embeds each alone: `[N, D]`.

        In one pass where the encoder can do that; see `coqui_scl_plugin.hookspecs`.
        """
        encoder: Any = self.encoder
        if not self.embeds_each:
            return torch.cat([self(waveform.unsqueeze(0)) for waveform in waveforms])
        with torch.autocast(waveforms[0].device.type, enabled=False), self._backward(waveforms[0]):
            tiled = [tile(waveform.unsqueeze(0).float(), self.min_samples)[0] for waveform in waveforms]
            embeddings: Tensor = encoder.embed_each(tiled)
            return embeddings

    def features(self, waveform: Tensor) -> list[Tensor]:
        """Return the feature maps of `[B, T]`, any T > 0, at `sample_rate`: `[B, C, frames]` each, float32.

        Only for encoders that have some; see `coqui_scl_plugin.hookspecs`.
        """
        encoder: Any = self.encoder
        with self._prepared(waveform) as tiled:
            maps: list[Tensor] = encoder.features(tiled)
            return maps

    def embed_with_features(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return what `forward` and `features` return, from a single pass where the encoder can do that."""
        encoder: Any = self.encoder
        if not hasattr(encoder, "embed_with_features"):
            return self(waveform), self.features(waveform)
        with self._prepared(waveform) as tiled:
            both: tuple[Tensor, list[Tensor]] = encoder.embed_with_features(tiled)
            return both

    @contextlib.contextmanager
    def _prepared(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield the waveform, tiled and in float32, with autocast off and cuDNN as a backward pass needs it."""
        with torch.autocast(waveform.device.type, enabled=False), self._backward(waveform):
            yield tile(waveform.float(), self.min_samples)

    def _backward(self, waveform: Tensor) -> contextlib.AbstractContextManager[None]:
        return backward_in_eval(waveform, recurrent_layers(self.encoder) if waveform.is_cuda else ())
