"""Supervised contrastive loss between generated speech and the references of the batch."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from coqui_scl_plugin.losses.base import SpeakerConsistencyLoss, cosines


def contrastive_loss(generated: Tensor, reference: Tensor, speaker_ids: Tensor, temperature: float) -> Tensor:
    """Compute the supervised contrastive loss (Khosla et al., NeurIPS 2020, eq. 2) against the batch's references.

    For each item and each reference of the same speaker: -log of the softmax of cos / temperature among that
    reference and those of the other speakers. An item's own speaker is never a negative.

    Args:
        generated: `[B, D]`.
        reference: `[B, D]`.
        speaker_ids: `[B]`.
        temperature: Divisor of the cosines.

    Returns:
        The mean over items of the mean over their positives: scalar >= 0, which is 0 for a batch without negatives.
    """
    logits = cosines(generated, reference) / temperature
    same = speaker_ids[:, None] == speaker_ids[None, :]
    negatives = logits.masked_fill(same, torch.finfo(logits.dtype).min).logsumexp(dim=1, keepdim=True)
    per_positive = softplus(negatives - logits)
    return ((per_positive * same).sum(dim=1) / same.sum(dim=1)).mean()


class ContrastiveLoss(SpeakerConsistencyLoss):
    """Draw each generated item to its speaker's references and away from those of the other speakers in the batch."""

    min_speakers = 2
    takes_calibration = True
    evidence = (
        "Costs nothing beside its encoders. First round of the ablation (docs/ablation_first_round.md), "
        "reconstruction, trained against ge2e alone: +0.169 by ge2e, +0.119 by dvector, +0.001 by campplus; "
        "cosine gained +0.261, +0.173 and +0.003."
    )

    def __init__(self, temperature: Annotated[float, Field(gt=0)] = 0.1) -> None:
        """Choose the temperature that divides the cosines; a small one stresses the nearest negatives."""
        super().__init__()
        self.temperature = temperature

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor, prototypes: Tensor | None) -> Tensor:
        """Compute the formula on checked inputs; shapes as in `forward`."""
        # the floor shifts all logits of a softmax alike, so of the calibration only the scale matters
        temperature = self.temperature * (self.calibration.ceiling - self.calibration.floor)
        return contrastive_loss(generated, reference, speaker_ids, temperature)
