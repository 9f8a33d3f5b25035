import random

import numpy as np
import pytest
from evaluation_data import operating_points, possible_eers, smallest_cost

from coqui_scl_plugin.evaluation.metrics import Interval, bootstrap_mean, equal_error_rate, error_rates, min_dcf


def drawn_trials(seed):
    """Scores with ties, and with fewer trials of one speaker than of different ones, or the other way round."""
    draw = random.Random(seed)
    count, share = draw.randint(2, 60), draw.uniform(0.1, 0.9)
    same = [True, False, *(draw.random() < share for _ in range(count))]
    return [round(draw.gauss(0.4 if s else 0.0, 0.3), draw.choice([1, 1, 6])) for s in same], same


@pytest.mark.parametrize("seed", range(20))
def test_rates_are_those_of_thresholds_and_leave_out_none_that_is_best(seed):
    scores, same = drawn_trials(seed)
    rates = error_rates(scores, same)
    found = list(zip(rates.false_alarm.tolist(), rates.miss.tolist(), strict=True))
    points = [(float(alarm), float(miss)) for alarm, miss in operating_points(scores, same)]
    assert {(round(a, 9), round(m, 9)) for a, m in found} <= {(round(a, 9), round(m, 9)) for a, m in points}
    assert (found[0], found[-1]) == ((1, 0), (0, 1))
    assert (np.diff(rates.false_alarm) <= 0).all()
    assert (np.diff(rates.miss) >= 0).all()
    for alarm, miss in points:
        assert any(a <= alarm + 1e-9 and m <= miss + 1e-9 for a, m in found)


@pytest.mark.parametrize("seed", range(20))
def test_equal_error_rate_by_counting(seed):
    scores, same = drawn_trials(seed)
    found = equal_error_rate(scores, same)
    assert any(found == pytest.approx(rate, abs=1e-9) for rate in possible_eers(scores, same))


@pytest.mark.parametrize(
    ("costs", "seed"),
    [({}, seed) for seed in range(10)]
    + [({"p_target": 0.01}, 1), ({"p_target": 0.5}, 2), ({"p_target": 0.9}, 3), ({"c_miss": 10}, 4)]
    + [({"p_target": 0.01, "c_miss": 10, "c_false_alarm": 1}, 5), ({"p_target": 0.3, "c_false_alarm": 5}, 6)],
)
def test_detection_cost_by_counting(costs, seed):
    scores, same = drawn_trials(seed)
    assert min_dcf(scores, same, **costs) == pytest.approx(smallest_cost(scores, same, **costs), abs=1e-9)


@pytest.mark.parametrize(
    ("scores", "same", "eer", "cost"),
    [
        ([0.9, 0.1], [1, 0], 0, 0),
        ([0.1, 0.9], [1, 0], 100, 1),  # always wrong; saying no to all is still to be had
        ([0.5, 0.5], [1, 0], 50, 1),  # nothing lies between two that are equal
        ([4, 3, 2, 1], [1, 0, 1, 0], 50, 0.5),
        ([4, 3, 2, 1], [1, 1, 0, 1], 50 * (0 + 1 / 3), 1 / 3),  # two misses of three, or one alarm of one
        # one miss of two costs 0.025; one alarm of twenty to catch it would cost 0.0475
        ([9, 7, 8, *[0] * 19], [1, 1, *[0] * 20], 2.5, 0.5),
        # with 99 it would cost 0.95 / 99
        ([9, 7, 8, *[0] * 98], [1, 1, *[0] * 99], 50 / 99, (0.95 / 99) / 0.05),
    ],
)
def test_small_cases_by_hand(scores, same, eer, cost):
    assert equal_error_rate(scores, same) == pytest.approx(eer)
    assert min_dcf(scores, same) == pytest.approx(cost)


def test_only_the_order_of_scores_counts():
    scores, same = drawn_trials(3)
    raised = np.exp(np.array(scores) * 5)
    assert equal_error_rate(raised, same) == equal_error_rate(scores, same)
    assert min_dcf(raised, same) == min_dcf(scores, same)


@pytest.mark.parametrize("figure", [error_rates, equal_error_rate, min_dcf])
@pytest.mark.parametrize(("same", "kind"), [([True, True], "same-speaker"), ([False] * 2, "different"), ([], "")])
def test_trials_of_one_kind_have_no_error_rates(figure, same, kind):
    with pytest.raises(ValueError, match=f"both kinds.*{kind}"):
        figure([0.1 * n for n in range(len(same))], same)


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 5, 12, 100])
def test_interval_is_that_of_means_of_drawn_values(count):
    values = np.random.default_rng(count).gamma(1.0, size=count)
    own = np.random.default_rng(99)
    means = values[own.integers(count, size=(40_000, count))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    interval = bootstrap_mean(values.tolist(), seed=0, resamples=9999)
    assert interval.mean == pytest.approx(values.mean())
    near = 0.15 * values.std() / count**0.5  # percentiles of that many draws are not exact
    assert interval.low == pytest.approx(low, abs=near)
    assert interval.high == pytest.approx(high, abs=near)


def test_same_seed_same_interval():
    values = [0.1, 0.5, 0.2, 0.9, 0.4]
    assert bootstrap_mean(values, seed=1, resamples=199) == bootstrap_mean(values, seed=1, resamples=199)
    assert bootstrap_mean(values, seed=1, resamples=199) != bootstrap_mean(values, seed=2, resamples=199)


def test_intervals_of_values_that_say_little():
    assert bootstrap_mean([0.25] * 7, seed=0, resamples=99) == (0.25, 0.25, 0.25)
    assert bootstrap_mean([-3], seed=0, resamples=99) == (-3, None, None)
    two = bootstrap_mean([0, 1], seed=0, resamples=999)
    assert two == (0.5, 0, 1)


@pytest.mark.parametrize(
    ("low", "high", "excluded"),
    [(0.1, 0.3, True), (-0.3, -0.1, True), (-0.1, 0.3, False), (0, 0.3, False), (-1, 0, False), (None, None, False)],
)
def test_whether_an_interval_excludes_zero(low, high, excluded):
    assert Interval(0.2, low, high).excludes_zero() is excluded
