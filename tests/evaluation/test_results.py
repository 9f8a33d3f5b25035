import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from evaluation_data import RATE, Voices, first_samples

from coqui_scl_plugin.evaluation.metrics import Interval
from coqui_scl_plugin.evaluation.results import (
    EncoderIdentity,
    Evaluation,
    compare,
    evaluations_of,
    results,
    warnings,
)
from coqui_scl_plugin.evaluation.verification import MEASURES, SpeakerScores, verify

RESAMPLES = 999
SPEAKERS = ("ann", "bob", "cid", "dee", "eve")
IDENTITIES = {
    "one": EncoderIdentity("known", {"skip": 0}, "f1ve"),
    "other": EncoderIdentity("known", {"skip": 2}, "s1x"),
}
ROLES = {"one": "training", "other": "holdout"}
DEFAULTS = {"seed": 0, "resamples": RESAMPLES, "dbfs": None}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Five speakers, each with two real recordings and a copy of one."""
    draw = np.random.default_rng(0)
    voices = Voices(tmp_path_factory.mktemp("voices"))
    for speaker in SPEAKERS:
        own = draw.normal(size=4)
        for number in range(2):
            voices.add_real(f"{speaker}{number}", speaker, own + draw.normal(0, 0.3, 4))
        voices.add_synthetic(f"{speaker}-made", speaker, own + draw.normal(0, 0.6, 4), f"{speaker}0")
    encoders = {"one": first_samples(4), "other": first_samples(2, skip=2)}
    return Evaluation(voices.evaluation_set, verify(voices.evaluation_set, encoders, resamples=RESAMPLES), ROLES)


def with_scores(evaluation, alias, **changes):
    verification = evaluation.verification
    scores = verification.scores | {alias: replace(verification.scores[alias], **changes)}
    return replace(evaluation, verification=replace(verification, scores=scores))


def named(evaluation, label, speakers):
    """The same of another name, in which both encoders find `speakers`: by name, all three figures."""
    found = {name: SpeakerScores(1, *values) for name, values in speakers.items()}
    for alias in evaluation.verification.scores:
        evaluation = with_scores(evaluation, alias, speakers=found)
    evaluation_set = replace(evaluation.evaluation_set, label=label)
    return replace(evaluation, evaluation_set=evaluation_set)


# --- several compared -------------------------------------------------------------------------------------------------


def test_differences_are_of_the_same_speakers(evaluated):
    draw = np.random.default_rng(1)
    before, after = draw.uniform(size=(2, 5, 3))
    first = named(evaluated, "before", dict(zip(SPEAKERS, before.tolist(), strict=True)))
    # in another order, without the first speaker and with one whom the first does not have
    others = dict(zip(reversed(SPEAKERS), after[::-1].tolist(), strict=True)) | {"fay": [1.0, 1.0, 1.0]}
    del others["ann"]
    rows = compare([first, named(evaluated, "after", others)], seed=0, resamples=RESAMPLES)
    assert len(rows) == 2 * 3
    for row in rows:
        column = MEASURES.index(row["measure"])
        differences = (after - before)[1:, column]
        assert (row["baseline"], row["evaluation"], row["speakers"]) == ("before", "after", 4)
        assert row["difference"]["mean"] == pytest.approx(differences.mean())
        means = np.random.default_rng(5).choice(differences, size=(20_000, 4)).mean(axis=1)
        bounds = [row["difference"]["low"], row["difference"]["high"]]
        assert bounds == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.1)


@pytest.mark.parametrize(
    ("changes", "distinguishable"),
    [
        ([0.1, 0.11, 0.12, 0.1, 0.1], True),
        ([-0.1, -0.11, -0.12, -0.1, -0.1], True),
        ([0.1, -0.1, 0.2, -0.15, 0.0], False),
        ([0.0] * 5, False),
    ],
)
def test_whether_a_difference_can_be_told_from_zero(evaluated, changes, distinguishable):
    # what the speakers have in common is more than any difference
    values = [0.1, 0.9, 0.5, 0.3, 0.7]
    first = named(evaluated, "a", {s: [v] * 3 for s, v in zip(SPEAKERS, values, strict=True)})
    after = {s: [v + c] * 3 for s, v, c in zip(SPEAKERS, values, changes, strict=True)}
    rows = compare([first, named(evaluated, "b", after)], seed=0, resamples=RESAMPLES)
    assert {row["distinguishable"] for row in rows} == {distinguishable}


def test_what_one_of_two_does_not_know_is_not_compared(evaluated):
    first = named(evaluated, "a", {"ann": [0.5, None, None], "bob": [0.5, 0.5, None]})
    second = named(evaluated, "b", {"ann": [0.7, 0.5, None], "bob": [0.6, 0.7, 0.1]})
    rows = compare([first, second], seed=0, resamples=RESAMPLES)
    found = {row["measure"]: (row["speakers"], row["difference"]) for row in rows if row["encoder"] == "one"}
    assert set(found) == {"secs", "cross_utterance"}
    assert found["secs"][0] == 2
    assert found["secs"][1]["mean"] == pytest.approx(0.15)
    assert found["cross_utterance"] == (1, {"mean": pytest.approx(0.2), "low": None, "high": None})
    assert not next(row for row in rows if row["measure"] == "cross_utterance")["distinguishable"]


def test_each_later_one_is_compared_with_the_first(evaluated):
    three = [named(evaluated, label, {"ann": [number / 10] * 3}) for number, label in enumerate("abc")]
    rows = compare(three, seed=0, resamples=RESAMPLES)
    assert [(row["baseline"], row["evaluation"]) for row in rows[::6]] == [("a", "b"), ("a", "c")]
    assert [row["difference"]["mean"] for row in rows[::6]] == pytest.approx([0.1, 0.2])
    assert compare(three[:1], seed=0, resamples=RESAMPLES) == []


# --- what a reader should know ----------------------------------------------------------------------------------------


def test_nothing_to_warn_of(evaluated):
    assert warnings(evaluated) == []


@pytest.mark.parametrize(
    ("calibrated", "warned"),
    [((1.4, 1.1, 1.7), True), ((1.4, 0.9, 1.9), False), ((1.4, None, None), False), ((0.9, 0.8, 1.0), False)],
)
def test_more_similar_than_real_speech_is_to_itself(evaluated, calibrated, warned):
    found = warnings(with_scores(evaluated, "other", calibrated_cross_utterance=Interval(*calibrated)))
    assert bool(found) is warned
    if warned:
        (warning,) = found
        assert warning.startswith("other: ")
        assert "1.40" in warning


@pytest.mark.parametrize(
    ("roles", "warned"),
    [
        ({"one": "training", "other": "training"}, True),
        ({"one": "training", "other": "holdout"}, False),
        ({"one": "unknown", "other": "unknown"}, False),
    ],
)
def test_scored_by_training_encoders_alone(evaluated, roles, warned):
    found = warnings(replace(evaluated, roles=roles))
    assert [warning.startswith("Every encoder here is a training encoder") for warning in found] == [True] * warned


def test_the_last_flag_of_the_history(evaluated):
    rows = [{"step": 0, "flags": ""}, {"step": 10, "flags": "odd"}, {"step": 20, "flags": "very odd"}, {"step": 30}]
    (warning,) = warnings(replace(evaluated, history=rows))
    assert "20" in warning
    assert "very odd" in warning
    assert warnings(replace(evaluated, history=rows[:1])) == []


def test_recordings_without_speech_are_named(tmp_path):
    voices = Voices(tmp_path)
    for name in ("ann0", "ann1"):
        voices.add_real(name, "ann", [1, 0])
        voices.add_synthetic(f"{name}-made", "ann", [1, 0], name)
    soundfile.write(voices.real[1].path, np.zeros(RATE), RATE)
    soundfile.write(voices.synthetic[0].path, np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    verification = verify(voices.evaluation_set, {"one": first_samples(2)}, resamples=RESAMPLES)
    evaluation = Evaluation(voices.evaluation_set, verification, {"one": "unknown"})
    assert warnings(evaluation) == [
        "The real recording ann1 of ann is silence. It is left out: repair or replace it.",
        "The synthetic recording ann0-made of ann is steady noise or a tone. It counts as the encoders hear it.",
    ]
    written = results([evaluation], IDENTITIES, **DEFAULTS)
    assert written["warnings"] == warnings(evaluation)
    assert [one["problem"] for one in written["recordings"]["real"]] == [None, "silence"]
    assert [one["problem"] for one in written["recordings"]["synthetic"]] == ["steady noise or a tone", None]


# --- results.json -----------------------------------------------------------------------------------------------------


def test_one_evaluation_is_at_the_top(evaluated):
    found = results([evaluated], IDENTITIES, seed=7, resamples=RESAMPLES, dbfs=-27.0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    header = (found["seed"], found["resamples"], found["confidence"], found["loudness_dbfs"])
    assert header == (7, RESAMPLES, 0.95, -27.0)
    assert found["detection_cost"] == {"p_target": 0.05, "c_miss": 1.0, "c_false_alarm": 1.0}
    assert found["versions"]["numpy"] == np.__version__
    assert (found["label"], found["source"], found["speakers"]) == ("voices", {"made": "up"}, [*SPEAKERS])
    assert "comparisons" not in found
    assert evaluations_of(found) == {"voices": found}
    for alias, scores in evaluated.verification.scores.items():
        written = found["encoders"][alias]
        assert written["role"] == ROLES[alias]
        identity = {key: written[key] for key in ("name", "params", "fingerprint")}
        assert identity == vars(IDENTITIES[alias])
        for measure in MEASURES:
            assert written[measure] == getattr(scores, measure)._asdict()
        for figure in ("eer", "min_dcf", "real_eer", "real_min_dcf", "floor", "ceiling", "matrix"):
            assert written[figure] == getattr(scores, figure)
        assert written["speakers"]["bob"] == vars(scores.speakers["bob"])


def test_several_are_by_label_and_compared(evaluated):
    both = [evaluated, named(evaluated, "other one", {"ann": [0.5, 0.5, 0.5]})]
    found = results(both, IDENTITIES, **DEFAULTS)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [*found["evaluations"]] == ["voices", "other one"]
    assert evaluations_of(found) == found["evaluations"]
    assert found["evaluations"]["voices"].items() <= results([evaluated], IDENTITIES, **DEFAULTS).items()
    assert found["comparisons"] == compare(both, seed=0, resamples=RESAMPLES)
    assert "label" not in found


def test_recordings_and_trials_are_written_by_name(evaluated):
    found = results([evaluated], IDENTITIES, **DEFAULTS)
    real, made = (found["recordings"][kind] for kind in ("real", "synthetic"))
    assert [(one["name"], one["speaker"]) for one in real[:3]] == [("ann0", "ann"), ("ann1", "ann"), ("bob0", "bob")]
    assert (made[1]["name"], made[1]["reference"], made[1]["text"]) == ("bob-made", "bob0", "")
    assert all(soundfile.info(one["path"]).duration == pytest.approx(one["seconds"], abs=1e-3) for one in real)
    trials = found["trials"]
    assert trials["columns"] == ["first", "second", "same_speaker", "one", "other"]
    pairs = {(first, second): (same, scores) for first, second, same, *scores in trials["rows"]}
    assert len(pairs) == len(trials["rows"]) == 5 * 10 - 5
    assert ("ann-made", "ann0") not in pairs
    for (first, second), (same, _) in pairs.items():
        assert same is (first[:3] == second[:3])
    expected = evaluated.verification.trials
    for column, alias in ((3, "one"), (4, "other")):
        scores = [row[column] for row in trials["rows"]]
        assert scores == pytest.approx(expected.scores[alias].tolist(), abs=1e-6)
    assert len(found["real_trials"]["rows"]) == 10 * 9 / 2
    assert {row[0] for row in found["real_trials"]["rows"]} <= {one["name"] for one in real}
