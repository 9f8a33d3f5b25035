"""What the judges find in real speech is measured once; means of judges over speakers."""

from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from tiny_recognisers import write_ctc

from benchmarks.ablation.bench import Bench, mean_by_speaker
from benchmarks.ablation.real import RealSpeech
from benchmarks.ablation.voice_measures import Voice
from coqui_scl_plugin.demo.corpus_files import Corpus
from coqui_scl_plugin.evaluation.evaluation_set import SpokenRecording
from coqui_scl_plugin.evaluation.recognition import RecognitionJudge
from coqui_scl_plugin.evaluation.verification import EmbeddedRecording

VOICES = {
    "ann": Voice(10.0, 2.0, 0.5, [1.0, -1.0]),
    "bob": Voice(1.0, 3.0, 0.4, [4.0, -4.0]),
    "cat": Voice(4.0, 2.5, 0.3, [0.0, 0.0]),
}
HELD_OUT = {
    "ann": Voice(11.0, 2.5, 0.45, [2.0, -2.0]),
    "bob": Voice(None, None, 1.0, [4.0, -4.0]),
    "cat": Voice(4.0, 2.5, 0.35, [0.0, 0.0]),
}


def sample(name):
    return {"audio_unique_name": name, "audio_file": f"{name}.wav", "speaker_name": name.partition("-")[0], "text": "a"}


CORPUS = Corpus(Path(), 16_000, [sample("ann-0"), sample("bob-0")], [sample("ann-1"), sample("bob-1")])


def measured(asr):
    names = ("ann-1", "bob-1", "ann-0", "bob-0")
    embedded = {name: EmbeddedRecording(1.5, None, {"ge2e": torch.randn(4)}) for name in names}
    return RealSpeech(VOICES, HELD_OUT, embedded, {"ann": 3.0}, {"ann": 0.1} if asr else None, asr)


@pytest.fixture
def measurements(monkeypatch):
    """List each measurement by the recogniser that took part."""
    made = []

    def measure(corpus, asr):
        made.append(asr)
        return measured(asr)

    monkeypatch.setattr(RealSpeech, "measure", measure)
    return made


def test_real_speech_is_measured_once(tmp_path, measurements):
    first, second = (RealSpeech.kept(CORPUS, None, tmp_path / "out" / "real.json") for _ in range(2))
    assert measurements == [None]
    assert (first.voices, first.held_out, first.quality) == (second.voices, second.held_out, second.quality)
    for name, one in first.embedded.items():
        assert torch.equal(one.embeddings["ge2e"], second.embedded[name].embeddings["ge2e"])
        assert (one.seconds, one.problem) == (second.embedded[name].seconds, second.embedded[name].problem)


def test_real_speech_is_measured_anew_for_a_recogniser_or_other_recordings(tmp_path, measurements):
    file = tmp_path / "real.json"
    for asr in (None, "whisper", None, "whisper"):
        found = RealSpeech.kept(CORPUS, asr, file)
    assert measurements == [None, "whisper"]
    assert found.errors == {"ann": 0.1}
    RealSpeech.kept(Corpus(Path(), 16_000, [sample("dan-0")], [sample("dan-1")]), None, file)
    assert len(measurements) == 3


def test_scale_of_real_speech():
    same, other = (measured("whisper").ends()[end] for end in ("same", "other"))
    assert same["f0_median"] == {"ann": 1.0, "bob": None, "cat": 0.0}
    assert other["f0_median"] == {"ann": mean([10.0, 7.0]), "bob": None, "cat": mean([6.0, 3.0])}
    assert other["spectrum"] == {"ann": mean([2.0, 2.0]), "bob": mean([3.0, 4.0]), "cat": mean([1.0, 4.0])}
    assert same["unvoiced"] == {"ann": 0.45, "bob": 1.0, "cat": 0.35}
    assert (same["dnsmos"], same["cer"]) == ({"ann": 3.0}, {"ann": 0.1})
    assert "cer" not in measured(None).ends()["same"]


def test_synthetic_voices_are_compared_with_their_speakers():
    found = measured(None).voice_measures([("cat", VOICES["ann"]), ("bob", HELD_OUT["bob"])])
    assert found["f0_median"] == {"cat": 6.0, "bob": None}
    assert found["spectrum"] == {"cat": 1.0, "bob": 0.0}
    assert found["unvoiced"] == {"cat": 0.5, "bob": 1.0}


def test_means_by_speaker():
    values = [("ann", 1.0), ("bob", None), ("ann", 2.0), ("ann", None)]
    assert mean_by_speaker(values) == {"ann": 1.5, "bob": None}


@pytest.fixture
def recordings(tmp_path):
    made = []
    for index, (speaker, seconds) in enumerate([("ann", 2), ("ann", 4), ("bob", 12)]):
        waveform = np.random.default_rng(index).normal(0, 0.1, seconds * 16_000)
        soundfile.write(tmp_path / f"{index}.wav", waveform, 16_000)
        made.append(SpokenRecording(str(index), tmp_path / f"{index}.wav", speaker, text=f"sentence {index}"))
    return made


def test_quality_is_of_one_window_of_the_first_recording_of_each_speaker(recordings):
    heard = []

    class Quality:
        def opinion(self, recording, waveform, rate):
            heard.append((recording.name, waveform, rate))
            return {"dnsmos": float(recording.name)}

    assert Bench({}, Quality(), None).quality_of(recordings) == {"ann": 0.0, "bob": 2.0}
    assert [(name, len(waveform), rate) for name, waveform, rate in heard] == [
        ("0", 144_160, 16_000),
        ("2", 144_160, 16_000),
    ]
    short, long = (one.load()[0] for one in (recordings[0], recordings[2]))
    assert torch.equal(heard[0][1][:64_000], torch.cat([short, short]))
    assert torch.equal(heard[1][1], long[:144_160])


def test_character_errors_by_speaker(recordings, tmp_path):
    recogniser = RecognitionJudge(str(write_ctc(tmp_path / "ctc")))
    errors = [recogniser.opinion(one, *one.load())["cer"] for one in recordings]
    found = Bench({}, SimpleNamespace(), recogniser).errors_of(recordings)
    assert found == {"ann": pytest.approx(mean(errors[:2])), "bob": pytest.approx(errors[2])}
