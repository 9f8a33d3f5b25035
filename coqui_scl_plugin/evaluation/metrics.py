"""Figures of speaker verification, as pure functions of scores and labels; the curves are scikit-learn's."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap
from sklearn.metrics import det_curve

CONFIDENCE = 0.95
P_TARGET, C_MISS, C_FALSE_ALARM = 0.05, 1.0, 1.0
"""Of the detection cost: VoxCeleb's, as in clovaai/voxceleb_trainer."""


class Interval(NamedTuple):
    """A mean with its confidence interval; the bounds are None where one value alone is known."""

    mean: float
    low: float | None
    high: float | None

    def excludes_zero(self) -> bool:
        """Whether the mean can be told from zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class Rates(NamedTuple):
    """A detection error trade-off."""

    false_alarm: NDArray[np.float64]
    """Share of trials of different speakers that are accepted, at each threshold."""
    miss: NDArray[np.float64]
    """Share of trials of one speaker that are rejected."""


def error_rates(scores: ArrayLike, same: ArrayLike) -> Rates:
    """Both error rates at every threshold, from accepting all trials to rejecting all.

    Args:
        scores: `[N]`, the higher the more alike.
        same: `[N]`, whether a trial is of one speaker.

    Raises:
        ValueError: the trials are all of one kind.

    >>> rates = error_rates([0.9, 0.8, 0.3, 0.2], [True, False, True, False])
    >>> rates.false_alarm.tolist(), rates.miss.tolist()
    ([1.0, 0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5, 1.0])
    """
    labels = np.asarray(same, dtype=bool)
    if labels.all() or not labels.any():
        kind = "of one speaker" if labels.any() else "of different speakers"
        raise ValueError(f"Error rates need trials of both kinds; all {labels.size} are {kind}.")
    false_alarm, miss, _ = det_curve(labels, np.asarray(scores, dtype=float))
    return Rates(np.append([1.0], np.append(false_alarm, 0.0)), np.append([0.0], np.append(miss, 1.0)))


def equal_error_rate(scores: ArrayLike, same: ArrayLike) -> float:
    """Where as many trials of one speaker are rejected as of different ones are accepted, in percent.

    Of the thresholds that the scores offer, the one at which both rates are nearest; their mean. As
    `tuneThresholdfromScore` of clovaai/voxceleb_trainer.

    Raises:
        ValueError: the trials are all of one kind.

    >>> equal_error_rate([0.9, 0.8, 0.7, 0.1], [True, True, False, False])
    0.0
    >>> equal_error_rate([0.9, 0.4, 0.7, 0.1], [True, True, False, False])
    50.0
    """
    false_alarm, miss = error_rates(scores, same)
    nearest = np.abs(false_alarm - miss).argmin()
    return float(50 * (false_alarm[nearest] + miss[nearest]))


def min_dcf(
    scores: ArrayLike,
    same: ArrayLike,
    *,
    p_target: float = P_TARGET,
    c_miss: float = C_MISS,
    c_false_alarm: float = C_FALSE_ALARM,
) -> float:
    """The smallest detection cost of any threshold, as a share of the cost of deciding without listening.

    NIST's: `c_miss * P(miss) * p_target + c_false_alarm * P(false alarm) * (1 - p_target)`, over the smaller of
    `c_miss * p_target` and `c_false_alarm * (1 - p_target)`. 0 is perfect, 1 no better than always saying no.

    Raises:
        ValueError: the trials are all of one kind.

    >>> min_dcf([0.9, 0.4, 0.7, 0.1], [True, True, False, False])
    0.5
    """
    false_alarm, miss = error_rates(scores, same)
    missed, alarmed = c_miss * p_target, c_false_alarm * (1 - p_target)
    return float((missed * miss + alarmed * false_alarm).min() / min(missed, alarmed))


def bootstrap_mean(values: Sequence[float], *, seed: int, resamples: int) -> Interval:
    """Mean of one value a speaker, and its 95 % interval: percentiles of means over speakers drawn with replacement.

    Args:
        values: One a speaker, for differences of two systems one difference a speaker.
        seed: Of the draws.
        resamples: How many.

    >>> bootstrap_mean([1.0, 1.0, 1.0], seed=0, resamples=99)
    Interval(mean=1.0, low=1.0, high=1.0)
    >>> bootstrap_mean([0.5], seed=0, resamples=99)
    Interval(mean=0.5, low=None, high=None)
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None)
    drawn = bootstrap(
        (np.asarray(values, dtype=float),), np.mean, n_resamples=resamples, confidence_level=CONFIDENCE,
        method="percentile", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return Interval(mean, float(drawn.confidence_interval.low), float(drawn.confidence_interval.high))
