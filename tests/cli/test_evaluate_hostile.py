"""`coqui-scl evaluate` on real speech, by real encoders, with pairs and recordings that are damaged or odd."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile
from command_driver import Command, run_commands

RATE = 16_000
QUICK = ("--resamples", "99", "--encoder", "ge2e")
SPEAKERS = 3


def write(path, samples, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT")


def strict_json(text):
    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def voices(libri10, tmp_path_factory):
    """Two recordings of a second of three speakers, as real speech and, quieter, as synthetic speech."""
    folder, rows = tmp_path_factory.mktemp("hostile"), []
    found = {}
    for path in sorted(libri10.glob("*/*")):
        found.setdefault(path.parent.name, []).append(path)
    for speaker, paths in [*found.items()][:SPEAKERS]:
        for number, path in enumerate(paths[:2]):
            samples = soundfile.read(path, frames=2 * RATE)[0][RATE:]
            write(folder / "real" / speaker / f"{number}.wav", samples)
            write(folder / "made" / speaker / f"{number}.wav", 0.5 * samples)
            rows.append(f"real/{speaker}/{number}.wav,made/{speaker}/{number}.wav,{speaker}")
    (folder / "good.csv").write_text("\n".join(["reference,synthetic,speaker", *rows, ""]))
    return folder, rows, samples, speaker


HEARD = {  # recordings, with what is said of them; all are left out
    "nan.wav": "not finite: 1 of 16000 samples NaN or infinite, the first at 0.500 s",
    "inf.wav": "not finite: 1 of 16000 samples",
    "nan_channel.wav": "not finite: 16000 of 16000",
    "louder_than_float.wav": "far beyond full scale: its peak is 3e+38, and should be at most 1",
    "empty.wav": "empty",
    "odd_rate.wav": "not embedded by ge2e: 44101 Hz cannot be resampled to 16000 Hz",
    "highest_rate.wav": "shorter than 0.05 s, and not embedded by ge2e: 2147483647 Hz cannot be resampled",
    "slowest.wav": "longer than 3600 s (16000 s by its header): cut it",
    "cut.flac": "not readable audio (",
    "text.wav": "not readable audio (Error opening",
    "nothing.wav": "empty",
}


def write_hostile(folder, samples):
    for name, wrong in (("nan", np.nan), ("inf", -np.inf)):
        write(folder / f"{name}.wav", np.where(np.arange(len(samples)) == RATE // 2, wrong, samples))
    write(folder / "nan_channel.wav", np.stack([samples] * 7 + [samples * np.nan], axis=1))
    write(folder / "louder_than_float.wav", samples / np.abs(samples).max() * 3e38)
    write(folder / "empty.wav", samples[:0])
    for name, rate in {"odd_rate": 44_101, "highest_rate": 2**31 - 1, "slowest": 1}.items():
        write(folder / f"{name}.wav", samples, rate)
    soundfile.write(folder / "cut.flac", samples, RATE)
    whole = (folder / "cut.flac").read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (folder / "text.wav").write_text("hello")
    (folder / "nothing.wav").touch()
    write(folder / "fine.wav", samples)


LISTED = {  # values of `synthetic`, with what is said of the pair
    "gone.wav": "there is no such file",
    "n" * 300: "File name too long",
    "l" * 200_000: "synthetic has 200000 characters, more than 10000",
    "nul\0.wav": "synthetic holds a NUL character",
    '"line\nend.wav"': r"line\nend.wav: there is no such file",
    "/dev/zero": "a pipe or a device, not a file",
    "pipe.wav": "a pipe or a device, not a file",
    "real": "a folder, not a file",
    "": "must all be given",
    '"fine.wav': "a quotation mark lacks its pair",
    "fine.wav,a,b": "values for 3 columns",
}


@pytest.fixture(scope="module")
def outcomes(voices):
    folder, rows, samples, speaker = voices
    write_hostile(folder, samples)
    os.mkfifo(folder / "pipe.wav")
    reference = rows[-1].split(",")[0]
    bad = [f"{reference},{name},{speaker}" for name in (*HEARD, *LISTED)]
    lines = ["reference,synthetic,speaker", *rows[:2], *bad, *rows[2:], ""]
    (folder / "hostile.csv").write_text("\r\n".join(lines), encoding="utf-8-sig", newline="")
    odd = folder / "made" / speaker
    for name in ("nan.wav", "text.wav"):
        shutil.copy(folder / name, odd / name)
    (odd / "folder.wav").mkdir()
    (odd / "link.wav").symlink_to("gone.wav")
    (odd / os.fsdecode(b"\xe9.wav")).touch()
    os.mkfifo(odd / "pipe.wav")
    (folder / "unread.csv").write_text(f"reference,synthetic,speaker\n{reference},text.wav,{speaker}\n")
    runs = {
        "good": ("--pairs", "good.csv", *QUICK, "--encoder", "dvector"),
        "hostile": ("--pairs", "hostile.csv", *QUICK, "--encoder", "dvector"),
        "folders": ("--real", "real", "--synthetic", "made", *QUICK),
        "unread": ("--pairs", "unread.csv", *QUICK),
        "a long name": ("--pairs", "n" * 300, *QUICK),
        "a long run": ("n" * 300,),
    }
    commands = {name: Command(folder, ["evaluate", *some, "--out", f"out/{name}"]) for name, some in runs.items()}
    commands["a long out"] = Command(folder, ["evaluate", *runs["good"], "--out", "n" * 300])
    return folder, run_commands(commands)


def test_only_what_is_bad_is_left_out_and_all_of_it_is_said(outcomes):
    folder, found = outcomes
    assert found["hostile"].status == found["good"].status == 0, found["hostile"].err
    assert "Traceback" not in found["hostile"].err + found["hostile"].out
    results = strict_json((folder / "out/hostile/results.json").read_text())
    good = strict_json((folder / "out/good/results.json").read_text())
    assert {path.name for path in (folder / "out/hostile").iterdir()} == {"results.json", "report.html", "trials.csv"}
    assert results["encoders"] == good["encoders"]
    printed, report = " ".join(found["hostile"].out.split()), (folder / "out/hostile/report.html").read_text()
    for line, (name, problem) in enumerate(HEARD.items(), 4):
        notes = [note for note in results["warnings"] if f"recording {name} of" in note]
        assert len(notes) == 1
        assert f"(line {line}) is {problem}" in notes[0]
        assert notes[0].endswith("It is left out: repair or replace it.")
        assert " ".join(f"Note: {notes[0]}".split()) in printed
    places = [place for place in range(4 + len(HEARD), 5 + len(HEARD) + len(LISTED)) if place != 20]
    assert [one["where"] for one in results["left_out"]] == [f"hostile.csv, line {place}" for place in places]
    for one, problem in zip(results["left_out"], LISTED.values(), strict=True):
        assert problem in one["problem"]
        assert f"{one['where']} is left out: {one['problem']}." in results["warnings"]
        assert one["where"] in report
    assert max(len(note) for note in results["warnings"]) < 500
    assert "l" * 201 not in printed


def test_folders_with_what_is_no_recording(outcomes):
    folder, found = outcomes
    assert found["folders"].status == 0, found["folders"].err
    results = strict_json((folder / "out/folders/results.json").read_text())
    good = strict_json((folder / "out/good/results.json").read_text())
    assert results["encoders"]["ge2e"] == good["encoders"]["ge2e"]
    assert len(results["left_out"]) == 4
    for part in ("folder.wav", "link.wav", r"\udce9.wav", "pipe.wav"):
        assert [part in one["where"] for one in results["left_out"]].count(True) == 1
    for part in ("/nan of", "/text of"):
        assert [part in note for note in results["warnings"]].count(True) == 1


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("unread", ["none of the 1 synthetic recordings can be evaluated", "text.wav", "not readable audio"]),
        ("a long name", ["--pairs", "(300 characters)", "File name too long"]),
        ("a long run", ["(300 characters)", "File name too long"]),
        ("a long out", ["--out", "(300 characters)", "File name too long"]),
    ],
)
def test_what_cannot_be_used_as_a_whole_is_one_message(outcomes, name, parts):
    outcome = outcomes[1][name]
    outcome.assert_one_message(parts)
    assert (outcome.status, outcome.changed) == (2, [])
    assert "n" * 201 not in outcome.err
