"""`coqui-scl evaluate` as a user runs it, in this process, on recordings and on runs that were never trained."""

import csv
import dataclasses
import json
import shutil
import sys
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from command_driver import run_here, slow_imports_of
from tiny_recognisers import write_ctc
from untrained_runs import RATE, SPEAKERS, clip, write, write_corpus, write_run

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.cli.evaluate import EvaluateOptions
from coqui_scl_plugin.coqui.run_folder import read_evaluation_set
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.results import evaluations_of
from coqui_scl_plugin.monitoring.history import Row, write_history

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = ("--resamples", "99")
GE2E = ("--encoder", "ge2e")
FOLDERS = ("--real", "real", "--synthetic", "made", *GE2E, *QUICK)


def evaluate(folder, *arguments):
    return run_here(folder, "evaluate", *arguments)


def results_in(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def evaluated(folder, out, *arguments):
    """The results of a command that must succeed; no report, since drawing it takes most of the time."""
    with mock.patch("coqui_scl_plugin.evaluation.report.write"):
        outcome = evaluate(folder, *arguments, *QUICK, "--out", out)
    assert outcome.status == 0, outcome.err
    return results_in(folder / out)


# --- recordings -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Of three speakers, two recordings in `real` and two in `made`, quieter; lists of pairs of them."""
    folder = tmp_path_factory.mktemp("speech")
    rows = []
    for speaker in SPEAKERS:
        for number in (1, 2):
            name = f"{speaker}/{number}.wav"
            write(folder / "real" / name, clip(speaker, number))
            write(folder / "made" / name, 0.05 * clip(speaker, number))
            rows.append({"speaker": speaker, "reference": f"real/{name}", "synthetic": f"made/{name}"})
    write_pairs(folder / "pairs.csv", rows)
    noises = {"silence": np.zeros(RATE), "noise": np.random.default_rng(0).normal(0, 0.1, RATE), "empty": np.zeros(0)}
    for name, samples in noises.items():
        write(folder / f"{name}.wav", samples)
        rows.append({"speaker": "slt", "reference": "real/slt/1.wav", "synthetic": f"{name}.wav"})
    write_pairs(folder / "noises.csv", rows)
    return folder


def write_pairs(path, rows):
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_pairs_with_silence_and_noise(speech):
    outcome = evaluate(speech, "--pairs", "noises.csv", *QUICK, "--out", "out/noises")
    assert outcome.status == 0, outcome.err
    found = results_in(speech / "out" / "noises")
    problems = {"silence.wav": "silence", "noise.wav": "steady noise or a tone", "empty.wav": "empty"}
    for line, (name, problem) in enumerate(problems.items(), 8):
        then = "It is left out: repair or replace it" if name == "empty.wav" else "It counts as the encoders hear it"
        warning = f"The synthetic recording {name} of slt (line {line}) is {problem}. {then}."
        assert warning in found["warnings"]
        assert f"Note: {warning}" in " ".join(outcome.out.split())
    assert len(found["warnings"]) == 3
    assert {alias: encoder["role"] for alias, encoder in found["encoders"].items()} == {
        "ge2e": "unknown", "dvector": "unknown"
    }  # fmt: skip
    rows = found["trials"]["rows"]
    assert len(rows) == (6 + 2) * 6 - 6 - 2  # an empty file says nothing
    assert "empty.wav" not in {row[0] for row in rows}
    for alias in ("ge2e", "dvector"):
        assert alias in outcome.out
        assert found["encoders"][alias]["speakers"]["slt"]["recordings"] == 4
        assert found["encoders"][alias]["speakers"]["slt"]["secs"] < found["encoders"][alias]["speakers"]["awb"]["secs"]
    assert "Traceback" not in outcome.out + outcome.err


def test_what_it_writes_is_one_result_in_three_forms(speech):
    out = speech / "out" / "pairs"
    assert evaluate(speech, "--pairs", "pairs.csv", *QUICK, "--out", out).status == 0
    found = results_in(out)
    assert {path.name for path in out.iterdir()} == {"results.json", "trials.csv", "report.html"}
    with (out / "trials.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["evaluation", *found["trials"]["columns"]]
    assert rows == [["pairs", *map(str, row)] for row in found["trials"]["rows"]]
    report = (out / "report.html").read_text(encoding="utf-8")
    for text in ("pairs", "ge2e", "dvector", *SPEAKERS):
        assert text in report


@pytest.fixture(scope="module")
def folders(speech, one_thread):
    assert evaluate(speech, *FOLDERS, "--out", "out/folders").status == 0
    return results_in(speech / "out" / "folders")


def test_folders_and_pairs_of_the_same_recordings_have_the_same_scores(speech, folders):
    pairs = evaluated(speech, "out/ge2e", "--pairs", "pairs.csv", *GE2E)
    assert [*pairs["encoders"]] == [*folders["encoders"]] == ["ge2e"]
    assert pairs["encoders"] == folders["encoders"]
    assert (pairs["label"], folders["label"]) == ("pairs", "made")
    assert [row[2:] for row in pairs["trials"]["rows"]] == [row[2:] for row in folders["trials"]["rows"]]


def test_the_same_again_is_the_same_to_the_byte(speech, folders):
    assert evaluate(speech, *FOLDERS, "--seed", "0", "--out", "out/again").status == 0
    for name in ("results.json", "trials.csv", "report.html"):
        assert (speech / "out" / "again" / name).read_bytes() == (speech / "out" / "folders" / name).read_bytes()


def test_json_is_all_that_is_printed(speech, folders):
    outcome = evaluate(speech, *FOLDERS, "--out", "out/json", "--json")
    assert json.loads(outcome.out) == results_in(speech / "out" / "json") == folders


def fake_dnsmos(samples, sr):
    """Better the louder, as the real one is too slow for many recordings; tests/evaluation/test_quality.py has it."""
    assert sr == RATE
    return dict.fromkeys(("ovrl_mos", "sig_mos", "bak_mos"), 1 + float(np.abs(samples).max()))


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    return write_ctc(tmp_path_factory.mktemp("recogniser") / "ctc")


def test_quality_and_recognition_of_pairs(speech, recogniser, monkeypatch):
    monkeypatch.setattr("speechmos.dnsmos.run", fake_dnsmos)
    with (speech / "pairs.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    texts = [{"text": f"Text {n}", "reference_text": "Real!", "language": "en"} for n, _ in enumerate(rows)]
    texts[-1] = {"text": "", "reference_text": "", "language": ""}
    write_pairs(speech / "texts.csv", [row | text for row, text in zip(rows, texts, strict=True)])
    arguments = ("--pairs", "texts.csv", *GE2E, *QUICK, "--quality", "--asr", recogniser, "--out", "out/judged")
    outcome = evaluate(speech, *arguments)
    assert outcome.status == 0, outcome.err
    found = results_in(speech / "out" / "judged")
    assert "texts: quality and intelligibility" in outcome.out
    assert [*found["judges"]] == ["dnsmos", "dnsmos_signal", "dnsmos_background", "cer"]
    assert found["judges"]["cer"]["model"] == str(recogniser)
    assert [*found["judges"]["cer"]["languages"]] == ["en"]
    for measure, one in found["judges"].items():
        for kind in ("real", "synthetic"):
            by_speaker = {speaker: [] for speaker in SPEAKERS}
            for recording in found["recordings"][kind]:
                by_speaker[recording["speaker"]] += [recording[measure]] * (recording[measure] is not None)
            assert one[kind]["mean"] == pytest.approx(np.mean([np.mean(values) for values in by_speaker.values()]))
    assert found["judges"]["dnsmos"]["synthetic"]["high"] < found["judges"]["dnsmos"]["real"]["low"]  # quieter
    made = found["recordings"]["synthetic"]
    assert [one["cer"] is None for one in made] == [False] * 5 + [True]
    assert [one["text"] for one in found["recordings"]["real"][:5]] == ["Real!"] * 5
    assert "Character error rate: 1 of 6 recordings are left out: their text is not known." in found["warnings"]
    assert {"speechmos", "jiwer", "transformers"} <= set(found["versions"])
    report = (speech / "out" / "judged" / "report.html").read_text(encoding="utf-8")
    assert "Quality and intelligibility" in report
    again = evaluate(speech, *arguments[:-1], "out/again", "--json")
    assert json.loads(again.out) == found


@pytest.mark.parametrize(
    ("module", "arguments", "part"),
    [("speechmos.dnsmos", ["--quality"], "[quality]"), ("jiwer", ["--asr", "gone"], "[asr]")],
)
def test_a_judge_that_is_not_installed_is_one_message_before_anything_is_made(
    runs, monkeypatch, tmp_path, module, arguments, part
):
    monkeypatch.setitem(sys.modules, module, None)
    outcome = evaluate(tmp_path, runs / "one", *arguments)
    assert_refused(outcome, [arguments[0], f'pip install "coqui-scl-plugin{part}"'])
    assert outcome.changed == []


def test_recognition_needs_a_text(speech, recogniser):
    assert_refused(evaluate(speech, "--pairs", "pairs.csv", *GE2E, "--asr", recogniser), ["--asr", "column text"])


@pytest.mark.parametrize("option", ["--loudness-dbfs", "--level-dbfs"])
def test_one_loudness_makes_quiet_copies_the_same_as_loud_ones(speech, folders, option):
    equal = evaluated(speech, f"out/{option}", "--pairs", "pairs.csv", *GE2E, option, "-27")
    assert (folders["loudness_dbfs"], equal["loudness_dbfs"]) == (None, -27.0)
    assert folders["encoders"]["ge2e"]["secs"]["mean"] < 0.999
    assert equal["encoders"]["ge2e"]["secs"]["mean"] == pytest.approx(1, abs=1e-5)


def test_help_is_of_every_option_and_fast():
    imported, shown = slow_imports_of("evaluate", "-h")
    assert imported == set()
    assert "[RUN...]..." in shown or "RUN..." in shown
    assert "as_json" not in shown
    for field in dataclasses.fields(EvaluateOptions)[1:]:
        assert f"--{field.name.replace('_', '-')}" in shown
    assert "--level-dbfs" in shown


# --- what it refuses --------------------------------------------------------------------------------------------------

REFUSED = {
    "nothing": ([], ["RUN", "--pairs", "--real"]),
    "two kinds": (["--pairs", "pairs.csv", "--real", "real", "--synthetic", "made"], ["one of"]),
    "a run and pairs": (["gone", "--pairs", "pairs.csv"], ["one of"]),
    "real alone": (["--real", "real"], ["--synthetic", "give both"]),
    "synthetic alone": (["--synthetic", "made"], ["--real", "give both"]),
    "synthesis without a run": (["--pairs", "pairs.csv", "--synthesis", "tts"], ["--synthesis", "RUN"]),
    "checkpoint without a run": (["--pairs", "pairs.csv", "--checkpoint", "x.pth"], ["--checkpoint", "RUN"]),
    "checkpoint of two runs": (["a", "b", "--checkpoint", "x.pth"], ["--checkpoint", "single RUN"]),
    "unknown synthesis": (["gone", "--synthesis", "conversation"], ["conversation", "Did you mean 'conversion'?"]),
    "no such run": (["gone"], ["gone", "no such run folder"]),
    "a file for a run": (["pairs.csv"], ["pairs.csv", "no such run folder"]),
    "no run in the folder": (["real"], ["config.json", "no such file"]),
    "unknown encoder": (["--pairs", "pairs.csv", "--encoder", "ge2"], ["ge2", "Did you mean 'ge2e'?"]),
    "no such list": (["--pairs", "gone.csv"], ["gone.csv"]),
    "no such folder": (["--real", "gone", "--synthetic", "made"], ["--real gone"]),
    "recognition of folders": (["--real", "real", "--synthetic", "made", "--asr", "x"], ["--asr", "--pairs"]),
    "no such recogniser": (["--pairs", "pairs.csv", "--asr", "./gone"], ["--asr ./gone", "no such folder"]),
    "override without a run": (["--pairs", "pairs.csv", "--coqpit.seed", "1"], ["--coqpit.seed", "RUN"]),
}


def assert_refused(outcome, parts):
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.count("coqui-scl: ") == 1, outcome.err
    assert "Traceback" not in outcome.err
    for part in parts:
        assert part in outcome.err


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_use_is_one_message(speech, name):
    arguments, parts = REFUSED[name]
    assert_refused(evaluate(speech, *arguments, "--out", "out/refused"), parts)
    assert not (speech / "out" / "refused").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--loudness-dbfs", "3"], ["--level-dbfs", "3"], ["--sentences", "0"], ["--resamples", "9"], ["--seed", "-1"]],
)
def test_options_out_of_range_are_wrong_usage(speech, arguments):
    outcome = evaluate(speech, "--pairs", "pairs.csv", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert arguments[0] in outcome.err


# --- runs -------------------------------------------------------------------------------------------------------------


SCL = {"encoders": [{"name": "ge2e"}], "holdout": [{"name": "dvector"}]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two runs and their data."""
    folder = tmp_path_factory.mktemp("runs")
    write_corpus(folder / "data")
    write_run(folder / "one", folder / "data", seed=1, scl=SCL)
    write_run(folder / "two", folder / "data", seed=2, scl=SCL, speakers_file=True)
    rows = [Row(0, 0, {"ge2e": 0.5}, {"ge2e": 0.1}), Row(9, 1, {"ge2e": 0.9}, {"ge2e": 0.8}, flags="too good")]
    write_history(folder / "two", rows)
    return folder


@pytest.fixture(scope="module")
def three_ways(runs, one_thread):
    """What the model of a run makes of a recording of each speaker, in every way."""
    ways = [part for way in ("conversion", "tts", "reconstruction") for part in ("--synthesis", way)]
    return evaluated(runs, "ways", "one", *ways, "--sentences", "1")


def test_each_way_is_an_evaluation_and_compared_with_speech(three_ways):
    labels = [f"one, {way}" for way in ("tts", "reconstruction", "conversion")]
    assert [*three_ways["evaluations"]] == labels
    compared = [(row["baseline"], row["evaluation"], row["encoder"]) for row in three_ways["comparisons"]]
    assert set(compared) == {(labels[0], label, alias) for label in labels[1:] for alias in ("ge2e", "dvector")}
    for label, one in three_ways["evaluations"].items():
        assert one["source"]["synthesis"] == label.removeprefix("one, ")
        assert one["source"]["checkpoint"] == "best_model.pth"
        assert {alias: e["role"] for alias, e in one["encoders"].items()} == {"ge2e": "training", "dvector": "holdout"}


@pytest.mark.parametrize("way", ["tts", "reconstruction", "conversion"])
def test_what_was_synthesised_is_in_files(runs, three_ways, way):
    one = three_ways["evaluations"][f"one, {way}"]
    made = one["recordings"]["synthetic"]
    real = {recording["name"]: recording for recording in one["recordings"]["real"]}
    assert len(real) == 9
    folder = runs / "ways" / "audio" / f"one-{way}"
    assert {runs / recording["path"] for recording in made} == set(folder.iterdir())
    assert sorted(recording["speaker"] for recording in made) == list(SPEAKERS)
    voices = [soundfile.read(runs / recording["path"])[0] for recording in made]
    assert len({voice.tobytes() for voice in voices}) == 3
    for recording in made:
        info = soundfile.info(runs / recording["path"])
        assert info.samplerate == RATE
        assert recording["seconds"] == pytest.approx(info.duration, abs=1e-3)
        if way == "conversion":
            assert recording["reference"] is None
            said = SPEAKERS[SPEAKERS.index(recording["speaker"]) - 1]  # the one before converts to the one after
            assert recording["text"].startswith(f"{said} says")
        else:
            reference = real[recording["reference"]]
            assert reference["speaker"] == recording["speaker"]
            assert recording["text"].startswith(f"{recording['speaker']} says")
            if way == "reconstruction":
                assert recording["seconds"] == pytest.approx(reference["seconds"], abs=0.1)


def test_speech_of_an_earlier_evaluation_gives_way(runs, tmp_path):
    earlier = tmp_path / "out" / "audio" / "one" / "000-awb-gone.wav"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    found = evaluated(tmp_path, "out", runs / "one", "--sentences", "1", "--synthesis", "reconstruction")
    paths = {recording["path"] for recording in found["recordings"]["synthetic"]}
    assert {
        str(file.relative_to(tmp_path)) for file in (tmp_path / "out" / "audio").rglob("*") if file.is_file()
    } == paths


def test_conversion_is_a_copy_in_another_voice(runs, three_ways):
    copy, converted = (
        soundfile.read(sorted((runs / "ways" / "audio" / f"one-{way}").iterdir())[0])[0]  # of one recording
        for way in ("reconstruction", "conversion")
    )
    assert copy.shape == converted.shape
    assert np.abs(copy - converted).max() > 1e-3


def test_what_a_run_should_say_is_known_in_every_way(runs, recogniser, tmp_path):
    ways = ("--synthesis", "reconstruction", "--synthesis", "conversion", "--coqpit.datasets.0.language", "pt-br")
    found = evaluated(tmp_path, "out", runs / "one", "--sentences", "1", *ways, "--asr", recogniser)
    for one in found["evaluations"].values():
        assert [*one["judges"]["cer"]["languages"]] == ["pt-br"]
        for recording in (*one["recordings"]["real"], *one["recordings"]["synthetic"]):
            assert recording["language"] == "pt-br"
            assert recording["cer"] >= 0
        for recording in one["recordings"]["real"]:
            assert recording["text"].startswith(f"{recording['speaker']} says")
    rows = [row for row in found["comparisons"] if row["measure"] == "cer"]
    assert [(row["encoder"], row["language"], row["speakers"]) for row in rows] == [(None, None, 3)]


def test_a_run_alone_speaks_and_says_so_again(runs, three_ways):
    found = evaluated(runs, "alone", "one", "--sentences", "1")
    speech = three_ways["evaluations"]["one, tts"]
    assert found["label"] == "one"
    assert found["source"] == speech["source"]
    assert found["encoders"] == speech["encoders"]
    assert [row[2:] for row in found["trials"]["rows"]] == [row[2:] for row in speech["trials"]["rows"]]


@pytest.fixture(scope="module")
def two_runs(runs, one_thread):
    outcome = evaluate(runs, "one", "two", "--synthesis", "reconstruction", *QUICK, "--out", "both")
    assert outcome.status == 0, outcome.err
    return results_in(runs / "both"), outcome.out


def test_two_runs_are_compared(runs, two_runs):
    found, printed = two_runs
    assert [*found["evaluations"]] == ["one", "two"]
    rows = found["comparisons"]
    assert [(row["encoder"], row["measure"]) for row in rows] == [
        (alias, measure)
        for alias in ("ge2e", "dvector")
        for measure in ("secs", "cross_utterance", "calibrated_cross_utterance")
    ]
    for row in rows:
        assert (row["baseline"], row["evaluation"], row["speakers"]) == ("one", "two", 3)
        before, after = (found["evaluations"][label]["encoders"][row["encoder"]] for label in ("one", "two"))
        expected = [
            after["speakers"][speaker][row["measure"]] - before["speakers"][speaker][row["measure"]]
            for speaker in SPEAKERS
        ]
        assert row["difference"]["mean"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert {len(one["recordings"]["synthetic"]) for one in found["evaluations"].values()} == {6}  # all held out
    assert printed.count("two minus one, ") == 2
    assert {path.name for path in (runs / "both" / "audio").iterdir()} == {"one", "two"}
    with (runs / "both" / "trials.csv").open(newline="") as stream:
        header, *lines = csv.reader(stream)
    trials = {label: one["trials"] for label, one in found["evaluations"].items()}
    assert header == ["evaluation", *trials["one"]["columns"]]
    assert lines == [[label, *map(str, row)] for label in trials for row in trials[label]["rows"]]


def test_the_history_of_a_run_is_part_of_its_evaluation(two_runs):
    found, printed = two_runs
    assert found["evaluations"]["one"]["history"] == []
    assert [row["step"] for row in found["evaluations"]["two"]["history"]] == [0, 9]
    warning = "During training, at step 9: too good"
    assert [warning in found["evaluations"][label]["warnings"] for label in ("one", "two")] == [False, True]
    assert warning in printed


def test_a_run_and_its_data_may_move(runs, tmp_path):
    shutil.copytree(runs / "two", tmp_path / "two")
    shutil.move(tmp_path / "two" / "best_model.pth", tmp_path / "two" / "checkpoint_7.pth")
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    gone = str(tmp_path / "gone")
    config["datasets"][0]["path"] = config["output_path"] = gone
    config["speakers_file"] = config["model_args"]["speakers_file"] = f"{gone}/speakers.pth"
    (tmp_path / "two" / "config.json").write_text(json.dumps(config))
    arguments = ("two", "--sentences", "1", *GE2E, "--synthesis", "reconstruction", *QUICK)
    assert_refused(evaluate(tmp_path, *arguments), ["datasets.0.path", gone, "no such folder"])
    shutil.copytree(runs / "data", tmp_path / "moved")
    found = evaluated(tmp_path, "out", *arguments, "--coqpit.datasets.0.path", "moved")
    assert found["source"]["checkpoint"] == "checkpoint_7.pth"
    assert [recording["speaker"] for recording in found["recordings"]["synthetic"]] == [*SPEAKERS]
    assert all(recording["path"].startswith("moved/") for recording in found["recordings"]["real"])


def test_it_speaks_what_the_run_itself_held_out(runs, tmp_path):
    shutil.copytree(runs / "one", tmp_path / "own-split")
    held_out = ["demo#awb/2", "demo#kal16/1", "demo#slt/1", "demo#slt/3"]
    (tmp_path / "own-split" / "evaluation_set.json").write_text(json.dumps(held_out))
    found = evaluated(tmp_path, "out", "own-split", *QUICK, "--coqpit.eval_split_size", "0.01")
    assert sorted(recording["reference"] for recording in found["recordings"]["synthetic"]) == held_out
    assert len(found["recordings"]["real"]) == 9


def test_recordings_that_the_run_held_out_and_are_no_more_are_one_message(runs, tmp_path):
    shutil.copytree(runs / "one", tmp_path / "own-split")
    (tmp_path / "own-split" / "evaluation_set.json").write_text('["other#1"]')
    outcome = evaluate(tmp_path, "own-split")
    assert outcome.status == 2
    assert "none of the 1 recordings that the run was evaluated on" in outcome.err
    for torn in ("", '["toy#ann/1', "{}", "[1]"):
        (tmp_path / "own-split" / "evaluation_set.json").write_text(torn)
        with pytest.raises(ConfigError, match=r"evaluation_set\.json is cut off or damaged.*Copy it again, or"):
            read_evaluation_set(tmp_path / "own-split")


def test_runs_of_one_name_are_told_apart_and_the_same_model_twice_is_no_difference(runs, tmp_path):
    shutil.copytree(runs / "one", tmp_path / "one")
    found = evaluated(tmp_path, "out", runs / "one", "one", "--sentences", "1", "--synthesis", "tts")
    assert [*found["evaluations"]] == ["one (1)", "one (2)"]
    for row in found["comparisons"]:
        assert list(row["difference"].values()) == [0, 0, 0]
        assert row["distinguishable"] is False


def test_a_run_without_the_loss_was_trained_against_no_encoder(runs, tmp_path):
    arguments = (runs / "one", "--sentences", "1", "--synthesis", "reconstruction")
    found = evaluated(tmp_path, "out", *arguments, "--coqpit.scl.weight", "0")
    assert {alias: one["role"] for alias, one in found["encoders"].items()} == {"ge2e": "holdout", "dvector": "holdout"}


def test_a_run_and_its_baseline_without_the_loss(runs, tmp_path):
    # a run records the SHA-256 of its encoders, one without the loss does not; both mean the same encoder
    recorded = {name: {"sha256": build_encoder(name).sha256} for name in ("ge2e", "dvector")}
    for name, enabled in (("with", True), ("without", False)):
        shutil.copytree(runs / "one", tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text())
        config["scl"]["enabled"] = enabled
        for spec in (*config["scl"]["encoders"], *config["scl"]["holdout"]):
            spec["params"] = recorded[spec["name"]] if enabled else {}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    found = evaluated(tmp_path, "out", "without", "with", "--sentences", "1", "--synthesis", "reconstruction")
    roles = {
        label: {alias: encoder["role"] for alias, encoder in one["encoders"].items()}
        for label, one in evaluations_of(found).items()
    }
    assert roles == {
        "without": {"ge2e": "holdout", "dvector": "holdout"}, "with": {"ge2e": "training", "dvector": "holdout"}
    }  # fmt: skip


def test_another_checkpoint(runs, two_runs, tmp_path):
    shutil.copy(runs / "two" / "best_model.pth", tmp_path / "other.pth")
    found = evaluated(tmp_path, "out", runs / "one", "--checkpoint", "other.pth", "--synthesis", "reconstruction")
    assert found["source"]["checkpoint"] == "other.pth"
    two = two_runs[0]["evaluations"]["two"]
    assert found["source"]["model_fingerprint"] == two["source"]["model_fingerprint"]
    assert found["encoders"] == two["encoders"]


def test_speakers_may_have_slashes_in_their_names(runs, tmp_path):
    shutil.copytree(runs / "one", tmp_path / "one")
    shutil.copytree(runs / "data", tmp_path / "data")
    for path, old, new in (("data/metadata.csv", "|awb\n", "|a/wb\n"), ("one/config.json", '"awb"', '"a/wb"')):
        (tmp_path / path).write_text((tmp_path / path).read_text().replace(old, new))
    arguments = ("one", "--sentences", "1", "--synthesis", "reconstruction", "--coqpit.datasets.0.path", "data")
    found = evaluated(tmp_path, "out", *arguments)
    assert found["speakers"] == ["a/wb", "kal16", "slt"]


@pytest.fixture
def broken(runs, tmp_path):
    """Run folders that lack something, beside one that does not."""
    shutil.copytree(runs / "one", tmp_path / "one")
    for name in ("no checkpoint", "no config", "text", "other sizes"):
        shutil.copytree(runs / "one", tmp_path / name)
    (tmp_path / "no checkpoint" / "best_model.pth").unlink()
    (tmp_path / "no config" / "config.json").unlink()
    (tmp_path / "text" / "best_model.pth").write_text("no checkpoint")
    config = json.loads((tmp_path / "other sizes" / "config.json").read_text())
    config["model_args"]["hidden_channels"] = 48
    (tmp_path / "other sizes" / "config.json").write_text(json.dumps(config))
    torch.save({"weights": 1}, tmp_path / "no_model.pth")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["no checkpoint"], ["no checkpoint", "neither best_model.pth"]),
        (["no config"], ["config.json", "no such file"]),
        (["text"], ["best_model.pth", "not a readable checkpoint"]),
        (["other sizes"], ["best_model.pth", "does not fit"]),
        (["one", "gone"], ["gone", "no such run folder"]),
        (["one", "--checkpoint", "gone.pth"], ["gone.pth"]),
        (["one", "--checkpoint", "no_model.pth"], ["no_model.pth", "lacks model"]),
        (["one", "--coqpit.scl.wieght", "3"], ["--coqpit.scl.wieght", "Did you mean '--coqpit.scl.weight'?"]),
        (["one", "--coqpit.nonsense", "3"], ["--coqpit.nonsense", "unknown option"]),
        (["one", "--sentense", "3"], ["--sentense", "unknown option"]),
        (["one", "--coqpit.datasets.0.path", "gone"], ["datasets.0.path", "gone"]),
        (["one", "--coqpit.scl.weight", "-1"], ["scl.weight", "-1"]),
        (["one", "--encoder", "gone"], ["gone", "Known: "]),
    ],
)
def test_runs_that_cannot_be_used_are_one_message(broken, arguments, parts):
    assert_refused(evaluate(broken, *arguments), parts)
    assert not (broken / "evaluation_out" / "results.json").exists()


def test_one_held_out_speaker_has_nobody_to_convert_to(runs, tmp_path):
    shutil.copytree(runs / "data", tmp_path / "data")
    table = (tmp_path / "data" / "metadata.csv").read_text().splitlines()
    (tmp_path / "data" / "one.csv").write_text("\n".join([*table[:1], *table[1:3]]) + "\n")
    overrides = ("--coqpit.datasets.0.path", tmp_path / "data", "--coqpit.datasets.0.meta_file_val", "one.csv")
    outcome = evaluate(tmp_path, runs / "one", "--synthesis", "conversion", *GE2E, *overrides)
    assert_refused(outcome, ["--synthesis conversion", "nobody to convert to"])


def test_without_out_it_writes_into_a_folder_of_its_own(speech, tmp_path):
    outcome = evaluate(tmp_path, "--pairs", speech / "pairs.csv", *GE2E, *QUICK)
    assert outcome.status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation_out"]
    assert "Written to evaluation_out" in outcome.out


def test_names_are_shown_as_they_are(speech):
    shutil.copy(speech / "pairs.csv", speech / "pairs[bold].csv")
    outcome = evaluate(speech, "--pairs", "pairs[bold].csv", *GE2E, *QUICK, "--out", "out/[red]")
    assert outcome.status == 0
    assert "pairs[bold]: synthetic speech of 3 speakers" in outcome.out
    assert "Written to out/[red]" in outcome.out


def test_a_list_in_another_encoding_is_one_message(speech):
    text = (speech / "pairs.csv").read_text().replace("awb,", "aw\xe9,")
    (speech / "latin.csv").write_bytes(text.encode("latin-1"))
    assert_refused(evaluate(speech, "--pairs", "latin.csv"), ["latin.csv"])


def test_where_it_cannot_write_is_one_message(speech):
    outcome = evaluate(speech, "--pairs", "pairs.csv", *GE2E, *QUICK, "--out", "pairs.csv")
    assert outcome.status in (1, 2)
    assert outcome.err.count("coqui-scl: ") == 1
    assert "pairs.csv" in outcome.err.rpartition("coqui-scl: ")[2]
