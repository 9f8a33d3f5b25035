"""The score of a listening test: what is counted, and which files are not."""

import json
import math

import pytest

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.listening.answers import Key, KeyQuestion, read_answers, read_key
from coqui_scl_plugin.evaluation.listening.score import score, share_of

SIDES = (("A", "B"), ("B", "A"))
CATCH_SIDES = (("right", "wrong"), ("wrong", "right"))


@pytest.fixture
def key():
    """Eight pairs and four catch trials in each part; the speaker of a pair is the number of its quarter."""
    questions = [
        KeyQuestion(part=part, speaker=f"p{n // 2}", samples=sides[n % 2])
        for part in ("similarity", "naturalness")
        for sides, count in ((SIDES, 8), (CATCH_SIDES, 4))
        for n in range(count)
    ]
    return Key(page="abc", runs=("one", "two"), seed=0, questions=questions)


@pytest.fixture
def send(tmp_path, key):
    """A function that writes the answers of a listener; `choose` returns a sample or None for each question."""

    def write(file, name, choose, **changes):
        answers = [choose(number, question) for number, question in enumerate(key.questions)]
        document = {
            "format": "coqui-scl listening answers", "page": key.page, "listener": name, "answers": answers
        }  # fmt: skip
        path = tmp_path / file
        path.write_text(json.dumps(document | changes))
        return path

    return write


def chooses(similarity, naturalness, wrong=0):
    """A listener who chooses a run in each part, and in the first `wrong` catch trials the wrong sample."""
    left = [wrong]

    def choose(number, question):
        wanted = {"similarity": similarity, "naturalness": naturalness}[question.part]
        if question.is_catch:
            wanted = "wrong" if left[0] > 0 else "right"
            left[0] -= 1
        return question.samples.index(wanted) + 1

    return choose


def scored(key, *files):
    return score(key, *read_answers(files, key))


def counted(found, part):
    overall = found["parts"][part]["overall"]
    return overall["chosen"], overall["answers"]


def test_shares_are_of_the_second_run_by_part_speaker_and_listener(key, send):
    found = scored(
        key, send("a", "ann", chooses("B", "A")), send("b", "bob", chooses("A", "A")),
        send("c", "cid", lambda n, q: chooses("B" if q.speaker == "p0" else "A", "B")(n, q)),
    )  # fmt: skip
    assert found["runs"] == {"A": "one", "B": "two"}
    assert counted(found, "similarity") == (8 + 0 + 2, 24)
    assert counted(found, "naturalness") == (8, 24)
    part = found["parts"]["similarity"]
    shares = {name: share["share"] for name, share in part["listeners"].items()}
    assert shares == {"ann": 1.0, "bob": 0.0, "cid": 0.25}
    assert {name: share["chosen"] for name, share in part["speakers"].items()} == {"p0": 4, "p1": 2, "p2": 2, "p3": 2}
    assert part["over_listeners"]["mean"] == pytest.approx(1.25 / 3)
    assert part["over_listeners"]["low"] == 0.0
    assert part["over_listeners"]["high"] == 1.0
    assert part["over_speakers"]["mean"] == pytest.approx(10 / 24)
    assert found["warnings"] == []


def at_most(successes, trials, chance):
    return sum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(successes + 1))


@pytest.mark.parametrize(("chosen", "answers"), [(0, 5), (5, 5), (3, 10), (60, 90)])
def test_intervals_hold_what_clopper_and_pearson_say(chosen, answers):
    """At each end of the interval, what was seen or something farther away has a probability of 2.5 %."""
    share = share_of(chosen, answers)
    assert share.share == chosen / answers
    if chosen < answers:
        assert at_most(chosen, answers, share.high) == pytest.approx(0.025)
    if chosen > 0:
        assert 1 - at_most(chosen - 1, answers, share.low) == pytest.approx(0.025)
    rarer = min(chosen, answers - chosen)
    assert share.p_value == pytest.approx(min(1, 2 * at_most(rarer, answers, 0.5)))


@pytest.mark.parametrize(("wrong", "counts"), [(0, True), (1, True), (2, False), (4, False), (8, False)])
def test_listeners_who_fail_the_catch_trials_are_named_and_left_out(key, send, wrong, counts):
    found = scored(key, send("a", "ann", chooses("A", "A")), send("b", "bob", chooses("B", "B", wrong=wrong)))
    assert counted(found, "similarity") == ((8, 16) if counts else (0, 8))
    assert ("bob" in found["parts"]["similarity"]["listeners"]) == counts
    bob = found["listeners"][1]
    assert bob["catch"]["right"] == 8 - wrong
    assert bob["counts"] == counts
    named = [warning for warning in found["warnings"] if "'bob' is left out" in warning]
    assert len(named) == (not counts)
    assert all(f"{8 - wrong} of 8 catch trials" in warning for warning in named)


