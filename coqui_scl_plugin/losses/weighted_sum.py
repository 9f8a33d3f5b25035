"""A weighted sum of several losses on one encoder, as a member of an ensemble."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coqui_scl_plugin.losses.heard import Heard, part_for
from coqui_scl_plugin.plugins.optional import wants_prototypes


class WeightedSum(nn.Module):
    """Add the losses of one encoder, each with its weight, which may compare embeddings and feature maps."""

    def __init__(self, terms: Sequence[nn.Module], weights: Sequence[float]) -> None:
        """Take as many weights as losses; nothing normalises them."""
        super().__init__()
        self.terms = nn.ModuleList(terms)
        self.weights = list(weights)

    def forward(
        self, generated: Heard, reference: Heard, speaker_ids: Tensor | None = None, prototypes: Tensor | None = None
    ) -> Tensor:
        """Add up the losses of what the encoder heard; `prototypes` are for those that ask for them."""
        values = [
            weight * compare(term, generated, reference, speaker_ids, prototypes)
            for term, weight in zip(self.terms, self.weights, strict=True)
        ]
        return torch.stack(values).sum()


def compare(
    term: nn.Module,
    generated: Tensor | Heard,
    reference: Tensor | Heard,
    speaker_ids: Tensor | None = None,
    prototypes: Tensor | None = None,
) -> Tensor:
    """Return the value of one of several losses of an encoder, from the part of what was heard that it compares."""
    wanted = prototypes if wants_prototypes(term) else None
    value: Tensor = term(part_for(term, generated), part_for(term, reference), speaker_ids, wanted)
    return value
