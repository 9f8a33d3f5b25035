import random
import shutil
import sys
import unicodedata

import numpy as np
import pytest
import torch
from evaluation_data import syllables
from tiny_recognisers import write_ctc, write_whisper
from transformers import Wav2Vec2Config, Wav2Vec2Model, pipeline

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.evaluation_set import SpokenRecording
from coqui_scl_plugin.evaluation.recognition import RecognitionJudge, character_error_rate
from coqui_scl_plugin.references.recordings import Recording

RATE = 16_000
SPEECH = torch.from_numpy(syllables(1.0, RATE)).float()


def edits(said, heard):
    """Levenshtein's distance, row by row."""
    row = list(range(len(heard) + 1))
    for i, letter in enumerate(said, start=1):
        previous, row = row, [i]
        for j, other in enumerate(heard, start=1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (letter != other)))
    return row[-1]


def expected_rate(said, heard):
    """By another normalisation: letters, digits, marks and symbols of each word, one space between words."""
    said, heard = (
        " ".join("".join(c for c in unicodedata.normalize("NFKC", t) if unicodedata.category(c)[0] != "P").split())
        for t in (said.lower(), heard.lower())
    )
    return edits(said, heard) / len(said)


def recording(tmp_path, text="yes we can", language=""):
    return SpokenRecording("a", tmp_path / "a.wav", "ann", text=text, language=language)


@pytest.fixture(scope="module")
def ctc(tmp_path_factory):
    return write_ctc(tmp_path_factory.mktemp("recognisers") / "ctc")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return write_whisper(tmp_path_factory.mktemp("recognisers") / "whisper")


# --- errors in a text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "heard", "rate"),
    [
        ("Hello, world!", "hello  world", 0),
        ("Straße – «Été»?", "straße e\u0301te\u0301", 0),
        ("kitten", "sitting", 3 / 6),
        ("one two", "onetwo", 1 / 7),
        ("no", "no no no", 6 / 2),
        ("你好。", "你们好", 1 / 2),
        ("Привет", "", 1),
        ("don't", "dont", 0),
    ],
)
def test_rates_of_known_texts(said, heard, rate):
    assert character_error_rate(said, heard) == pytest.approx(rate)
    assert expected_rate(said, heard) == pytest.approx(rate)


def test_rates_of_random_texts():
    draw = random.Random(0)
    for _ in range(50):
        said = "a" + "".join(draw.choices("abcdé ,.'\t\nA", k=draw.randint(1, 30)))
        heard = "".join(draw.choices("abcdé ,.'\t\nA", k=draw.randint(0, 30)))
        assert character_error_rate(said, heard) == pytest.approx(expected_rate(said, heard)), (said, heard)


@pytest.mark.parametrize("text", ["", " ", "...", "¿?"])
def test_a_text_without_a_letter_has_no_rate(text):
    assert character_error_rate(text, "something") is None


# --- recognisers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ctc", "whisper"])
def test_what_a_recogniser_hears_is_compared_with_the_text(tmp_path, request, kind):
    folder = request.getfixturevalue(kind)
    found = RecognitionJudge(str(folder)).opinion(recording(tmp_path), SPEECH, RATE)
    options = {"generate_kwargs": {"task": "transcribe"}} if kind == "whisper" else {}
    heard = pipeline("automatic-speech-recognition", model=str(folder), device="cpu", **options)(SPEECH.numpy())["text"]
    assert found["heard"] == heard.strip() != ""
    assert found["cer"] == pytest.approx(expected_rate("yes we can", heard))
    assert (found["text"], found["language"]) == ("yes we can", "")


def test_recordings_of_other_rates_are_resampled(tmp_path, ctc):
    judge = RecognitionJudge(str(ctc))
    time = np.arange(RATE) / RATE
    tones = [
        torch.from_numpy(np.sin(2 * np.pi * 300 * time[: int(len(time) * r / RATE)] * RATE / r)).float()
        for r in (8_000, RATE)
    ]
    heard = [judge.opinion(recording(tmp_path), tone, r)["heard"] for tone, r in zip(tones, (8_000, RATE), strict=True)]
    assert expected_rate(heard[1], heard[0]) < 0.2


