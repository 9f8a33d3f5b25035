"""A freeze policy."""

import logging

from torch import nn

logger = logging.getLogger(__name__)


class CountedPolicy:
    """Frozen, and says how often it was made so: at the first time, the tenth, the hundredth and so on.

    Blocks weights and gradients (none are computed or kept), buffers (eval mode), and optimizer and checkpoint (it is
    in neither), for no memory and no time.
    """

    trainable = False

    def __init__(self) -> None:
        """It was not applied yet."""
        self.applied = 0

    def apply(self, encoder: nn.Module) -> None:
        """Turn gradients and train mode off, drop gradients, and count."""
        encoder.eval().requires_grad_(False).zero_grad()
        self.applied += 1
        if str(self.applied).strip("0") == "1":
            logger.warning("The policy 'counted' was applied %d times.", self.applied)
