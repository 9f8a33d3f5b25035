import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from evaluation_data import RATE, Voices, first_samples

from coqui_scl_plugin.evaluation.encoders import EncoderIdentity
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SpokenRecording
from coqui_scl_plugin.evaluation.judges import judge, rows_of
from coqui_scl_plugin.evaluation.results import Evaluation, bought_similarity, compare, results, warnings
from coqui_scl_plugin.evaluation.verification import verify

SETTINGS = {"seed": 0, "resamples": 999}
SPEAKERS = ("ann", "bob", "cid", "dee", "eve")
IDENTITIES = {"one": EncoderIdentity("known", {}, "f1ve")}


class Listed:
    """A judge that knows what to find by the names of recordings."""

    packages = ("numpy", "jiwer")

    def __init__(self, measure, found, *, by_language=False):
        self.title, self.measures, self.by_language = f"listed {measure}", (measure,), by_language
        self.identity = {"model": f"list of {measure}"}
        self.found, self.heard = found, []

    def opinion(self, recording, waveform, rate):
        assert rate == RATE
        self.heard.append((recording.name, float(waveform.square().mean().sqrt())))
        return {self.measures[0]: self.found[recording.name]}


@pytest.fixture(scope="module")
def evaluation_set(tmp_path_factory):
    """Two real and two synthetic recordings of each speaker; the second of each is in Portuguese."""
    draw = np.random.default_rng(0)
    voices = Voices(tmp_path_factory.mktemp("voices"))
    for speaker in SPEAKERS:
        own = draw.normal(size=4)
        for number in range(2):
            voices.add_real(f"real-{speaker}{number}", speaker, own + draw.normal(0, 0.3, 4))
            voices.add_synthetic(f"{speaker}{number}", speaker, own + draw.normal(0, 0.6, 4), f"real-{speaker}{number}")
    languages = {True: "en", False: "pt"}
    real = [
        SpokenRecording(one.name, one.path, one.speaker, text="x", language=languages[one.name.endswith("0")])
        for one in voices.real
    ]
    synthetic = [replace(one, text="x", language=languages[one.name.endswith("0")]) for one in voices.synthetic]
    return EvaluationSet("voices", {"made": "up"}, real, synthetic)


@pytest.fixture(scope="module")
def verification(evaluation_set):
    return verify(evaluation_set, {"one": first_samples(4)}, **SETTINGS)


@pytest.fixture
def found(evaluation_set):
    """A value of each recording, by name."""
    draw = np.random.default_rng(1)
    return {one.name: float(draw.uniform(1, 5)) for one in (*evaluation_set.real, *evaluation_set.synthetic)}


def judged(evaluation_set, verification, *judges, dbfs=None, memory=None):
    return judge(evaluation_set, verification, judges, dbfs=dbfs, memory={} if memory is None else memory, **SETTINGS)


def evaluation(evaluation_set, verification, *judges, label="voices"):
    outcome = judged(evaluation_set, verification, *judges)
    return Evaluation(replace(evaluation_set, label=label), verification, {"one": "holdout"}, judged=outcome)


# --- one evaluation ---------------------------------------------------------------------------------------------------


def test_means_are_over_speakers_of_means_of_theirs(evaluation_set, verification, found):
    found["ann0"] = None
    measure = judged(evaluation_set, verification, Listed("dnsmos", found)).measures["dnsmos"]
    expected = {speaker: np.mean([found[f"{speaker}{n}"] for n in (0, 1)]) for speaker in SPEAKERS[1:]}
    expected = {"ann": found["ann1"]} | expected
    originals = {speaker: np.mean([found[f"real-{speaker}{n}"] for n in (0, 1)]) for speaker in SPEAKERS}
    for values, interval in ((expected, measure.synthetic), (originals, measure.real)):
        values = np.array([*values.values()])
        assert interval.mean == pytest.approx(values.mean())
        means = np.random.default_rng(5).choice(values, size=(20_000, 5)).mean(axis=1)
        assert [interval.low, interval.high] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.1)
    assert [one.recordings for one in measure.speakers.values()] == [1, 2, 2, 2, 2]
    for speaker, one in measure.speakers.items():
        assert (one.synthetic, one.real) == pytest.approx((expected[speaker], originals[speaker]))


