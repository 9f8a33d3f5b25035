"""What the checks of recordings, audio, rates and texts say of real files, and that they read each header once."""

import dataclasses
import functools
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from made_up_run import sound_facts
from tiny_vits import PLAIN
from toy_speech import speech

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.consistency.build import build_consistency
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.preflight import audio, headers, recordings, texts
from coqui_scl_plugin.preflight.facts import RunFacts, Texts
from coqui_scl_plugin.preflight.report import Finding

RATE = 16_000
Samples = npt.NDArray[np.float32]
SPEECH: Samples = speech(1.0, seed=1, rate=RATE)


def write(folder: Path, name: str, samples: Samples = SPEECH, *, subtype: str | None = None, rate: int = RATE) -> Path:
    path = folder / name
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def samples_of(*files: Path) -> list[dict[str, Any]]:
    return [
        {"audio_file": str(file), "audio_unique_name": f"d#{file.name}", "speaker_name": "a", "text": "a text"}
        for file in files
    ]


facts = functools.partial(sound_facts, segment_seconds=0.25)


@functools.cache
def loss_on() -> SpeakerConsistency:
    config = SclVitsConfig()
    config.from_dict({"scl": PLAIN})
    return build_consistency(config.scl)


def config_with(**changes: Any) -> SclVitsConfig:
    config = SclVitsConfig()
    config.from_dict({"run_eval": False, "audio": {"sample_rate": RATE}, "scl": PLAIN, **changes})
    return config


def run_with(files: Sequence[Path], *, loss: bool = True, **config: Any) -> RunFacts:
    """Return facts of a run that trains on these files, and on 20 sound ones."""
    folder = files[0].parent if files else Path()
    sound = [write(folder, f"sound{take}.wav") for take in range(20)]
    return facts(
        config=config_with(**config),
        consistency=loss_on() if loss else None,
        train_samples=samples_of(*sound, *files),
    )


def silent(run: RunFacts) -> bool:
    checks: tuple[Callable[[Any], list[Finding]], ...] = (
        recordings.check_recordings,
        recordings.check_sample_rate,
        recordings.check_segment_length,
        audio.check_audio,
    )
    return all(check(run) == [] for check in checks)


# --- what Coqui reads -------------------------------------------------------------------------------------------------


def test_files_that_coqui_reads_whatever_their_names(tmp_path: Path) -> None:
    files = [
        write(tmp_path, "24.wav", subtype="PCM_24"),
        write(tmp_path, "8.wav", subtype="PCM_U8"),
        write(tmp_path, "float.wav", subtype="FLOAT"),
        write(tmp_path, "upper.WAV"),
        write(tmp_path, "speech.flac"),
        write(tmp_path, "speech.mp3"),
    ]
    write(tmp_path, "of.flac").replace(tmp_path / "flac named.wav")
    write(tmp_path, "of.mp3").replace(tmp_path / "mp3 named.wav")
    assert silent(run_with([*files, tmp_path / "flac named.wav", tmp_path / "mp3 named.wav"]))


