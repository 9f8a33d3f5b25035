"""The contract of a speaker encoder, and what encoders share."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class SpeakerEncoder(nn.Module):
    """Maps waveforms to speaker embeddings (d-vectors), differentiable to the waveform.

    Third parties need not use this class: any module with these attributes and this `forward` will do.
    """

    sample_rate: int
    """Hz of the waveforms that `forward` takes."""
    embedding_dim: int
    """D of the result."""
    min_samples: int
    """The shortest waveform that `forward` takes. Shorter ones are tiled by the plugin before they come here."""
    sha256: str | None = None
    """Of the file with the weights, where they come from one; a run records it as the parameter `sha256`."""

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed waveforms.

        Args:
            waveform: `[B, T]` at `sample_rate`, T >= `min_samples`, values in [-1, 1].

        Returns:
            `[B, embedding_dim]`, float32, unit length.
        """
        raise NotImplementedError


def backward_in_eval(waveform: Tensor, *, recurrent: bool) -> AbstractContextManager[None]:
    """Without cuDNN where it refuses to run backward: through a recurrent layer in eval mode."""
    if recurrent and waveform.is_cuda and torch.is_grad_enabled():
        return torch.backends.cudnn.flags(enabled=False)
    return nullcontext()


def substate(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The state dict of the submodule `name` within that of its owner.

    >>> substate({"lstm.bias": 1, "proj.bias": 2}, "lstm")
    {'bias': 1}
    """
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def windows(features: Tensor, size: int, hop: int) -> Tensor:
    """Overlapping windows of `[B, frames, F]`: `[B, N, size, F]`; frames past the last whole window are left out."""
    return features.unfold(1, size, hop).transpose(-1, -2)


def mean_direction(embeddings: Tensor) -> Tensor:
    """The direction of the mean over windows of unit embeddings: `[B, N, D]` to `[B, D]`, unit length."""
    return normalize(normalize(embeddings, dim=-1).mean(dim=1), dim=-1)
