"""The calibration of an encoder: its mean cosines on real speech, which make encoders comparable."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

Cosine = TypeVar("Cosine", Tensor, float)


class Calibration(NamedTuple):
    """Mean cosines of real recordings, as one encoder embeds them."""

    floor: float
    """Mean cosine of different speakers."""
    ceiling: float
    """Mean cosine of different recordings of one speaker."""

    def rescale(self, cosine: Cosine) -> Cosine:
        """Return the calibrated cosine: 0 at the floor, 1 at the ceiling.

        >>> Calibration(0.5, 0.75).rescale(torch.tensor([0.5, 0.75, 1.0])).tolist()
        [0.0, 1.0, 2.0]
        """
        return (cosine - self.floor) / (self.ceiling - self.floor)


UNCALIBRATED = Calibration(0.0, 1.0)
"""The calibration that leaves a cosine as it is."""


def measure_calibration(embeddings: Tensor, speakers: Sequence[str]) -> Calibration | None:
    """Measure the mean cosines over all pairs of rows of `[N, D]`, with one speaker's name for each row.

    The squared length of a sum of unit vectors is the sum of all their cosines: O(N D), without an [N, N] matrix.

    Returns:
        The calibration; None for fewer than two speakers, or if no speaker has two recordings.

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> floor, ceiling = measure_calibration(x, ["a", "a", "b"])
    >>> round(floor, 3), round(ceiling, 3)
    (0.354, 0.707)
    """
    if not speakers:
        return None
    unit = normalize(embeddings.double(), dim=-1)
    rows = {speaker: row for row, speaker in enumerate(sorted(set(speakers)))}
    index = torch.tensor([rows[speaker] for speaker in speakers])
    sums = unit.new_zeros(len(rows), unit.shape[1]).index_add_(0, index, unit)
    counts = index.bincount(minlength=len(rows))
    n, pairs_within = len(unit), int((counts * (counts - 1)).sum())
    pairs_across = n * (n - 1) - pairs_within
    if not pairs_within or not pairs_across:
        return None
    all_cosines, within = float(sums.sum(0).square().sum()), float(sums.square().sum())
    return Calibration((all_cosines - within) / pairs_across, (within - n) / pairs_within)