Broken = Callable[[Path], object]
PROBLEMS: Mapping[str, tuple[str, Broken, tuple[str, ...]]] = {
    "not there": ("gone.wav", lambda path: None, ("does not exist",)),
    "a folder": ("folder.wav", Path.mkdir, ("does not name a file", "Name files")),
    "text": ("text.wav", lambda path: path.write_text("hello"), ("is not readable audio",)),
    "nothing": ("nothing.wav", lambda path: path.write_bytes(b""), ("is empty",)),
    "a pointer": (
        "lfs.wav",
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        ("is not readable audio", "pointers of Git LFS"),
    ),
    "a web page": ("page.wav", lambda path: path.write_text("<!DOCTYPE html>"), ("not readable audio", "web pages")),
    "M4A by another name": ("a.wav", lambda path: path.write_bytes(b"\0\0\0 ftypM4A " + bytes(50)), ("MP4 or M4A",)),
    "a note of macOS": ("._a.wav", lambda path: path.write_bytes(b"\0\5\x16\7" + bytes(50)), ("notes of macOS",)),
    "a link to nothing": ("link.wav", lambda path: path.symlink_to("/nowhere/a.wav"), ("exist", "symbolic links")),
    "no samples": ("empty.wav", lambda path: write(path.parent, path.name, SPEECH[:0]), ("is empty",)),
    "ogg": (
        "a.ogg",
        lambda path: write(path.parent, path.name),
        ("training (.ogg;", "wav, flac, mp3"),
    ),
    "no ending": ("a", lambda path: write(path.parent, "a.wav").replace(path), ("training (no ending;",)),
    "another case": ("SOUND3.wav", lambda path: None, ("does not exist", "upper or lower case")),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_file_that_coqui_leaves_out_or_fails_on(name: str, tmp_path: Path) -> None:
    file, make, words = PROBLEMS[name]
    make(tmp_path / file)
    run = run_with([tmp_path / file])
    (finding,) = recordings.check_recordings(run)
    said = f"{finding.found} {finding.change}"
    assert [word for word in ("1 of 21 recordings", file, *words) if word not in said] == [], said
    assert finding.is_error
    (without,) = recordings.check_recordings(dataclasses.replace(run, consistency=None))
    assert not without.is_error
    assert audio.check_audio(run) == recordings.check_sample_rate(run) == []


def test_a_file_that_this_user_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_with([write(tmp_path, "closed.wav")])
    monkeypatch.setattr(headers.os, "access", lambda path, mode: "closed" not in path)
    (finding,) = recordings.check_recordings(run)
    assert "1 of 21 recordings may not be read by this user" in finding.found
    assert "permissions" in finding.change


def test_files_with_one_cause_are_one_finding(tmp_path: Path) -> None:
    files = [write(tmp_path, f"{take}.{ending}") for take, ending in enumerate(("ogg", "ogg", "aiff"))]
    (tmp_path / "x.wav").write_text("x")
    found = [finding.found for finding in recordings.check_recordings(run_with([*files, tmp_path / "x.wav"]))]
    assert len(found) == 2
    assert [text for text in found if "3 of 24 recordings" in text and ".aiff, .ogg" in text]
    assert [text for text in found if "1 of 24 recordings" in text and "x.wav" in text]


def test_all_recordings_of_a_format_that_soundfile_does_not_know(tmp_path: Path) -> None:
    source, file = write(tmp_path, "a.wav", rate=44_100), tmp_path / "a.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, "-c:a", "aac", file], check=True)
    run = dataclasses.replace(run_with([file]), train_samples=samples_of(file), consistency=None)
    (ending,) = recordings.check_recordings(run)
    assert ending.is_error  # even without the loss, nothing is left
    assert ".m4a" in ending.found
    (rate,) = recordings.check_sample_rate(run)
    assert "44100 Hz" in rate.found
    assert "length" not in ending.found + rate.found


# --- their samples ----------------------------------------------------------------------------------------------------


NAN = SPEECH.copy()
NAN[100] = np.nan
DEFECTS: Mapping[str, tuple[Samples, str | None, bool, str]] = {
    "two channels": (np.stack([SPEECH, SPEECH], 1), None, True, "has 2 channels, on which Coqui's batches fail"),
    "six channels": (np.stack([SPEECH] * 6, 1), None, True, "has 6 channels"),
    "beyond 1": (30 * SPEECH, "FLOAT", True, "outside of [-1, 1]"),
    "not a number": (NAN, "FLOAT", True, "not finite"),
    "beyond 1 and an offset": (30 * SPEECH + 9, "FLOAT", True, "outside of [-1, 1]"),
    "packed": (SPEECH, "IMA_ADPCM", True, "compressed samples (IMA_ADPCM)"),
    "silence": (0 * SPEECH, None, False, "is silent"),
    "clipped": (np.clip(40 * SPEECH, -1, 1), None, False, "is clipped"),
    "an offset": (SPEECH + 0.2, None, False, "constant offset"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_samples_with_a_defect(name: str, tmp_path: Path) -> None:
    samples, subtype, is_error, words = DEFECTS[name]
    run = run_with([write(tmp_path, "odd.wav", samples, subtype=subtype)])
    (finding,) = audio.check_audio(run)
    assert words in finding.found
    assert "1 of 21 recordings" in finding.found
    assert "odd.wav" in finding.found
    assert finding.is_error is is_error
    assert recordings.check_recordings(run) == []


def test_recordings_that_end_too_early(tmp_path: Path) -> None:
    wav, flac = write(tmp_path, "cut.wav"), write(tmp_path, "cut.flac")
    for path in (wav, flac):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    short, broken = audio.check_audio(run_with([wav, flac]))
    assert ("cut.wav" in short.found, "header" in short.found, short.is_error) == (True, True, False)
    assert ("cut.flac" in broken.found, "run would end" in broken.found, broken.is_error) == (True, True, True)


def test_a_wav_file_that_was_written_as_a_stream_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path, "stream.wav")
    content = bytearray(path.read_bytes())
    content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(content))
    assert audio.check_audio(run_with([path])) == []


def test_only_some_of_many_recordings_are_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_MAX_HEARD", 5)
    heard: list[str] = []
    own = audio.hear
    monkeypatch.setattr(audio, "hear", lambda header: heard.append(header.path) or own(header))
    odd = write(tmp_path, "odd.wav", 30 * SPEECH, subtype="FLOAT")
    (finding,) = audio.check_audio(run_with([odd]))  # formats that can be beyond 1 are heard for themselves
    assert len(heard) == 6
    assert "1 of 6 recordings" in finding.found
    assert "6 of 21 were inspected" in finding.found


# --- headers ----------------------------------------------------------------------------------------------------------


def test_each_header_is_read_once_for_all_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    own = headers.read_header
    monkeypatch.setattr(headers, "read_header", lambda path: read.append(path) or own(path))
    run = run_with([write(tmp_path, "a.wav")])
    for _ in range(2):
        assert silent(run)
    assert len(read) == len(set(read)) == 21
    assert run.headers.of(run.train_samples or ())[-1] == headers.Header(
        str(tmp_path / "a.wav"), "", RATE, 1, RATE, "PCM_16"
    )


def test_many_headers_show_how_far_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert silent(run_with([write(tmp_path, "a.wav")]))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(headers, "_MIN_FILES_SHOWN", 20)
    assert silent(run_with([write(tmp_path, "a.wav")]))
    shown = capsys.readouterr()
    assert "21/21" in shown.err
    assert shown.out == ""


# --- rates and lengths ------------------------------------------------------------------------------------------------


def test_rates_are_counted(tmp_path: Path) -> None:
    files = [write(tmp_path, f"{take}.wav", rate=rate) for take, rate in enumerate((8_000, 44_100, 44_100))]
    (finding,) = recordings.check_sample_rate(run_with(files, loss=False))
    assert "3 of 23 recordings" in finding.found
    assert "1 has 8000 Hz" in finding.found
    assert "2 have 44100 Hz" in finding.found
    assert "0.wav" in finding.found


@pytest.mark.parametrize(("least", "status"), [(0, None), (12_000, None), (15_000, "warning"), (99_000, "error")])
def test_recordings_that_are_left_out_for_their_length(least: int, status: str | None, tmp_path: Path) -> None:
    """Of 20 recordings of a second, 4 that are half a second long, and 24 of 14,000 samples."""
    short = [write(tmp_path, f"{take}.wav", SPEECH[: 8_000 if take < 4 else 14_000]) for take in range(28)]
    findings = recordings.check_recordings(run_with(short, min_audio_len=least))
    assert [finding.is_error for finding in findings] == {None: [], "warning": [False], "error": [True]}[status]
    if findings:
        assert ("28 of the 48" if status == "warning" else "None of the 48") in findings[0].found
        assert "8000 to 16000 samples" in findings[0].change


@pytest.mark.parametrize(("batch", "group", "short", "warns"), [(4, 0, 1, True), (2, 0, 2, False), (2, 9, 2, True)])
def test_short_recordings_matter_by_the_batches_that_they_are_in(
    batch: int, group: int, short: int, warns: bool, tmp_path: Path
) -> None:
    files = [write(tmp_path, f"{take}.wav", SPEECH[:2_000]) for take in range(short)]
    run = run_with(files, loss=False, batch_size=batch, batch_group_size=group)
    findings = recordings.check_segment_length(dataclasses.replace(run, segment_seconds=0.25))
    assert [finding.is_error for finding in findings] == [False] * warns
    assert not warns or "padded with zeros" in findings[0].found
    assert recordings.check_segment_length(dataclasses.replace(run, segment_seconds=0.125)) == []


def test_what_cannot_be_evaluated_with_is_said_by_its_cause(tmp_path: Path) -> None:
    def refuse() -> int:
        raise RuntimeError("No samples left.")

    run = run_with([write(tmp_path, "a.wav")])
    run.config.run_eval = True
    for file, word, not_said in (("b.ogg", "an ending", "min_audio_len"), ("b.wav", "No samples left", "ending")):
        ended = dataclasses.replace(run, eval_samples=samples_of(write(tmp_path, file)), count_eval_batches=refuse)
        (finding,) = recordings.check_evaluation_set(ended)
        assert word in finding.found
        assert not_said not in f"{finding.found} {finding.change}"


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "status", "words"),
    [
        (
            Texts("d", "ru", 50, 100, {"я": 60, "ё": 40}),
            True,
            "100.0% of the characters of the data set 'd' (language",
        ),
        (Texts("d", "ru", 50, 100, {"я": 60, "ё": 40}), True, "nothing of the text is left: 'я' (60), 'ё' (40)"),
        (Texts("d", "", 50, 100, {"x": 90}), True, "only 10.0%"),
        (Texts("d", "", 50, 100, {"x": 2, "\u0301": 3}), False, "95.0% of the text is left: U+0301 (3), 'x' (2)"),
        (Texts("d", "", 50, 100, {"x": 1}), None, ""),
        (Texts("d", "", 50, 100, {}, emptied=["d#1"]), False, "Of 1 text of the data set 'd', nothing is left"),
        (
            Texts("d", "", 50, 100, {}, overlong=["d#1"], tokens={"d#long": 401}),
            False,
            "1 text of the data set 'd' has at most",
        ),
        (Texts("d", "", 9, 100, {}, overlong=["d#1"], tokens={"d#long": 401}), True, "more tokens"),
    ],
)
def test_what_is_left_of_texts(known: Texts, status: bool | None, words: str) -> None:
    findings = texts.check_alphabet(facts(read_texts=lambda: [known]))
    assert [finding.is_error for finding in findings] == ([] if status is None else [status])
    assert all(words in finding.found for finding in findings)


