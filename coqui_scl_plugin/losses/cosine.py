"""The loss of YourTTS: one minus the cosine."""

import math

from torch import Tensor
from torch.nn.functional import cosine_similarity

from coqui_scl_plugin.losses.base import SpeakerConsistencyLoss
from coqui_scl_plugin.losses.calibration import UNCALIBRATED, Calibration


def cosine_loss(
    generated: Tensor, reference: Tensor, calibration: Calibration = UNCALIBRATED, ceiling: float = math.inf
) -> Tensor:
    """Compute the mean of 1 - cos over the rows of two `[B, D]` tensors: scalar, in [0, 2] if not calibrated.

    With a `calibration` it is 1 at the floor and 0 at the ceiling: a negative value means more similar than two
    recordings of one speaker. Rows whose raw cosine exceeds `ceiling` count as if they were at it, without a gradient.

    The value of stock Coqui (Casanova et al., "YourTTS", ICML 2022, section 2.2) is this minus 1; gradients are equal.

    >>> import torch
    >>> float(cosine_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])))
    1.0
    """
    cosine = cosine_similarity(generated, reference, dim=-1)
    if ceiling < math.inf:
        cosine = cosine.clamp_max(ceiling)
    return (1.0 - calibration.rescale(cosine)).mean()


class CosineLoss(SpeakerConsistencyLoss):
    """Mean of 1 - cos between each generated embedding and its reference."""

    takes_calibration = True
    evidence = (
        "Costs nothing beside its encoders. First round of the ablation (docs/ablation_first_round.md), "
        "reconstruction, trained against ge2e alone: +0.261 by ge2e, +0.173 by dvector, +0.003 by campplus. The "
        "default is an ensemble of it: coqui-scl list losses ensemble."
    )

    def __init__(self, stop_at_ceiling: bool = False) -> None:
        """Choose where an item stops to teach.

        Args:
            stop_at_ceiling: Whether an item whose cosine exceeds the encoder's ceiling, the mean cosine of two
                recordings of one person, counts as if it were at the ceiling and gets no gradient: beyond it, there is
                little to learn but the encoder's weaknesses. The ceiling is measured before step 1.
        """
        super().__init__()
        self.wants_ceiling = stop_at_ceiling
        self._ceiling: float | None = None

    def set_ceiling(self, ceiling: float) -> None:
        """Take the raw cosine at which an item stops to teach; without effect unless `stop_at_ceiling`."""
        self._ceiling = ceiling

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor, prototypes: Tensor | None) -> Tensor:
        """Compute the formula on checked inputs; shapes as in `forward`.

        Raises:
            ValueError: `stop_at_ceiling` is on, but `set_ceiling` was not called.
        """
        if not self.wants_ceiling:
            return cosine_loss(generated, reference, self.calibration)
        if self._ceiling is None:
            raise ValueError("stop_at_ceiling needs the ceiling of the encoder: call set_ceiling before")
        return cosine_loss(generated, reference, self.calibration, self._ceiling)