def test_each_language_has_its_recordings(evaluation_set, verification, found):
    found["bob1"] = None
    outcome = judged(evaluation_set, verification, Listed("cer", found, by_language=True), Listed("dnsmos", found))
    assert {measure: [*by] for measure, by in outcome.languages.items()} == {"cer": ["en", "pt"]}
    english, portuguese = outcome.languages["cer"].values()
    assert english.synthetic.mean == pytest.approx(np.mean([found[f"{speaker}0"] for speaker in SPEAKERS]))
    assert portuguese.real.mean == pytest.approx(np.mean([found[f"real-{s}1"] for s in SPEAKERS if s != "bob"]))
    assert [*portuguese.speakers] == ["ann", "cid", "dee", "eve"]


def test_a_real_recording_without_speech_is_left_out(evaluation_set, found, tmp_path):
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(RATE), RATE)
    real = [*evaluation_set.real, SpokenRecording("silence", path, "ann")]
    with_silence = replace(evaluation_set, real=real)
    found = found | {"silence": 0.0}
    outcome = judged(with_silence, verify(with_silence, {"one": first_samples(4)}, **SETTINGS), Listed("cer", found))
    assert outcome.real[-1] == {"cer": None}
    assert outcome.measures["cer"].speakers["ann"].real == np.mean([found["real-ann0"], found["real-ann1"]])


def test_what_was_heard_once_is_remembered(evaluation_set, verification, found):
    memory, one, other = {}, Listed("dnsmos", found), Listed("cer", found)
    first = judged(evaluation_set, verification, one, other, memory=memory)
    assert len(one.heard) == len(other.heard) == 20
    again = judged(evaluation_set, verification, one, other, memory=memory)
    assert len(one.heard) == len(other.heard) == 20
    assert first == again


def test_judges_hear_recordings_at_the_loudness(evaluation_set, verification, found):
    one = Listed("dnsmos", found)
    judged(evaluation_set, verification, one, dbfs=-27.0)
    assert [loudness for _, loudness in one.heard] == pytest.approx([10 ** (-27 / 20)] * 20, rel=1e-3)


# --- results.json -----------------------------------------------------------------------------------------------------


def test_results_hold_what_judges_found(evaluation_set, verification, found):
    one = evaluation(evaluation_set, verification, Listed("dnsmos", found), Listed("cer", found, by_language=True))
    document = results([one], IDENTITIES, dbfs=None, **SETTINGS)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    for measure, keys in (("dnsmos", set()), ("cer", {"languages"})):
        written, of = document["judges"][measure], one.judged.measures[measure]
        assert set(written) == {"model", "synthetic", "real", "speakers"} | keys
        assert written["model"] == f"list of {measure}"
        assert written["synthetic"] == of.synthetic._asdict()
        assert written["real"] == of.real._asdict()
        assert written["speakers"]["ann"] == vars(of.speakers["ann"])
    portuguese = document["judges"]["cer"]["languages"]["pt"]
    assert portuguese["synthetic"] == one.judged.languages["cer"]["pt"].synthetic._asdict()
    for kind in ("real", "synthetic"):
        for recording in document["recordings"][kind]:
            assert recording["dnsmos"] == recording["cer"] == found[recording["name"]]
    assert {"jiwer", "numpy", "scipy"} <= set(document["versions"])
    names = ["DNSMOS", "Character error rate", "Character error rate, en", "Character error rate, pt"]
    assert [name for name, _ in rows_of(document)] == names


def test_without_judges_results_say_nothing_of_them(evaluation_set, verification):
    document = results(
        [Evaluation(evaluation_set, verification, {"one": "holdout"})], IDENTITIES, dbfs=None, **SETTINGS
    )
    assert not {"judges", "dnsmos", "cer"} & set(document)
    assert set(document["recordings"]["real"][0]) == {"name", "path", "speaker", "seconds", "problem"}
    assert "jiwer" not in document["versions"]
    assert rows_of(document) == []


@pytest.mark.parametrize(("measure", "why"), [("cer", "text is not known"), ("dnsmos", "no signal")])
def test_recordings_that_could_not_be_judged_are_counted(evaluation_set, verification, found, measure, why):
    assert warnings(evaluation(evaluation_set, verification, Listed(measure, found))) == []
    found |= {"ann0": None, "bob1": None, "real-cid0": None}
    (warning,) = warnings(evaluation(evaluation_set, verification, Listed(measure, found)))
    assert "2 of 10 recordings" in warning
    assert why in warning


