"""A loss."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize


class EuclideanLoss(nn.Module):
    """Mean of half the squared distance between the directions of each embedding and its reference."""

    def __init__(self, scale: Annotated[float, Field(gt=0)] = 1.0) -> None:
        """Choose the factor `scale` of the result."""
        super().__init__()
        self.scale = scale

    def forward(
        self,
        generated: Tensor,
        reference: Tensor,
        speaker_ids: Tensor | None = None,
        prototypes: Tensor | None = None,
    ) -> Tensor:
        """Compare `[B, D]` with `[B, D]`: a float32 scalar in [0, 2 * scale]."""
        difference = normalize(generated.float(), dim=-1) - normalize(reference.float(), dim=-1)
        return self.scale * difference.square().sum(dim=-1).mean() / 2
