"""Angular margin softmax over speakers: additive angle (AAM, ArcFace) and additive cosine (AM, CosFace)."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

from coqui_scl_plugin.losses.base import SpeakerConsistencyLoss, cosines
from coqui_scl_plugin.losses.many_prototypes import others_log_sum_exp

Kind = Literal["additive_angle", "additive_cosine"]


def margin_cosine(cosine: Tensor, margin: float, kind: Kind) -> Tensor:
    """Compute ψ(θ), the target's cosine reduced by a margin; any shape, cosines in [-1, 1].

    `additive_angle`: cos(θ + m) (Deng et al., "ArcFace", CVPR 2019, eq. 3). Past θ = π - m, where this would rise
    again, it continues as cos θ - (1 - cos m), which equals it at -1. `additive_cosine`: cos θ - m (Wang et al.,
    "CosFace", CVPR 2018, eq. 4). The gradient is finite for every float32 cosine in [-1, 1].

    >>> [round(v, 4) for v in margin_cosine(torch.tensor([1.0, 0.0, -1.0]), 0.2, "additive_angle").tolist()]
    [0.9801, -0.1987, -1.0199]
    """
    if kind == "additive_cosine":
        return cosine - margin
    sine = ((1.0 - cosine) * (1.0 + cosine)).clamp_min(1e-12).sqrt()
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    continued = cosine - (1.0 - math.cos(margin))
    return torch.where(cosine > math.cos(math.pi - margin), shifted, continued)


def angular_margin_loss(
    generated: Tensor,
    prototypes: Tensor,
    targets: Tensor,
    *,
    margin: float,
    scale: float,
    kind: Kind,
    rows: Tensor | None = None,
) -> Tensor:
    """Compute the softmax cross-entropy over speakers, with a margin on the target's logit.

    Args:
        generated: `[B, D]`.
        prototypes: `[S, D]`, one row for each speaker. Those that need no gradient may be very many.
        targets: `[B]`, the row of `prototypes` that each item belongs to.
        margin: Radians for `additive_angle`, a difference of cosines for `additive_cosine`.
        scale: Factor s of all logits.
        kind: The kind of ψ; see `margin_cosine`.
        rows: `[S]`, whether a row of `prototypes` counts; a speaker may have several equal ones. None: all of them.

    Returns:
        The mean over the batch: scalar >= 0.
    """
    if rows is None and not prototypes.requires_grad:
        direction, target = normalize(generated, dim=-1), normalize(prototypes[targets], dim=-1)
        aimed = scale * margin_cosine((direction * target).sum(dim=-1).clamp(-1.0, 1.0), margin, kind)
        return softplus(others_log_sum_exp(direction, prototypes, targets, scale) - aimed).mean()
    cosine = cosines(generated, prototypes)
    own = torch.zeros_like(cosine, dtype=torch.bool).scatter_(1, targets[:, None], True)
    logits = scale * torch.where(own, margin_cosine(cosine, margin, kind), cosine)
    return cross_entropy(logits if rows is None else logits.masked_fill(~rows, -math.inf), targets)


class AngularMarginLoss(SpeakerConsistencyLoss):
    """Classify each generated item among the speakers, with a margin.

    The speakers are those of `prototypes` if given, otherwise those of the batch, each represented by the mean of its
    references. Without `prototypes`, a batch with a single speaker has no negatives and teaches nothing. A run in which
    every batch is like that is refused before step 1; a single one, such as the last of an epoch, counts as 0.
    """

    min_speakers = 2
    takes_calibration = True
    evidence = (
        "Costs next to nothing beside its encoders, also with the centroids of 1,000 speakers; docs/speed.md has "
        "100,000. First round of the ablation (docs/ablation_first_round.md), "
        "reconstruction, trained against ge2e alone: +0.169 by ge2e, +0.125 by dvector, -0.008 by campplus; "
        "cosine gained +0.261, +0.173 and +0.003."
    )

    def __init__(
        self,
        kind: Kind = "additive_angle",
        margin: Annotated[float, Field(ge=0, lt=math.pi / 2)] = 0.2,
        scale: Annotated[float, Field(gt=0)] = 30.0,
        margin_warmup_steps: Annotated[int, Field(ge=0)] = 0,
        prototypes: Literal["batch", "centroid"] = "batch",
    ) -> None:
        """Choose the margin.

        Args:
            kind: `additive_angle` (AAM, ArcFace) or `additive_cosine` (AM, CosFace).
            margin: Radians, or a difference of cosines.
            scale: Factor of the logits.
            margin_warmup_steps: Number of steps over which the margin rises linearly from 0.
            prototypes: `batch`, the mean reference of each speaker in the batch; or `centroid`, that of every speaker
                in the data set, from the reference cache, so that all other speakers are negatives.
        """
        super().__init__()
        self.wants_prototypes = prototypes == "centroid"
        self.kind: Kind = kind
        self.margin, self.scale, self.margin_warmup_steps = margin, scale, margin_warmup_steps
        self.current_margin = 0.0 if margin_warmup_steps else margin

    def set_step(self, step: int) -> None:
        """Set the margin of this training step."""
        if self.margin_warmup_steps:
            self.current_margin = self.margin * min(1.0, step / self.margin_warmup_steps)

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor, prototypes: Tensor | None) -> Tensor:
        """Compute the formula on checked inputs; shapes as in `forward`."""
        if prototypes is None and self.wants_prototypes:
            msg = 'prototypes = "centroid" needs the centroid of each speaker in the argument `prototypes`, got None'
            raise ValueError(msg)
        rows = None
        if prototypes is None:
            prototypes, speaker_ids, rows = speaker_means(reference, speaker_ids)
        # the floor shifts all logits of a softmax alike, so of the calibration only the scale matters
        scale = self.scale / (self.calibration.ceiling - self.calibration.floor)
        return angular_margin_loss(
            generated, prototypes, speaker_ids, margin=self.current_margin, scale=scale, kind=self.kind, rows=rows
        )


def speaker_means(reference: Tensor, speaker_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean direction of the references of each item's speaker, and which rows stand for the speakers.

    Sums by one matrix product: unlike `unique` and `index_add_`, it makes the program wait for no GPU, and gives the
    same sum in every run.

    Args:
        reference: `[B, D]`.
        speaker_ids: `[B]`.

    Returns:
        The mean directions `[B, D]`; for each item the first row of its speaker `[B]`; and whether a row is the first
        of its speaker `[B]`.

    >>> means, first, is_first = speaker_means(torch.eye(3), torch.tensor([7, 7, 4]))
    >>> means.shape, first.tolist(), is_first.tolist()
    (torch.Size([3, 3]), [0, 0, 2], [True, False, True])
    """
    same = speaker_ids[:, None] == speaker_ids[None, :]
    items = torch.arange(len(speaker_ids), device=speaker_ids.device)
    first = torch.where(same, items, len(items)).amin(dim=1)
    means = normalize(same.to(reference.dtype) @ normalize(reference, dim=-1), dim=-1)
    return means, first, first == items