@pytest.mark.parametrize(
    ("tokens", "encoder_rate", "is_error"),
    [(62, None, None), (63, None, False), (31, 8_000, None), (32, 8_000, False)],  # 1 s at 16 kHz has 62 hops of 256
)
def test_a_text_needs_a_frame_for_each_token(
    tmp_path: Path, tokens: int, encoder_rate: int | None, is_error: bool | None
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    config = SclVitsConfig()
    config.audio.sample_rate, config.model_args.encoder_sample_rate = 16_000, encoder_rate
    sample = {"audio_file": str(tmp_path / "a.wav"), "audio_unique_name": "d#a", "text": "a", "speaker_name": "a"}
    known = Texts("d", "", 1, 9, {}, tokens={"d#a": tokens})
    found = texts.check_text_length(facts(config=config, train_samples=[sample], read_texts=lambda: [known]))
    assert [finding.is_error for finding in found] == ([] if is_error is None else [is_error])
    assert all(f"'d#a' has {tokens} tokens and {tokens - 1} frames" in finding.found for finding in found)


@pytest.mark.parametrize(
    ("tokens", "least", "is_error"), [(620, 1, [False]), (621, 1, [True]), (9_000, 1, [True]), (9_000, 20_000, [])]
)
def test_a_text_that_could_take_all_memory_ends_a_run_unless_coqui_leaves_it_out(
    tmp_path: Path, tokens: int, least: int, is_error: list[bool]
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    sample = {"audio_file": str(tmp_path / "a.wav"), "audio_unique_name": "d#0", "text": "a", "speaker_name": "a"}
    known = Texts("d", "", 200, 9, {}, tokens={f"d#{index}": 1 for index in range(1, 200)} | {"d#0": tokens})
    config = SclVitsConfig(min_audio_len=least)
    found = texts.check_text_length(facts(config=config, train_samples=[sample], read_texts=lambda: [known]))
    assert [finding.is_error for finding in found] == is_error
