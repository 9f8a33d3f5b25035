"""What a loss compares: the embeddings, or the feature maps, that one encoder makes of generated and of real speech."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from coqui_scl_plugin.plugins.optional import compares_features

Compared = Literal["embeddings", "features"]


class Heard(NamedTuple):
    """What one encoder makes of B waveforms; None where no loss asks for it."""

    embedding: Tensor | None = None
    """`[B, D]`."""
    features: Sequence[Tensor] | None = None
    """Feature maps, `[B, C, frames]` each."""

    def finite_items(self) -> Tensor:
        """Tell for each waveform whether all numbers are finite, `[B]`, bool."""
        return torch.stack([part.detach().isfinite().flatten(1).all(dim=1) for part in self._parts()]).all(dim=0)

    def is_finite(self) -> Tensor:
        """Tell whether all numbers are finite: scalar, bool; embeddings may be of more items than feature maps are."""
        return torch.stack([part.detach().isfinite().all() for part in self._parts()]).all()

    def _parts(self) -> list[Tensor]:
        return [*([] if self.embedding is None else [self.embedding]), *(self.features or [])]


def heard(compared: Tensor | Heard) -> Heard:
    """Return embeddings `[B, D]` as what was heard; anything else is returned as it is."""
    return compared if isinstance(compared, Heard) else Heard(embedding=compared)


def part_for(loss: nn.Module, compared: Tensor | Heard) -> Any:
    """Return the part of what was heard that a loss compares. Raises ValueError if it was not computed."""
    embedding, features = heard(compared)
    part, kind = (features, "feature maps") if compares_features(loss) else (embedding, "embeddings")
    if part is None:
        raise ValueError(f"{type(loss).__name__} compares {kind}, which were not computed")
    return part