def test_one_who_always_presses_one_key_is_left_out(key, send):
    found = scored(key, send("a", "ann", lambda n, q: 1))
    assert not found["listeners"][0]["counts"]
    assert found["parts"]["similarity"]["overall"]["share"] is None
    assert found["warnings"][-1] == "No listener is left, so there is nothing to count."


def test_half_answered_files_count_as_far_as_they_go(key, send):
    choose = chooses("B", "B")
    found = scored(key, send("a", "ann", lambda n, q: choose(n, q) if n % 12 not in (0, 1) else None))
    assert counted(found, "similarity") == (6, 6)
    assert found["warnings"] == ["'ann' answered 20 of 24 questions; those count."]


def test_without_catch_trials_answered_nobody_counts(key, send):
    choose = chooses("B", "B")
    found = scored(key, send("a", "ann", lambda n, q: None if q.is_catch else choose(n, q)))
    assert not found["listeners"][0]["counts"]
    assert "0 of 0 catch trials" in found["warnings"][0]


def test_of_two_files_of_a_listener_the_fuller_one_counts(key, send):
    choose = chooses("B", "B")
    half = send("half", " ANN ", lambda n, q: choose(n, q) if n < 12 else None)
    for files in ([half, send("full", "ann", choose)], [send("full", "ann", choose), half]):
        found = scored(key, *files)
        assert [one["file"] for one in found["listeners"]] == [str(files[0].parent / "full")]
        (left_out,) = found["left_out"]
        assert left_out["where"] == str(half)
        assert "a second file of 'ann'" in left_out["problem"]
        assert "another name" in left_out["problem"]


def test_a_file_that_was_saved_twice_counts_once(key, send):
    found = scored(key, send("a", "ann", chooses("B", "B")), send("a (1)", "ann", chooses("B", "B")))
    assert counted(found, "similarity") == (8, 8)
    assert "the same answers of 'ann'" in found["left_out"][0]["problem"]


BAD = {
    "not json": ("{", "not JSON, or cut off"),
    "not utf-8": (b"\xff\xfe\xfa", "not JSON, or cut off"),
    "empty": ("", "not JSON, or cut off"),
    "deep": ("[" * 100_000, "not JSON, or cut off"),
    "a list": ("[1]", "not answers of a listening test"),
    "another format": ('{"format": "x"}', "not answers of a listening test"),
    "too large": (" " * 1_000_001, "bytes are too many"),
    "another page": ({"page": "def"}, "answers to another page ('def')"),
    "too few": ({"answers": [1, 2]}, "has 2 answers, and should have 24"),
    "no sample": ({"answers": [3] * 24}, "answers.0: Input should be 1 or 2"),
    "text": ({"answers": ["1"] * 24}, "answers.0: Input should be 1 or 2"),
    "no name": ({"listener": ""}, "damaged: listener"),
    "a long name": ({"listener": "x" * 81}, "damaged: listener"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_left_out_with_the_reason(key, send, tmp_path, name):
    content, why = BAD[name]
    changes = content if isinstance(content, dict) else {}
    bad = send("bad.json", "bob", chooses("B", "B"), **changes)
    if isinstance(content, bytes):
        bad.write_bytes(content)
    elif isinstance(content, str):
        bad.write_text(content)
    found = scored(key, bad, send("good.json", "ann", chooses("B", "B")))
    assert [one["listener"] for one in found["listeners"]] == ["ann"]
    (warning,) = found["warnings"]
    assert str(bad) in warning
    assert why in warning
    with pytest.raises(ConfigError, match="None of the 2 files can be used"):
        scored(key, bad, tmp_path)


def test_a_key_is_needed_and_must_be_whole(key, tmp_path):
    with pytest.raises(ConfigError, match=r"key\.json is needed .* no such file"):
        read_key(tmp_path)
    (tmp_path / "key.json").write_text(key.model_dump_json())
    assert read_key(tmp_path) == key
    (tmp_path / "key.json").write_text(key.model_dump_json()[:-9])
    with pytest.raises(ConfigError, match=r"key\.json is damaged"):
        read_key(tmp_path)
