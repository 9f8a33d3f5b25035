"""The contract of a speaker encoder, and what encoders share."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import normalize


class SpeakerEncoder(nn.Module):
    """An encoder from waveforms to speaker embeddings (d-vectors), differentiable with respect to the waveform.

    Subclasses implement `embed`. Third parties need not use this class: any module with these attributes and a
    `forward` from `[B, T]` to `[B, embedding_dim]` will do.
    """

    sample_rate: int
    """Hz of the waveforms that `forward` takes."""
    embedding_dim: int
    """Number of values in an embedding."""
    min_samples: int
    """Length of the shortest waveform that `forward` takes. `SegmentEncoder` tiles shorter ones to this length."""
    sha256: str | None = None
    """SHA-256 of the weights file, where there is one; a run records it as the parameter `sha256`."""

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed waveforms.

        Args:
            waveform: `[B, T]` at `sample_rate`, T >= `min_samples`, values in [-1, 1].

        Returns:
            `[B, embedding_dim]`, float32, unit length.

        Raises:
            ValueError: the waveform has another shape, or is too short.
        """
        self.check(waveform)
        return self.embed(waveform)

    def check(self, waveform: Tensor) -> None:
        """Refuse a waveform that `forward` does not take.

        Raises:
            ValueError: it is not `[B, T]`, or is too short.
        """
        if waveform.ndim != 2 or waveform.shape[1] < self.min_samples:
            msg = (
                f"{type(self).__name__} takes waveforms [B, T] of at least {self.min_samples} samples "
                f"({self.min_samples / self.sample_rate:.3g} s at {self.sample_rate} Hz) and got "
                f"{list(waveform.shape)}. Pass longer waveforms, or wrap the encoder in "
                "coqui_scl_plugin.encoders.segment_encoder.SegmentEncoder, which tiles short ones."
            )
            raise ValueError(msg)

    def embed(self, waveform: Tensor) -> Tensor:
        """Embed waveforms whose shape `forward` has checked: `[B, T]` to `[B, embedding_dim]`, unit length."""
        raise NotImplementedError


def substate(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Extract the state dict of the submodule `name` from that of its owner.

    >>> substate({"lstm.bias": 1, "proj.bias": 2}, "lstm")
    {'bias': 1}
    """
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def windows(features: Tensor, size: int, hop: int) -> Tensor:
    """Cut `[B, frames, F]` into overlapping windows `[B, N, size, F]`, dropping frames past the last whole window."""
    return features.unfold(1, size, hop).transpose(-1, -2)


def mean_direction(embeddings: Tensor) -> Tensor:
    """Average unit embeddings over windows, `[B, N, D]` to `[B, D]`, and bring the mean to unit length."""
    return normalize(normalize(embeddings, dim=-1).mean(dim=1), dim=-1)
