"""The loss of YourTTS: one minus the cosine."""

from torch import Tensor
from torch.nn.functional import cosine_similarity

from coqui_scl_plugin.losses.base import SpeakerConsistencyLoss
from coqui_scl_plugin.losses.calibration import UNCALIBRATED, Calibration


def cosine_loss(generated: Tensor, reference: Tensor, calibration: Calibration = UNCALIBRATED) -> Tensor:
    """Compute the mean of 1 - cos over the rows of two `[B, D]` tensors: scalar, in [0, 2] if not calibrated.

    With a `calibration` it is 1 at the floor and 0 at the ceiling: a negative value means more similar than two
    recordings of one speaker.

    The value of stock Coqui (Casanova et al., "YourTTS", ICML 2022, section 2.2) is this minus 1; gradients are equal.

    >>> import torch
    >>> float(cosine_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])))
    1.0
    """
    return (1.0 - calibration.rescale(cosine_similarity(generated, reference, dim=-1))).mean()


class CosineLoss(SpeakerConsistencyLoss):
    """Mean of 1 - cos between each generated embedding and its reference."""

    takes_calibration = True

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor, prototypes: Tensor | None) -> Tensor:
        """Compute the formula on checked inputs; shapes as in `forward`."""
        return cosine_loss(generated, reference, self.calibration)