# --- several compared -------------------------------------------------------------------------------------------------


def shifted(found, by, language=""):
    return {name: value + (by if name.endswith(language) else 0) for name, value in found.items()}


def test_differences_are_paired_by_speaker(evaluation_set, verification, found):
    pair = [
        evaluation(
            evaluation_set, verification, Listed("dnsmos", found), Listed("cer", values, by_language=True), label=label
        )
        for label, values in (("before", found), ("after", shifted(found, 0.5, "1")))
    ]
    rows = {(row["measure"], row["language"]): row for row in compare(pair, **SETTINGS) if row["encoder"] is None}
    means = {key: row["difference"]["mean"] for key, row in rows.items()}
    assert means == pytest.approx({("dnsmos", None): 0, ("cer", None): 0.25, ("cer", "en"): 0, ("cer", "pt"): 0.5})
    assert {key for key, row in rows.items() if row["distinguishable"]} == {("cer", None), ("cer", "pt")}
    assert {(row["baseline"], row["evaluation"], row["speakers"]) for row in rows.values()} == {("before", "after", 5)}


def test_only_what_both_were_judged_by_is_compared(evaluation_set, verification, found):
    pair = [
        evaluation(evaluation_set, verification, Listed(measure, found), label=measure) for measure in ("dnsmos", "cer")
    ]
    assert all(row["encoder"] == "one" for row in compare(pair, **SETTINGS))


def test_signal_and_background_are_not_compared(evaluation_set, verification, found):
    pair = [
        evaluation(evaluation_set, verification, Listed("dnsmos_signal", found), label=label) for label in ("a", "b")
    ]
    assert all(row["encoder"] == "one" for row in compare(pair, **SETTINGS))


def row(encoder, measure, low, high, evaluation="b"):
    own = {"language": None} if encoder is None else {}
    return {
        "encoder": encoder, "measure": measure, **own, "baseline": "a", "evaluation": evaluation,
        "difference": {"mean": (low + high) / 2, "low": low, "high": high}, "distinguishable": low > 0 or high < 0,
    }  # fmt: skip


MORE, LESS, SAME = (0.1, 0.2), (-0.2, -0.1), (-0.1, 0.2)


@pytest.mark.parametrize(
    ("similarity", "dnsmos", "cer", "named"),
    [
        (MORE, LESS, SAME, ["DNSMOS (-0.150)"]),
        (MORE, SAME, MORE, ["Character error rate (+0.150)"]),
        (MORE, LESS, MORE, ["DNSMOS (-0.150)", "Character error rate (+0.150)"]),
        (MORE, MORE, LESS, []),
        (MORE, SAME, SAME, []),
        (SAME, LESS, MORE, []),
        (LESS, LESS, MORE, []),
    ],
)
def test_similarity_at_the_price_of_another_measure_is_flagged(similarity, dnsmos, cer, named):
    rows = [
        row("still", "secs", *SAME), row("eager", "secs", *similarity), row(None, "dnsmos", *dnsmos),
        row(None, "cer", *cer), row(None, "dnsmos", *LESS, evaluation="c"),
    ]  # fmt: skip
    found = bought_similarity(rows)
    assert [*found] == (["b"] if named else [])
    if named:
        assert found["b"].startswith("Compared with a, similarity by eager rises at the price of")
        assert [name for name in ("DNSMOS (", "Character error rate (") if name in found["b"]] == [
            name.partition("(")[0] + "(" for name in named
        ]
        assert all(name in found["b"] for name in named)


def test_the_flag_is_a_warning_of_the_later_evaluation(evaluation_set, verification, found):
    scores = verification.scores["one"]
    better = {name: replace(one, secs=one.secs + 0.1) for name, one in scores.speakers.items()}
    similar = replace(verification, scores={"one": replace(scores, speakers=better)})
    pair = [
        evaluation(evaluation_set, verification, Listed("dnsmos", found), label="before"),
        evaluation(evaluation_set, similar, Listed("dnsmos", shifted(found, -0.3)), label="after"),
    ]
    document = results(pair, IDENTITIES, dbfs=None, **SETTINGS)
    assert document["evaluations"]["before"]["warnings"] == []
    (warning,) = document["evaluations"]["after"]["warnings"]
    assert "similarity by one rises" in warning
    assert "DNSMOS (-0.300)" in warning
