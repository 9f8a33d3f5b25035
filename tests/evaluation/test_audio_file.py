"""What is read from files that are damaged, cut off or no audio."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from evaluation_data import syllables

from coqui_scl_plugin.evaluation.audio_file import read_audio
from coqui_scl_plugin.references.recordings import Recording

RATE = 16_000


def heard_in(path):
    return read_audio(Recording("a", path, "ann"))


def written(path, rate=RATE, **more):
    soundfile.write(path, syllables(2.0, RATE), rate, **more)
    return path


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_sound_files_have_no_problem(tmp_path, ending):
    heard = heard_in(written(tmp_path / f"a.{ending}"))
    assert (heard.problem, heard.is_read, heard.rate) == (None, True, RATE)
    assert len(heard.waveform) == pytest.approx(2 * RATE, abs=3000)


def test_a_header_without_the_length_is_no_problem(tmp_path):
    content = bytearray(written(tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    assert heard_in(tmp_path / "a.flac").problem is None
    piped = bytearray(written(tmp_path / "a.wav").read_bytes())
    piped[4:8] = piped[40:44] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(piped)
    heard = heard_in(tmp_path / "a.wav")
    assert (heard.problem, len(heard.waveform)) == (None, 2 * RATE)


@pytest.mark.parametrize(("ending", "is_read"), [("wav", True), ("mp3", True), ("flac", False)])
def test_a_file_that_is_cut_off_is_named(tmp_path, ending, is_read):
    content = written(tmp_path / f"a.{ending}").read_bytes()
    (tmp_path / f"a.{ending}").write_bytes(content[: len(content) // 2])
    heard = heard_in(tmp_path / f"a.{ending}")
    assert heard.is_read == is_read
    assert heard.problem.startswith("cut off: " if is_read else "not readable audio (")
    if ending == "wav":
        assert heard.problem == "cut off: 1.00 s of 2.00 s are there"


def test_lengths_that_only_a_header_claims_are_not_believed(tmp_path):
    content = bytearray(written(tmp_path / "a.flac").read_bytes())
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    (tmp_path / "a.flac").write_bytes(content)
    header = written(tmp_path / "a.wav").read_bytes()[:40] + (3_900_000_000).to_bytes(4, "little")
    with (tmp_path / "a.wav").open("wb") as stream:
        stream.write(header)
        stream.truncate(3_900_000_000)
    slow = written(tmp_path / "slow.wav", rate=1)
    for path in (tmp_path / "a.flac", tmp_path / "a.wav", slow):
        heard = heard_in(path)
        assert not heard.is_read
        assert heard.problem.startswith("longer than 3600 s (")


def test_what_is_no_audio_is_named(tmp_path):
    (tmp_path / "text.wav").write_text("hello\n" * 100)
    (tmp_path / "noise.wav").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "nothing.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "link.wav").symlink_to("gone.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    problems = {
        tmp_path / "text.wav": "not readable audio (Error opening ",
        tmp_path / "noise.wav": "not readable audio (Error opening ",
        tmp_path / "nothing.wav": "empty",
        tmp_path / "folder.wav": "not readable: a folder",
        tmp_path / "link.wav": "not readable: a link to gone.wav",
        tmp_path / "pipe.wav": "not readable: a pipe",
        tmp_path / "gone.wav": "not readable: there is no such file",
        tmp_path / f"{'n' * 300}.wav": "not readable: cannot be opened: File name too long",
        tmp_path / "a\0.wav": "not readable: no file can have this name",
        tmp_path / "\ud800.wav": "not readable: no file can have this name",
        Path("/dev/zero"): "not readable: a pipe or a device",
    }
    for path, problem in problems.items():
        heard = heard_in(path)
        assert heard.problem.startswith(problem), heard.problem
        assert len(heard.waveform) == 0
        assert len(heard.problem) < 300
        assert "\n" not in heard.problem
