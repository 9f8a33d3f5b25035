"""`coqui-scl listen` as a user runs it, in this process, on runs that were never trained."""

import json
import shutil

import pytest
from command_driver import run_here
from untrained_runs import SPEAKERS, write_corpus, write_run

from coqui_scl_plugin.coqui.run_folder import write_evaluation_set

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = ("--sentences", "3", "--catch", "5")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a folder with two runs and their data."""
    folder = tmp_path_factory.mktemp("runs")
    write_corpus(folder / "data")
    for seed, name in enumerate(("one", "two")):
        write_run(folder / name, folder / "data", seed=seed, scl={"encoders": [{"name": "ge2e"}]})
    return folder


def listen(folder, *arguments):
    return run_here(folder, "listen", *arguments)


@pytest.fixture(scope="module")
def made(runs, one_thread):
    """Return what the command printed and the folder that it made."""
    outcome = listen(runs, "one", "two", *QUICK, "--out", "test")
    assert outcome.status == 0, outcome.err
    return outcome, runs / "test"


def send(folder, file, listener, run):
    """Write the answers of a listener who chooses a run, and the right sample of catch trials."""
    key = json.loads((folder / "key.json").read_text())
    answers = [
        question["samples"].index("right" if "right" in question["samples"] else run) + 1
        for question in key["questions"]
    ]
    document = {
        "format": "coqui-scl listening answers", "page": key["page"], "listener": listener, "answers": answers
    }  # fmt: skip
    (folder / file).write_text(json.dumps(document))


def test_it_makes_a_page_a_key_and_the_speech_of_both_runs(made):
    outcome, folder = made
    assert {path.name for path in folder.iterdir()} == {"listen.html", "key.json", "audio"}
    for run in ("one", "two"):
        names = sorted(path.name for path in (folder / "audio" / run).iterdir())
        assert len(names) == 3  # no more than what is asked is synthesised
        assert [name.split("-")[1] for name in names] == [*SPEAKERS]
    key = json.loads((folder / "key.json").read_text())
    assert key["runs"] == ["one", "two"]
    assert len(key["questions"]) == 2 * 3 + 5
    assert "listen.html: 11 questions, about 1 min" in outcome.out
    assert "listen --score test answers*.json" in outcome.out
    notes = [line for line in outcome.out.splitlines() if line.startswith("Note: ")]
    assert len(notes) == 6  # the models were never trained
    assert all("is steady noise or a tone; listeners hear it as it is." in note for note in notes)


def test_answers_are_scored_by_the_folder(made):
    _, folder = made
    send(folder, "answers-ann.json", "ann", "B")
    send(folder, "answers-bob.json", "bob", "A")
    (folder / "answers-cid.json").write_text("{")
    files = sorted(path.name for path in folder.glob("answers-*.json"))
    outcome = listen(folder, "--score", ".", *files)
    assert outcome.status == 0, outcome.err
    assert outcome.changed == ["scores.json"]
    found = json.loads((folder / "scores.json").read_text())
    assert found["runs"] == {"A": "one", "B": "two"}
    for part in ("similarity", "naturalness"):
        assert found["parts"][part]["overall"]["share"] == 0.5
        assert set(found["parts"][part]["speakers"]) == set(SPEAKERS)
    for text in ("How often two is more like the person", "listener ann", "speaker slt", "ann: 11 answers"):
        assert text in outcome.out
    assert "Note: answers-cid.json is left out: not JSON" in outcome.out
    assert listen(folder, "--score", ".", *files, "--json").report == found


def test_fewer_sentences_than_asked_for_are_remarked_on(runs):
    outcome = listen(runs, "one", "two", "--sentences", "9", "--catch", "5", "--out", "fewer", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.report["remarks"][:1] == ["Both runs held out 6 sentences, fewer than the 9 of --sentences."]
    assert outcome.report["questions"] == 17


def test_runs_of_one_name_are_told_apart(runs, tmp_path):
    shutil.copytree(runs / "two", tmp_path / "one")
    outcome = listen(runs, "one", tmp_path / "one", *QUICK, "--out", tmp_path / "test", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.report["runs"] == ["one (1)", "one (2)"]
    assert {path.name for path in (tmp_path / "test" / "audio").iterdir()} == {"one (1)", "one (2)"}


def test_runs_that_held_out_nothing_in_common_are_refused(runs, tmp_path):
    for name, held_out in (("one", "toy#awb/1"), ("two", "toy#awb/2")):
        shutil.copytree(runs / name, tmp_path / name)
        samples = json.loads((tmp_path / name / "config.json").read_text())["datasets"]
        prefix = samples[0]["dataset_name"]
        write_evaluation_set(tmp_path / name, [{"audio_unique_name": f"{prefix}#{held_out.partition('#')[2]}"}])
    outcome = listen(tmp_path, "one", "two", "--out", "test")
    outcome.assert_refused(["one and two held out no recording in common"])


REFUSED = {
    "no run": ([], ["RUN_A RUN_B", "got 0", "--score"]),
    "one run": (["one"], ["got 1"]),
    "three runs": (["one", "two", "one"], ["got 3"]),
    "no such run": (["one", "three"], ["three", "no such run folder"]),
    "out is a file": (["one", "two", "--out", "one/config.json"], ["--out one/config.json", "not a folder"]),
    "a test is there": (["one", "two", "--out", "test"], ["--out test", "holds a listening test already", "key.json"]),
    "no answers": (["--score", "test"], ["name the files"]),
    "no key": (["--score", "one", "a.json"], ["--score one", "key.json is needed"]),
    "no such answers": (["--score", "test", "none.json"], ["none.json", "no such file"]),
    "a seed for a score": (["--score", "test", "a.json", "--seed", "3"], ["--seed is for making a page"]),
    "overrides for a score": (["--score", "test", "a.json", "--coqpit.seed", "1"], ["--coqpit.seed", "RUN"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_use_is_one_message(runs, made, name):
    arguments, parts = REFUSED[name]
    listen(runs, *arguments).assert_refused(parts)


@pytest.mark.parametrize("arguments", [["--sentences", "0"], ["--catch", "4"], ["--seed", "-1"]])
def test_options_out_of_range_are_wrong_usage(runs, arguments):
    outcome = listen(runs, "one", "two", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert arguments[0] in outcome.err
