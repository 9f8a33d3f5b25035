"""A loss and a freeze policy of a third party."""

import logging
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from coqui_scl_plugin import hookimpl

logger = logging.getLogger(__name__)


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


class CountedPolicy:
    """Frozen, and says how often it was made so: at the first time, the tenth, the hundredth and so on.

    Blocks weights and gradients (none are computed), buffers (eval mode), and optimizer and checkpoint (it is in
    neither), for no memory and no time.
    """

    trainable = False

    def __init__(self) -> None:
        """It was not applied yet."""
        self.applied = 0

    def apply(self, encoder: nn.Module) -> None:
        """Turn gradients and train mode off, and count."""
        encoder.eval().requires_grad_(False)
        self.applied += 1
        if str(self.applied).strip("0") == "1":
            logger.warning("The policy 'counted' was applied %d times.", self.applied)


@hookimpl
def scl_losses() -> dict[str, type]:
    """Register the loss under the name that a config spells."""
    return {"euclidean": EuclideanLoss}


@hookimpl
def scl_freeze_policies() -> dict[str, type]:
    """Likewise the policy."""
    return {"counted": CountedPolicy}
