"""Metrics of speaker verification, as pure functions of scores and labels; the curves are scikit-learn's."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap
from sklearn.metrics import det_curve

CONFIDENCE = 0.95
P_TARGET, C_MISS, C_FALSE_ALARM = 0.05, 1.0, 1.0
"""Parameters of the detection cost: VoxCeleb's, as in clovaai/voxceleb_trainer."""


class Interval(NamedTuple):
    """A mean with its confidence interval; the bounds are None if only one value is known."""

    mean: float
    low: float | None
    high: float | None

    def excludes_zero(self) -> bool:
        """Tell whether the mean is distinguishable from zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class Rates(NamedTuple):
    """A detection error trade-off."""

    false_alarm: NDArray[np.float64]
    """Share of different-speaker trials that are accepted, at each threshold."""
    miss: NDArray[np.float64]
    """Share of same-speaker trials that are rejected, at each threshold."""


def error_rates(scores: ArrayLike, same: ArrayLike) -> Rates:
    """Compute both error rates at every threshold, from accepting all trials to rejecting all.

    Args:
        scores: `[N]`; a higher score means more similar.
        same: `[N]`, true for same-speaker trials.

    Raises:
        ValueError: all trials are of one kind.

    >>> rates = error_rates([0.9, 0.8, 0.3, 0.2], [True, False, True, False])
    >>> rates.false_alarm.tolist(), rates.miss.tolist()
    ([1.0, 0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5, 1.0])
    """
    labels = np.asarray(same, dtype=bool)
    if labels.all() or not labels.any():
        kind = "same-speaker" if labels.any() else "different-speaker"
        raise ValueError(f"Error rates need trials of both kinds; all {labels.size} are {kind} trials.")
    false_alarm, miss, _ = det_curve(labels, np.asarray(scores, dtype=float))
    return Rates(np.append([1.0], np.append(false_alarm, 0.0)), np.append([0.0], np.append(miss, 1.0)))


def equal_error_rate(scores: ArrayLike, same: ArrayLike) -> float:
    """Compute the rate, in percent, at which as many same-speaker trials are rejected as others are accepted.

    Among the thresholds that the scores offer, the one at which both rates are nearest is taken; the result is the
    mean of the two rates there, as in `tuneThresholdfromScore` of clovaai/voxceleb_trainer.

    Raises:
        ValueError: all trials are of one kind.

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
    """Compute the smallest detection cost of any threshold, relative to the cost of deciding without listening.

    This is NIST's `c_miss * P(miss) * p_target + c_false_alarm * P(false alarm) * (1 - p_target)`, divided by the
    smaller of `c_miss * p_target` and `c_false_alarm * (1 - p_target)`. 0 is perfect; 1 is no better than always
    saying no.

    Raises:
        ValueError: all trials are of one kind.

    >>> min_dcf([0.9, 0.4, 0.7, 0.1], [True, True, False, False])
    0.5
    """
    false_alarm, miss = error_rates(scores, same)
    missed, alarmed = c_miss * p_target, c_false_alarm * (1 - p_target)
    return float((missed * miss + alarmed * false_alarm).min() / min(missed, alarmed))


def bootstrap_mean(values: Sequence[float], *, seed: int, resamples: int) -> Interval:
    """Return the mean over speakers and its 95 % interval, from means over speakers drawn with replacement.

    Args:
        values: One value per speaker; to compare two systems, one difference per speaker.
        seed: Seed of the draws.
        resamples: Number of draws.

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


def mean_over_speakers(values: Sequence[float | None], *, seed: int, resamples: int) -> Interval | None:
    """Return `bootstrap_mean` of the speakers whose value is known; None if there is none."""
    known = [value for value in values if value is not None]
    return bootstrap_mean(known, seed=seed, resamples=resamples) if known else None