@pytest.mark.parametrize(
    ("language", "passed"),
    [("en", "en"), ("pt-br", "pt"), ("PT_BR", "pt"), ("fr-fr", None), ("", None)],
)
def test_whisper_is_told_the_language_that_it_knows(tmp_path, whisper, monkeypatch, language, passed):
    judge = RecognitionJudge(str(whisper))
    calls, generate = [], judge._pipeline.model.generate
    monkeypatch.setattr(judge._pipeline.model, "generate", lambda *a, **k: (calls.append(k), generate(*a, **k))[1])
    assert judge.opinion(recording(tmp_path, language=language), SPEECH, RATE)["language"] == language
    assert [(call.get("language"), call["task"]) for call in calls] == [(passed, "transcribe")]


def test_whisper_of_one_language_is_told_none(tmp_path):
    judge = RecognitionJudge(str(write_whisper(tmp_path / "whisper", multilingual=False)))
    assert judge.opinion(recording(tmp_path, language="en"), SPEECH, RATE)["cer"] > 0


def test_whisper_hears_recordings_longer_than_its_window(tmp_path, whisper):
    found = RecognitionJudge(str(whisper)).opinion(recording(tmp_path), SPEECH.repeat(31), RATE)
    assert found["cer"] > 0


@pytest.mark.parametrize("waveform", [torch.zeros(0), torch.zeros(10), torch.full((RATE,), torch.nan)])
def test_from_no_sound_nothing_is_heard(tmp_path, ctc, waveform):
    found = RecognitionJudge(str(ctc)).opinion(recording(tmp_path), waveform, RATE)
    assert (found["heard"], found["cer"]) == ("", 1.0)


def test_without_a_text_there_is_no_rate(tmp_path, ctc):
    judge = RecognitionJudge(str(ctc))
    for unknown in (recording(tmp_path, text=" …"), Recording("a", tmp_path / "a.wav", "ann")):
        assert judge.opinion(unknown, SPEECH, RATE) == {"cer": None}


def test_a_recogniser_is_told_from_another_by_its_weights(ctc, whisper):
    identities = [RecognitionJudge(str(folder)).identity for folder in (ctc, ctc, whisper)]
    assert identities[0] == identities[1]
    assert identities[0]["model"] == str(ctc)
    assert identities[0]["fingerprint"] != identities[2]["fingerprint"]


# --- what it refuses --------------------------------------------------------------------------------------------------


def refused(model):
    with pytest.raises(ConfigError) as error:
        RecognitionJudge(str(model))
    assert f"--asr {model}" in str(error.value)
    return str(error.value)


def test_an_empty_folder_is_refused(tmp_path):
    assert "openai/whisper-small" in refused(tmp_path)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    assert "there is no such folder" in refused(tmp_path / "gone")


def test_a_model_without_an_output_for_letters_is_refused(tmp_path, ctc):
    shutil.copytree(ctc, tmp_path / "base")
    Wav2Vec2Model(Wav2Vec2Config.from_pretrained(ctc)).save_pretrained(tmp_path / "base")
    assert "Wav2Vec2Model" in refused(tmp_path / "base")


def test_code_that_comes_with_a_model_is_not_run(tmp_path, ctc):
    shutil.copytree(ctc, tmp_path / "own")
    config = (tmp_path / "own" / "config.json").read_text()
    own = '"auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCTC": "mine.Mine"}, "model_type": "mine"'
    (tmp_path / "own" / "config.json").write_text(config.replace('"model_type": "wav2vec2"', own))
    (tmp_path / "own" / "mine.py").write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    refused(tmp_path / "own")
    assert not list(tmp_path.rglob("ran"))


def test_without_jiwer_it_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ConfigError, match=r'--asr needs jiwer: pip install "coqui-scl-plugin\[asr\]"'):
        RecognitionJudge(str(tmp_path))
