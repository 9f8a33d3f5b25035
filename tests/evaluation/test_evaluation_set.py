import csv
import os
from pathlib import Path

import pytest
import soundfile

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.evaluation_set import (
    evaluation_set_from_folders,
    evaluation_set_from_pairs,
    first_of_each_speaker,
)
from coqui_scl_plugin.references.recordings import Recording


def touch(folder, *names):
    """Nothing listens to the files here."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.fixture
def pairs(tmp_path):
    """Writes a list, and says what it holds."""
    touch(tmp_path, "a1.wav", "a2.wav", "b1.wav", "made/x.wav", "made/y.wav", "made/z.wav")

    def make(text, encoding="utf-8"):
        (tmp_path / "list.csv").write_text(text, encoding=encoding)
        return evaluation_set_from_pairs(tmp_path / "list.csv")

    return make


# --- a list of pairs --------------------------------------------------------------------------------------------------


def test_pairs_may_say_what_is_said(pairs):
    columns = "reference,synthetic,speaker,text,language,reference_text\n"
    found = pairs(
        f"{columns}a1.wav,made/x.wav,ann,Olá!,pt-br,Sim\na1.wav,made/y.wav,ann,,,Sim\nb1.wav,made/z.wav,bob\n"
    )
    assert [(one.text, one.language) for one in found.synthetic] == [("Olá!", "pt-br"), ("", ""), ("", "")]
    assert [(one.text, one.language) for one in found.real] == [("Sim", "pt-br"), ("", "")]


def test_a_recording_says_one_text(pairs):
    columns = "reference,synthetic,speaker,reference_text\n"
    found = pairs(f"{columns}a1.wav,made/x.wav,ann,Yes\na1.wav,made/y.wav,ann,No\n")
    assert [one.where for one in found.left_out] == ["list.csv, line 3"]
    assert "a1.wav says 'Yes' in line 2 and 'No' here" in found.left_out[0].problem
    assert [one.name for one in found.synthetic] == ["made/x.wav"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    "text",
    [
        "reference,synthetic,speaker\na1.wav,made/x.wav,ann\na1.wav,made/y.wav,ann\nb1.wav,made/z.wav,bob\n",
        "speaker,note,synthetic,reference\nann,,made/x.wav,a1.wav\nann,!,made/y.wav,a1.wav\nbob,,made/z.wav,b1.wav\n",
        "reference, synthetic, speaker\r\na1.wav, made/x.wav, ann \r\n\r\na1.wav, made/y.wav, ann\r\n"
        '"b1.wav", "made/z.wav", bob',
    ],
)
def test_pairs_in_columns_of_any_order(pairs, tmp_path, text, encoding):
    evaluation_set = pairs(text, encoding)
    assert evaluation_set.label == "list"
    assert evaluation_set.source == {"pairs": str(tmp_path / "list.csv")}
    assert evaluation_set.speakers == ["ann", "bob"]
    assert [(r.path, r.speaker) for r in evaluation_set.real] == [
        (tmp_path / "a1.wav", "ann"),
        (tmp_path / "b1.wav", "bob"),
    ]
    names = {recording.name: recording for recording in evaluation_set.real}
    assert [(s.path, s.speaker, names[s.reference].path) for s in evaluation_set.synthetic] == [
        (tmp_path / "made" / "x.wav", "ann", tmp_path / "a1.wav"),
        (tmp_path / "made" / "y.wav", "ann", tmp_path / "a1.wav"),
        (tmp_path / "made" / "z.wav", "bob", tmp_path / "b1.wav"),
    ]


def test_paths_are_relative_to_the_list_wherever_one_is(pairs, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    evaluation_set = pairs(f"reference,synthetic,speaker\n{tmp_path / 'a1.wav'},elsewhere/../made/x.wav,ann\n")
    assert all(recording.path.is_file() for recording in [*evaluation_set.real, *evaluation_set.synthetic])


UNUSABLE = {
    "no file": ("gone.wav,made/y.wav,ann", ["gone.wav: there is no such file", "relative to the folder"]),
    "no synthetic file": ("a1.wav,made/gone.wav,ann", ["gone.wav: there is no such file"]),
    "backslash": (r"a1.wav,made\y.wav,ann", ["made\\y.wav: there is no such file; separate folders by /"]),
    "folder": ("made,made/y.wav,ann", ["made: a folder, not a file"]),
    "device": ("/dev/zero,made/y.wav,ann", ["/dev/zero: a pipe or a device, not a file"]),
    "link": ("dangling.wav,made/y.wav,ann", ["dangling.wav: a link to nowhere.wav, which does not exist"]),
    "loop": ("loop.wav,made/y.wav,ann", ["loop.wav: cannot be opened: Too many levels"]),
    "pipe": ("pipe.wav,made/y.wav,ann", ["pipe.wav: a pipe or a device"]),
    "name too long": (f"a1.wav,{'n' * 300},ann", ["characters)", "File name too long"]),
    "path too long": (f"a1.wav,{'n/' * 3000}x.wav,ann", ["characters)", "File name too long"]),
    "NUL": ("a1.wav,made\0/y.wav,ann", ["synthetic holds a NUL character"]),
    "line end": ('a1.wav,"made\n/y.wav",ann', [r"made\n/y.wav: there is no such file"]),
    "no speaker": ("a1.wav,made/y.wav,", ["speaker: not given", "must all be given"]),
    "no synthetic": ("a1.wav,,ann", ["synthetic: not given"]),
    "too few": ("a1.wav,made/y.wav", ["speaker: not given"]),
    "too many": ("a1.wav,made/y.wav,ann,Hello, world", ["5 values for 4 columns", "quotation marks"]),
    "two speakers": ("a1.wav,made/y.wav,bob", ["a1.wav belongs to 'ann' in line 2 and to 'bob' here"]),
    "twice": ("a2.wav,made/x.wav,ann", ["made/x.wav is already listed in line 2"]),
    "the same again": ("a1.wav,made/x.wav,ann", ["made/x.wav is already listed in line 2"]),
    "long text": (f"a1.wav,made/y.wav,ann,{'t' * 200_000}", ["text has 200000 characters, more than 10000"]),
    "long quoted text": (f'a1.wav,made/y.wav,ann,"{"t" * 200_000}"', ["text has 200000 characters"]),
    "long name": (f"a1.wav,{'t' * 200_000},ann", ["synthetic has 200000 characters"]),
    "long speaker": (f"a1.wav,made/y.wav,{'s' * 201}", ["speaker has 201 characters, more than 200"]),
    "unpaired quote": ('a1.wav,"made/y.wav,ann', ["a quotation mark lacks its pair", "next line"]),
    "two unpaired quotes": ('a1.wav,"made/y.wav,ann\na1.wav,"made/y.wav,ann', ["a quotation mark lacks its pair"]),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_pair_that_cannot_be_used_is_left_out_alone(pairs, tmp_path, kind):
    (tmp_path / "dangling.wav").symlink_to("nowhere.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    row, parts = UNUSABLE[kind]
    before = csv.field_size_limit()
    found = pairs(f"reference,synthetic,speaker,text\na1.wav,made/x.wav,ann\n{row}\nb1.wav,made/z.wav,bob,last\n")
    assert csv.field_size_limit() == before
    assert [(one.name, one.speaker) for one in found.real] == [("a1.wav", "ann"), ("b1.wav", "bob")]
    assert [(one.name, one.text) for one in found.synthetic] == [("made/x.wav", ""), ("made/z.wav", "last")]
    assert [one.where for one in found.left_out] == [f"list.csv, line {3 + n}" for n in range(1 + ("two un" in kind))]
    for one in found.left_out:
        assert len(one.problem) < 450
        assert [part for part in parts if part not in one.problem] == []


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([], ["no synthetic speech"]),
        (["a1.wav,made/gone.wav,ann"], ["line 2", "gone.wav: there is no such file"]),
        (["gone.wav,made/x.wav,ann", "a1.wav,,ann"], ["line 2", "gone.wav", "None of the other 1 pairs"]),
    ],
)
def test_a_list_without_a_pair_that_can_be_used(pairs, rows, parts):
    with pytest.raises(ConfigError) as refused:
        pairs("\n".join(["reference,synthetic,speaker", *rows]) + "\n")
    for part in ["list", *parts]:
        assert part in str(refused.value)


@pytest.mark.parametrize(
    "text", ['a1.wav,"made/x.wav" ,ann', '"a1.wav","made/x.wav",ann,,,', "\n\na1.wav,made/x.wav,ann"]
)
def test_rows_that_are_clear_are_taken_as_they_are(pairs, text):
    found = pairs(f"reference,synthetic,speaker\r\n{text}\r\n")
    assert [one.name for one in found.synthetic] == ["made/x.wav"]
    assert found.left_out == found.remarks == []


def test_a_text_of_several_lines_is_one_row(pairs):
    found = pairs(
        'reference,synthetic,speaker,text\na1.wav,made/x.wav,ann,"one ""1""\ntwo"\nb1.wav,made/z.wav,bob,6" tall\n'
    )
    assert [(one.text, one.where) for one in found.synthetic] == [('one "1"\ntwo', "line 2"), ('6" tall', "line 4")]


def test_columns_that_are_not_used_are_named(pairs):
    found = pairs("reference,synthetic,speaker,txet\na1.wav,made/x.wav,ann,Hello\n")
    assert found.remarks == ["list.csv: not used: txet. Did you mean 'text'? Known: language, reference_text, text."]


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("reference,speaker\na1.wav,ann\n", "synthetic"),
        ("a1.wav,made/x.wav,ann\n", "reference, speaker, synthetic"),
        ("reference|synthetic|speaker\na1.wav|made/x.wav|ann\n", "reference, speaker, synthetic"),
        ("", "reference, speaker, synthetic"),
    ],
)
def test_pairs_without_their_columns(pairs, text, lacks):
    with pytest.raises(ConfigError, match=f"lacks {lacks}; it must name reference,synthetic,speaker"):
        pairs(text)


def test_a_list_that_is_not_there(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path, why in {
        tmp_path / "gone.csv": "no such file",
        tmp_path: "a folder",
        tmp_path / "pipe.csv": "a pipe",
        tmp_path / ("n" * 300): "File name too long",
        Path("/dev/zero"): "a device",
    }.items():
        with pytest.raises(ConfigError, match=why) as refused:
            evaluation_set_from_pairs(path)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (
            "reference,synthetic,speaker\na.wav,b.wav,ann\n\xe9.wav,b.wav,ann\n".encode("latin-1"),
            "line 3 holds the byte",
        ),
        ("reference,synthetic,speaker\n".encode("utf-16"), "not UTF-8"),
        ("reference,synthetic,speaker\n".encode("utf-16-le"), "looks like UTF-16"),
        (b"reference,synthetic,speaker,speaker\n", "names speaker twice"),
        (b'reference,"synthetic,speaker\n', "a quotation mark in the first line lacks its pair"),
        (b"x" * 200_000, "(200000 characters)"),
        (b"\xef\xbb\xbf\r\n\r\n", "The file is empty"),
    ],
)
def test_a_file_that_is_no_list(tmp_path, content, part):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        evaluation_set_from_pairs(tmp_path / "list.csv")
    assert part in str(refused.value)
    assert len(str(refused.value).replace(str(tmp_path), "")) < 450
    assert "\n" not in str(refused.value)


# --- two folders ------------------------------------------------------------------------------------------------------


def test_files_of_one_name_are_pairs_whatever_their_format(tmp_path):
    touch(tmp_path / "real", "ann/1.flac", "ann/2.wav", "bob/1.WAV", "bob/deep/1.ogg", "cid/1.mp3", "ann/notes.txt")
    touch(tmp_path / "made", "ann/1.wav", "ann/3.wav", "bob/1.wav", "bob/deep/1.wav", "README.md")
    evaluation_set = evaluation_set_from_folders(tmp_path / "real", tmp_path / "made")
    assert evaluation_set.label == "made"
    assert evaluation_set.source == {"real": str(tmp_path / "real"), "synthetic": str(tmp_path / "made")}
    assert evaluation_set.speakers == ["ann", "bob"]  # those that were synthesised
    assert {(r.path.relative_to(tmp_path / "real").as_posix(), r.speaker) for r in evaluation_set.real} == {
        ("ann/1.flac", "ann"), ("ann/2.wav", "ann"), ("bob/1.WAV", "bob"), ("bob/deep/1.ogg", "bob"),
        ("cid/1.mp3", "cid"),
    }  # fmt: skip
    paths = {
        recording.name: recording.path.relative_to(tmp_path / "real").as_posix() for recording in evaluation_set.real
    }
    found = {
        s.path.relative_to(tmp_path / "made").as_posix(): s.reference and paths[s.reference]
        for s in evaluation_set.synthetic
    }
    assert found == {
        "ann/1.wav": "ann/1.flac", "ann/3.wav": None, "bob/1.wav": "bob/1.WAV", "bob/deep/1.wav": "bob/deep/1.ogg"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("real", "made", "parts"),
    [
        (["ann/1.wav"], ["ann/1.wav", "2.wav"], ["--synthetic", "2.wav", "not in a speaker's folder"]),
        (["ann/1.wav", "2.wav"], ["ann/1.wav"], ["--real", "2.wav", "not in a speaker's folder"]),
        ([], ["ann/1.wav"], ["--real", "no such folder"]),
        (["ann/1.wav"], [], ["--synthetic", "no such folder"]),
        (["ann/1.wav"], ["ann/1.txt"], ["--synthetic", "contains no audio"]),
        (["ann/1.wav", "ann/1.flac"], ["ann/1.wav"], ["--real", "1.flac", "1.wav", "the same name"]),
        (["anna/1.wav", "bob/1.wav"], ["bob/1.wav", "ann/1.wav"], ["'ann'", "no real speech", "mean 'anna'?"]),
        (["zed/1.wav"], ["ann/1.wav"], ["'ann'", "no real speech", "Known: zed."]),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, real, made, parts):
    touch(tmp_path / "real", *real)
    touch(tmp_path / "made", *made)
    for folder, names in (("real", real), ("made", made)):
        if not names and (tmp_path / folder).exists():
            (tmp_path / folder).rmdir()
    with pytest.raises(ConfigError) as refused:
        evaluation_set_from_folders(tmp_path / "real", tmp_path / "made")
    for part in parts:
        assert part in str(refused.value)


@pytest.mark.parametrize("name", [b"ann/\xe9.wav", b"\xe9/1.wav"])
def test_names_that_are_no_text_are_named_all_the_same(tmp_path, name):
    for folder in ("real", "made"):
        touch(tmp_path / folder, "ann/1.wav", os.fsdecode(name))
    found = evaluation_set_from_folders(tmp_path / "real", tmp_path / "made")
    assert [one.name for one in found.synthetic] == ["ann/1"]
    for one in found.left_out:
        assert r"\udce9" in one.where
        assert "is not UTF-8" in one.problem
        one.where.encode()
    assert len(found.left_out) == 2


def test_what_cannot_be_opened_in_a_folder_is_left_out(tmp_path):
    touch(tmp_path / "real", "ann/1.wav", "bob/notes.txt")
    touch(tmp_path / "made", "ann/1.wav", "bob/1.wav")
    (tmp_path / "made" / "ann" / "folder.wav").mkdir()
    (tmp_path / "made" / "ann" / "link.wav").symlink_to("gone")
    (tmp_path / "made" / "zero.wav").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "real" / "ann" / "pipe.wav")
    found = evaluation_set_from_folders(tmp_path / "real", tmp_path / "made")
    assert [one.name for one in found.real] == [one.name for one in found.synthetic] == ["ann/1"]
    left_out = {Path(one.where).relative_to(tmp_path).as_posix(): one.problem for one in found.left_out}
    assert left_out == {
        "real/ann/pipe.wav": "a pipe or a device, not a file",
        "made/ann/folder.wav": "a folder, not a file",
        "made/ann/link.wav": "a link to gone, which does not exist",
        "made/zero.wav": "a pipe or a device, not a file",
        "made/bob/1.wav": f"{tmp_path / 'real' / 'bob'} holds no real speech that can be used to compare with",
    }


def test_folders_are_looked_up_and_not_listened_to(tmp_path):
    touch(tmp_path, "real/ann/1.wav", "made/ann/1.wav")
    with pytest.raises(soundfile.SoundFileError):
        soundfile.read(tmp_path / "real" / "ann" / "1.wav")
    assert len(evaluation_set_from_folders(tmp_path / "real", tmp_path / "made").real) == 1


# --- fewer ------------------------------------------------------------------------------------------------------------


def test_a_few_recordings_of_each_speaker_in_their_order(tmp_path):
    recordings = [Recording(str(n), tmp_path, speaker) for n, speaker in enumerate("abacaabb")]
    assert [r.name for r in first_of_each_speaker(recordings, 2)] == ["0", "1", "2", "3", "6"]
    assert first_of_each_speaker(recordings, 99) == recordings
    assert first_of_each_speaker(recordings, 0) == first_of_each_speaker([], 3) == []
