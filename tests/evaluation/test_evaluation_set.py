import os

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
    with pytest.raises(ConfigError, match=r"line 3: a1.wav says 'Yes' above and 'No' here"):
        pairs(f"{columns}a1.wav,made/x.wav,ann,Yes\na1.wav,made/y.wav,ann,No\n")


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


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (["a1.wav,made/x.wav,ann", "gone.wav,made/y.wav,ann"], ["line 3", "gone.wav", "no file"]),
        (["a1.wav,made/gone.wav,ann"], ["line 2", "gone.wav", "no file"]),
        (["made,made/x.wav,ann"], ["line 2", "no file"]),
        (["a1.wav,made/x.wav,"], ["line 2", "must all be given"]),
        (["a1.wav,,ann"], ["line 2", "must all be given"]),
        (["a1.wav,made/x.wav"], ["line 2", "must all be given"]),
        (["a1.wav,made/x.wav,ann", "a1.wav,made/y.wav,bob"], ["line 3", "a1.wav", "'ann'", "'bob'"]),
        (["a1.wav,made/x.wav,ann", "a2.wav,made/x.wav,ann"], ["line 3", "made/x.wav", "already"]),
        ([], ["no synthetic speech"]),
    ],
)
def test_pairs_that_cannot_be_used(pairs, rows, parts):
    with pytest.raises(ConfigError) as refused:
        pairs("\n".join(["reference,synthetic,speaker", *rows]) + "\n")
    for part in ["list", *parts]:
        assert part in str(refused.value)


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
    for path in (tmp_path / "gone.csv", tmp_path):
        with pytest.raises(ConfigError, match="no such file"):
            evaluation_set_from_pairs(path)


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
    with pytest.raises(ConfigError) as refused:
        evaluation_set_from_folders(tmp_path / "real", tmp_path / "made")
    assert r"\udce9" in str(refused.value)
    assert "is not UTF-8" in str(refused.value)
    str(refused.value).encode()


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
