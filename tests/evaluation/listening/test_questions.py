"""What a listening test asks, and what of it a seed decides."""

import dataclasses
from collections import Counter

import pytest
import soundfile

from coqui_scl_plugin.demo.corpus_files import BUNDLED
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.listening.questions import draw_questions, draw_sentences
from coqui_scl_plugin.references.recordings import Recording

RUNS = ("quiet", "loud")


def asked(questions, part, *, catch=False):
    return [one for one in questions if one.part == part and ("right" in one.kinds) == catch]


def folder_of(question, kind):
    return question.samples[question.kinds.index(kind)].path.parent.name


def test_both_parts_ask_every_pair_once_and_each_run_is_first_in_half(two_runs):
    questions = draw_questions(*two_runs, catch=6, seed=0)
    for part in ("similarity", "naturalness"):
        pairs = asked(questions, part)
        assert Counter(one.speaker for one in pairs) == {"awb": 1, "kal16": 1, "slt": 2}
        assert Counter(one.kinds for one in pairs) == {("A", "B"): 2, ("B", "A"): 2}
        assert {(folder_of(one, "A"), folder_of(one, "B")) for one in pairs} == {RUNS}
        for one in pairs:
            assert one.samples[0].path.name == one.samples[1].path.name
    parts = [one.part for one in questions]
    assert parts == sorted(parts, reverse=True)  # similarity first


def test_a_reference_is_real_speech_of_the_speaker_with_other_words(two_runs):
    for one in [one for seed in range(4) for one in asked(draw_questions(*two_runs, 5, seed), "similarity")]:
        assert one.reference.path.parent.name == "real"
        assert one.reference.path.name.startswith(f"{one.speaker}-")
        assert one.reference.path.name != one.samples[0].path.name
    assert all(one.reference is None for one in draw_questions(*two_runs, 5, 0) if one.part == "naturalness")


def test_catch_trials_are_of_real_speech_alone(two_runs):
    questions = draw_questions(*two_runs, catch=7, seed=0)
    similarity = asked(questions, "similarity", catch=True)
    naturalness = asked(questions, "naturalness", catch=True)
    assert (len(similarity), len(naturalness)) == (3, 4)
    for one in similarity:
        right, wrong = (one.samples[one.kinds.index(kind)].path for kind in ("right", "wrong"))
        assert {path.parent.name for path in (right, wrong, one.reference.path)} == {"real"}
        assert right.name.startswith(f"{one.speaker}-")
        assert not wrong.name.startswith(f"{one.speaker}-")
        assert right != one.reference.path
    for one in naturalness:
        degraded = {kind: clip.degraded for kind, clip in zip(one.kinds, one.samples, strict=True)}
        assert degraded == {"right": False, "wrong": True}
        assert one.samples[0].path == one.samples[1].path
    for catch in (similarity, naturalness):
        assert {one.kinds for one in catch} == {("right", "wrong"), ("wrong", "right")}


def test_the_other_voice_of_a_catch_trial_is_the_least_alike_in_pitch(two_runs):
    """Of these voices, kal16 is the lowest (about 103 Hz) and slt the highest (177 Hz); awb is between them."""
    real = [
        Recording(f"{speaker}/{n}", BUNDLED / speaker / f"{speaker}_{n:02}.flac", speaker)
        for speaker in ("awb", "kal16", "slt")
        for n in (1, 2, 3)
    ]
    catch = asked(
        draw_questions(dataclasses.replace(two_runs[0], real=real), two_runs[1], 8, 0), "similarity", catch=True
    )
    found = {one.speaker: folder_of(one, "wrong") for one in catch}
    assert found["kal16"] == "slt"
    assert found["slt"] == "kal16"


def test_a_seed_decides_all(two_runs):
    assert draw_questions(*two_runs, 6, seed=1) == draw_questions(*two_runs, 6, seed=1)
    assert draw_questions(*two_runs, 6, seed=1) != draw_questions(*two_runs, 6, seed=2)


def test_with_a_single_speaker_all_catch_trials_are_on_naturalness(two_runs):
    alone = [
        dataclasses.replace(one, synthetic=[made for made in one.synthetic if made.speaker == "slt"])
        for one in two_runs
    ]
    questions = draw_questions(*alone, catch=6, seed=0)
    assert asked(questions, "similarity", catch=True) == []
    assert len(asked(questions, "naturalness", catch=True)) == 6


def test_damaged_real_speech_is_passed_over(two_runs, tmp_path):
    (tmp_path / "damaged.wav").write_bytes(b"RIFF")
    damaged = [Recording(f"{name}/0", tmp_path / "damaged.wav", name) for name in ("awb", "kal16", "slt")]
    first = dataclasses.replace(two_runs[0], real=[*damaged, *two_runs[0].real])
    for seed in range(5):
        clips = [clip for one in draw_questions(first, two_runs[1], 6, seed) for clip in (one.reference, *one.samples)]
        assert tmp_path / "damaged.wav" not in {clip.path for clip in clips if clip is not None}
    with pytest.raises(ConfigError, match=r"has no real recording .* damaged"):
        draw_questions(dataclasses.replace(two_runs[0], real=damaged), two_runs[1], 6, 0)


# --- sentences --------------------------------------------------------------------------------------------------------


@pytest.fixture
def recordings(tmp_path):
    """Three recordings of two speakers and one of a third; the second of each speaker is long."""
    found = []
    for speaker, count in (("ann", 3), ("bob", 3), ("cid", 1)):
        for number in range(count):
            path = tmp_path / f"{speaker}-{number}.wav"
            soundfile.write(path, [0.0] * (8000 * (11 if number == 1 else 1)), 8000)
            found.append(Recording(f"{speaker}/{number}", path, speaker, held_out=True))
    return found


def names(recordings):
    return [recording.name for recording in recordings]


def test_sentences_are_spread_over_speakers_and_short_ones_come_first(recordings):
    drawn = draw_sentences(recordings, recordings, 5, 0, RUNS)
    assert names(drawn) == ["ann/0", "ann/2", "bob/0", "bob/2", "cid/0"]
    assert names(draw_sentences(recordings, recordings, 20, 0, RUNS)) == names(recordings)
    first = {tuple(names(draw_sentences(recordings, recordings, 2, seed, RUNS))) for seed in range(20)}
    assert len(first) > 5
    assert all(one.split("/")[0] != other.split("/")[0] for one, other in first)


def test_sentences_are_those_that_both_runs_held_out(recordings):
    assert names(draw_sentences(recordings[:4], recordings[2:], 20, 0, RUNS)) == names(recordings[2:4])
    with pytest.raises(ConfigError, match="quiet and loud held out no recording in common"):
        draw_sentences(recordings[:3], recordings[3:], 20, 0, RUNS)
