"""Flags of evaluations."""

import pytest

from coqui_scl_plugin.config import EvaluationConfig
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.monitoring.flags import ceilings_of, find_flags
from coqui_scl_plugin.monitoring.history import Row

ROLES = {"ge2e": "training", "coqui": "training", "dvector": "holdout", "wavlm": "holdout"}
FIRST = Row(10, 0, dict.fromkeys(ROLES, 0.5), {})


def flags(ceilings=None, config=None, roles=ROLES, **rises):
    now = Row(20, 1, {alias: 0.5 + rises.get(alias, 0.0) for alias in roles}, {})
    return find_flags([FIRST], now, roles, ceilings or {}, config or EvaluationConfig())


def test_training_encoders_that_rise_alone_are_flagged_by_name_and_change():
    found = flags(ge2e=0.03, coqui=0.01, dvector=0.005, wavlm=-0.2)
    assert "since step 10" in found
    assert "ge2e +0.030" in found
    assert "dvector +0.005" in found
    assert "wavlm -0.200" in found
    assert "coqui" not in found  # it did not rise


@pytest.mark.parametrize(
    "rises",
    [
        {"ge2e": 0.019},  # too little
        {"ge2e": 0.03, "dvector": 0.011},  # a held-out one rises as well
        {"ge2e": -0.03, "dvector": -0.03},
        {"dvector": 0.03},
        {},
    ],
)
def test_a_run_is_not_flagged(rises):
    assert flags(**rises) == ""


def course(*similarities):
    """What is said of the last of several evaluations by a training and a held-out encoder."""
    roles = {"ge2e": "training", "dvector": "holdout"}
    rows = [Row(10 * i, i, dict(zip(roles, pair, strict=True)), {}) for i, pair in enumerate(similarities)]
    return find_flags(rows[:-1], rows[-1], roles, {}, EvaluationConfig())


def test_gaming_that_begins_after_both_rose_is_found():
    # measured on libri10, a generator that learns from ge2e alone
    gamed = [(0.586, 0.535), (0.638, 0.582), (0.660, 0.572), (0.686, 0.558)]
    assert course(*gamed[:2]) == ""
    for end in (3, 4):
        assert "since step 10" in course(*gamed[:end])


def test_a_training_encoder_that_recovers_from_a_fall_is_not_flagged():
    assert course((0.477, 0.237), (0.474, 0.236), (0.430, 0.258), (0.465, 0.224)) == ""


def test_the_first_evaluation_says_nothing():
    assert course((0.9, 0.1)) == ""


def test_without_a_held_out_encoder_nothing_can_be_said():
    assert flags(roles={"ge2e": "training"}, ge2e=0.3) == ""


def test_thresholds_are_those_of_the_config():
    assert flags(config=EvaluationConfig(training_rise=0.05), ge2e=0.03) == ""
    assert flags(config=EvaluationConfig(holdout_rise=-0.3), ge2e=0.03, dvector=-0.2) == ""
    assert flags(config=EvaluationConfig(holdout_rise=0.1), ge2e=0.03, dvector=0.05) != ""


def test_more_similar_than_real_speech_is_flagged():
    found = flags({"ge2e": 0.51, "dvector": 0.9}, ge2e=0.015, dvector=0.02)
    assert "by ge2e generated speech (0.515) is more similar" in found
    assert "(0.510)" in found
    assert "dvector" not in found


def test_the_ceiling_is_the_higher_of_the_data_set_and_the_recordings_that_were_reconstructed():
    calibrations = {"a": Calibration(0.2, 0.8), "b": Calibration(0.2, 0.8)}
    assert ceilings_of(calibrations, {"a": 0.7, "b": 0.85, "unknown": 0.1}) == {"a": 0.8, "b": 0.85}
