"""Encoders that embed windows of one size, which recordings of different lengths can share a pass for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from coqui_scl_plugin.encoders.base import SpeakerEncoder, mean_direction

_MOST_WINDOWS = {"cpu": 160}
"""Windows in one pass of `embed_each`, by type of device. On a CPU more are no faster, and take more memory."""
_MOST_ELSEWHERE = 2048


class WindowedEncoder(SpeakerEncoder):
    """Embeds windows of a spectrogram, each by itself, and takes the direction of their mean."""

    def cut(self, waveform: Tensor) -> Tensor:
        """Return the windows of `[B, T]`: `[B, N, frames, F]`."""
        raise NotImplementedError

    def embed_windows(self, windows: Tensor) -> Tensor:
        """Embed `[M, frames, F]`: `[M, D]`, unit length."""
        raise NotImplementedError

    def embed(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]`: `[B, D]`, unit length."""
        windows = self.cut(waveform)
        return mean_direction(self.embed_windows(windows.flatten(0, 1)).unflatten(0, windows.shape[:2]))

    def embed_each(self, waveforms: Sequence[Tensor]) -> Tensor:
        """Embed `[T]` each, of any lengths from `min_samples` on: `[N, D]`, as `forward` embeds each alone."""
        for waveform in waveforms:
            self.check(waveform.unsqueeze(0))
        cut = [self.cut(waveform.unsqueeze(0))[0] for waveform in waveforms]
        most = _MOST_WINDOWS.get(cut[0].device.type, _MOST_ELSEWHERE)
        embedded = torch.cat([self.embed_windows(some) for some in torch.cat(cut).split(most)])
        return torch.cat([mean_direction(own.unsqueeze(0)) for own in embedded.split([len(one) for one in cut])])
