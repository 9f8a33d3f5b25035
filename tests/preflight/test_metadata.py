"""What the check `metadata` says of tables, as Coqui's own formatters read them: cause, place, and silence."""

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.coqui.listing import list_datasets
from coqui_scl_plugin.coqui.samples import list_samples
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.listing import Listing
from coqui_scl_plugin.preflight.metadata import check_metadata, is_misread
from coqui_scl_plugin.preflight.missing_files import why_missing
from coqui_scl_plugin.preflight.report import Finding

HEADER = "audio_file|text|speaker_name\n"
ROWS = tuple(f"{take}.wav|text {take}|{'ab'[take % 2]}\n" for take in range(6))
TABLE = HEADER + "".join(ROWS)
LJSPEECH = "".join(f"{take}|raw|text {take}\n" for take in range(6))
COMMON_VOICE = "client_id\tpath\tsentence\n" + "".join(f"s{take % 2}\t{take}.wav\ttext\n" for take in range(6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with recordings 0 to 5, at the top, in `wavs` and in `clips`, and some with odd names."""
    folder = tmp_path_factory.mktemp("data")
    for part in (folder, folder / "wavs", folder / "clips"):
        part.mkdir(exist_ok=True)
        for take in range(6):
            soundfile.write(part / f"{take}.wav", np.zeros(160), 16_000)
    for name in (unicodedata.normalize("NFD", "clés.wav"), "BIG.wav", "other.flac"):
        (folder / name).write_bytes((folder / "0.wav").read_bytes())
    (folder / "link.ogg").symlink_to("/nowhere/a.wav")
    return folder


def config_of(folder: Path, content: str | bytes, formatter: str = "coqui", **more: Any) -> SclVitsConfig:
    (folder / "table.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    entry = {"formatter": formatter, "dataset_name": "d", "path": str(folder), "meta_file_train": "table.csv"}
    config = SclVitsConfig()
    config.from_dict({"datasets": [entry | more], "use_speaker_embedding": True})
    return config


def findings_of(folder: Path, content: str | bytes, formatter: str = "coqui", **more: Any) -> list[Finding]:
    config = config_of(folder, content, formatter, **more)
    return check_metadata(ConfigFacts(config=config, list_datasets=lambda: list_datasets(config)))


def row(number: int, text: str) -> str:
    """Return the table with another row at this place."""
    return HEADER + "".join(text if take == number else line for take, line in enumerate(ROWS))


SOUND: Mapping[str, tuple[str | bytes, str]] = {
    "as it should be": (TABLE, "coqui"),
    "line ends of Windows": (TABLE.replace("\n", "\r\n"), "coqui"),
    "line ends of old Macs": (TABLE.replace("\n", "\r"), "coqui"),
    "no line end at the end": (TABLE.rstrip("\n"), "coqui"),
    "a pipe in quotes": (row(2, '2.wav|"a|b"|a\n'), "coqui"),
    "a line end in quotes": (row(2, '2.wav|"a\nb"|a\n'), "coqui"),
    "quotes within a text": (row(2, '2.wav|he said "no" and "yes|a\n'), "coqui"),
    "a row twice": (TABLE + ROWS[1], "coqui"),
    "no speakers": ("audio_file|text\n0.wav|text\n1.wav|text\n", "coqui"),
    "ljspeech": (LJSPEECH, "ljspeech"),
    "ljspeech with a quote": (LJSPEECH.replace("text 3", '"text 3'), "ljspeech"),
    "common_voice": (COMMON_VOICE, "common_voice"),
    "thorsten": ("0|text\n1|text\n", "thorsten"),
    "thorsten with a third column": (LJSPEECH, "thorsten"),
    "custom_turkish": ("0|text\n1|text\n", "custom_turkish"),
    "css10": ("0.wav|text\n1.wav|text\n", "css10"),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_table_is_silent(name: str, folder: Path) -> None:
    content, formatter = SOUND[name]
    assert findings_of(folder, content, formatter) == []


LONG = "n" * 5_000
ERRORS: Mapping[str, tuple[str | bytes, str, tuple[str, ...]]] = {
    "an unpaired quote": (row(1, '1.wav|"hello|b\n'), "coqui", ("6 rows, 2 are read", "quote", "line 3", "4 lines")),
    "an unpaired quote at the end": (row(5, '5.wav|"hello|b\n'), "coqui", ("unpaired quote", "line 7")),
    "two unpaired quotes": (
        HEADER + ROWS[0] + '1.wav|"a|b\n' + ROWS[2] + '3.wav|"b|b\n' + ROWS[4],
        "coqui",
        ("5 rows, 3 are read", "line 3", "2 lines"),
    ),
    "an unpaired quote after a paired one": (
        row(1, '1.wav|a 7" disc|"b\n'),
        "coqui",
        ("6 rows, 2 are read", "line 3", "4 lines"),
    ),
    "an unpaired quote before a long table": (
        row(1, f'1.wav|"{"x" * 140_000}|b\n'),
        "coqui",
        ("6 rows, 2 are read", "line 3"),
    ),
    "a pipe in a text": (row(3, "3.wav|hello | there|b\n"), "coqui", ("line 5 has 4 columns", "header has 3", "'|'")),
    "a row without speaker": (row(3, "3.wav|hello\n"), "coqui", ("line 5 has 2 columns", "header has 3")),
    "an empty speaker": (row(3, "3.wav|hello|\n"), "coqui", ("line 5 has no speaker", "speaker_name")),
    "an empty text": (row(3, "3.wav|  |b\n"), "coqui", ("line 5 has no text",)),
    "an empty name": (row(3, "|hello|b\n"), "coqui", ("line 5 has no name",)),
    "a speaker with a space": (row(3, "3.wav|hello|b \n"), "coqui", ("'b '", "line 5", "spaces")),
    "tabs": (TABLE.replace("|", "\t"), "coqui", ("audio_file and text", "tabs")),
    "commas": (TABLE.replace("|", ","), "coqui", ("audio_file and text", "commas")),
    "semicolons": (TABLE.replace("|", ";"), "coqui", ("'audio_file;text;speaker_name'", "semicolons")),
    "no header": ("".join(ROWS), "coqui", ("audio_file and text", "'0.wav'", "audio_file|text|speaker_name")),
    "a byte order mark": (
        TABLE.encode("utf-8-sig"),
        "coqui",
        ("audio_file and text", r"'\ufeffaudio_file', 'text'", "byte order mark"),
    ),
    "a byte order mark before rows": (LJSPEECH.encode("utf-8-sig"), "ljspeech", ("byte order mark", "first name")),
    "a byte order mark of common_voice": (COMMON_VOICE.encode("utf-8-sig"), "common_voice", ("byte order mark",)),
    "Latin-1": ((HEADER + "0.wav|café|a\n").encode("latin-1"), "coqui", ("not UTF-8", "0xe9", "line 2, place 10")),
    "UTF-16": (TABLE.encode("utf-16"), "coqui", ("UTF-16", "Save it as UTF-8")),
    "a NUL": (row(3, "3.wav|te\0xt|b\n"), "coqui", ("NUL", "line 5")),
    "UTF-16 without a mark": (TABLE.encode("utf-16-le"), "coqui", ("UTF-16 without", "Save it as UTF-8")),
    "a spreadsheet": (b"PK\3\4\0\xff", "coqui", ("spreadsheet", "Write a table")),
    "JSON": ('[{"audio_file": "0.wav", "text": "a"}]', "coqui", ("is JSON", "Write a table")),
    "compressed": (b"\x1f\x8b\x08\0", "coqui", ("gzip",)),
    "common_voice, a column between": (
        COMMON_VOICE.replace("path\t", "path\tsentence_id\t").replace(".wav\t", ".wav\tab0\t"),
        "common_voice",
        ("number 3 is 'sentence_id', not 'sentence'", "client_id, path, sentence"),
    ),
    "no endings": (TABLE.replace(".wav", ""), "coqui", ("None of the 6", "lack the ending", "such as '0.wav'")),
    "a link to nothing": (row(3, "link.ogg|x|b\n"), "coqui", ("'link.ogg'", "line 5", "symbolic links")),
    "nothing": ("", "coqui", ("audio_file and text", "none")),
    "a header alone": (HEADER, "coqui", ("has no rows",)),
    "a recording that is gone": (row(3, "gone.wav|x|b\n"), "coqui", ("1 of 6 recordings does not", "gone", "line 5")),
    "backslashes": (
        HEADER + "".join(f"wavs\\{line}" for line in ROWS),
        "coqui",
        ("None of the 6 recordings exists", "backslashes"),
    ),
    "another case": (row(3, "big.wav|x|b\n"), "coqui", ("'big.wav'", "upper or lower case")),
    "another normal form": (row(3, "clés.wav|x|b\n"), "coqui", ("1 of 6", "normal form")),
    "a space before a name": (row(3, " 3.wav|x|b\n"), "coqui", ("' 3.wav'", "spaces around")),
    "a tilde": (row(3, "~/3.wav|x|b\n"), "coqui", ("'~/3.wav'", "does not expand")),
    "another ending": (row(3, "other.wav|x|b\n"), "coqui", ("'other.wav'", "another ending", "'other.flac'")),
    "another folder": (HEADER + "".join(f"audio/{line}" for line in ROWS), "coqui", ("None of the 6", "such files in")),
    "a path outside": (row(3, "/elsewhere/3.wav|x|b\n"), "coqui", ("absolute", "'/elsewhere/3.wav'", "line 5")),
    "a name that is too long": (row(3, f"{LONG}.wav|x|b\n"), "coqui", ("1 of 6 recordings does not exist", "line 5")),
    "a column twice": (f"audio_file|text|text\n{''.join(ROWS)}", "coqui", ("'text' twice",)),
    "ljspeech, an empty line": (LJSPEECH + "\n", "ljspeech", ("line 7 is empty", "'ljspeech' ends there")),
    "ljspeech, a pipe in a text": (LJSPEECH + "5|raw|a|b\n", "ljspeech", ("line 7 has 4 columns", "most lines have 3")),
    "ljspeech, a column missing": (LJSPEECH + "5|raw\n", "ljspeech", ("line 7 has 2 columns", "most lines have 3")),
    "ljspeech, two columns": ("0|a\n1|b\n", "ljspeech", ("reads 3 columns", "line 1 has 2")),
    "ljspeech, tabs": (LJSPEECH.replace("|", "\t"), "ljspeech", ("reads 3 columns", "separated by tabs")),
    "common_voice, no speaker": (COMMON_VOICE + "\t0.wav\ttext\n", "common_voice", ("line 8 has no speaker", "client")),
    "ljspeech, a header": (
        "path|raw|text\n" + LJSPEECH,
        "ljspeech",
        ("line 1 names columns", "reads it as"),
    ),
    "baker, a column more": ("0.wav|x\n1.wav|x|y\n2.wav|z\n", "baker", ("line 2 has 3 columns", "most lines have 2")),
    "libri_tts, a recording that is gone": ("1_2_3\tx\ty\n", "libri_tts", ("'1_2_3'", "listing ends there")),
    "custom_turkish, a recording that is gone": ("0|x\n9|x\n", "custom_turkish", ("1 of 2 recordings", "'9'")),
    "brspeech": (
        "wav_filename|raw|text|speaker\n0.wav|x|y|s\n1.wav|x|y|s\n",
        "brspeech",
        (r"'s\n'", "'brspeech' reads them"),
    ),
    "a formatter that searches the folder": (TABLE, "vctk", ("'vctk' reads no recording", "txt/SPEAKER/*.txt")),
    "a formatter that there is not": (TABLE, "coqi", ("'coqi'", "datasets.0.formatter")),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_a_table_loses_is_an_error_with_its_cause_and_place(name: str, folder: Path) -> None:
    content, formatter, words = ERRORS[name]
    findings = findings_of(folder, content, formatter)
    (finding,) = [finding for finding in findings if finding.is_error]
    said = f"{finding.found} {finding.change}"
    assert [word for word in words if word not in said] == [], said
    assert "datasets.0.meta_file_train" in said
    assert len(max(said.replace(str(folder), "").split(), key=len)) <= 200


WARNINGS: Mapping[str, tuple[str, Mapping[str, Any], tuple[str, ...]]] = {
    "empty lines": (HEADER + "\n" + "".join(ROWS) + "\n", {}, ("lines 2, 9 are empty", "skipped")),
    "another column of speakers": (TABLE.replace("speaker_name", "speaker"), {}, ("'speaker'", "speaker_name")),
    "a recording of two speakers": (TABLE + "1.wav|text 1|a\n", {}, ("several speakers", "'1.wav'", "lines 3, 8")),
    "a recording with two texts": (TABLE + "1.wav|other|b\n", {}, ("several texts", "'1.wav'", "lines 3, 8")),
    "speakers in two spellings": (TABLE + "0.wav|text 0|A\n", {}, ("differ in case", "'A', 'a'")),
    "ignored speakers": (TABLE, {"ignored_speakers": ["a", "bb"]}, ("ignored_speakers", "'bb'", "Nearest: 'b'")),
    "evaluated with what is trained on": (TABLE, {"meta_file_val": "table.csv"}, ("6 of the 6 recordings", "too")),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_is_harmless_or_cannot_be_judged_is_a_warning(name: str, folder: Path) -> None:
    content, more, words = WARNINGS[name]
    findings = findings_of(folder, content, **more)
    assert [finding.is_error for finding in findings] == [False] * len(findings)
    said = " ".join(f"{finding.found} {finding.change}" for finding in findings)
    assert [word for word in words if word not in said] == [], said


def test_data_sets_that_list_the_same_recordings(folder: Path) -> None:
    config = config_of(folder, TABLE)
    config.datasets.append(config.datasets[0])
    (finding,) = check_metadata(ConfigFacts(config=config, list_datasets=lambda: list_datasets(config)))
    assert not finding.is_error
    assert "6 recordings are both in datasets.0.meta_file_train and in datasets.1.meta_file_train" in finding.found


def test_ignored_speakers_as_a_formatter_calls_them(tmp_path: Path) -> None:
    for speaker in ("p1", "p2"):
        for part, name in (("txt", "a.txt"), ("wav48_silence_trimmed", "a_mic1.flac")):
            (tmp_path / part / speaker).mkdir(parents=True)
            (tmp_path / part / speaker / f"{speaker}_{name}").write_text("a text")
    (finding,) = findings_of(tmp_path, "", "vctk", meta_file_train="", ignored_speakers=["VCTK_p1"])
    assert not finding.is_error
    assert "datasets.0.ignored_speakers has no effect on 'VCTK_p1'" in finding.found
    assert "'p1'" in finding.change
    assert findings_of(tmp_path, "", "vctk", meta_file_train="", ignored_speakers=["p1"]) == []


def test_recordings_that_are_none_are_the_fault_of_the_header(folder: Path) -> None:
    for content in ("path|raw|text\n" + LJSPEECH, "\ufeff" + LJSPEECH):
        config = config_of(folder, content, "ljspeech")
        assert is_misread(list_datasets(config)[0])
    assert not is_misread(list_datasets(config_of(folder, LJSPEECH, "ljspeech"))[0])


def test_few_of_many_recordings_may_be_missing_with_a_warning(folder: Path) -> None:
    many = HEADER + ROWS[0] * 150
    for gone, is_error in ((1, False), (3, True)):
        (finding,) = findings_of(folder, many + "".join(f"gone{index}.wav|x|a\n" for index in range(gone)))
        assert f"{gone} of {150 + gone} recordings" in finding.found
        assert finding.is_error is is_error


@pytest.mark.parametrize("formatter", ["coqui", "ljspeech"])
def test_a_device_or_a_pipe_is_not_read_as_a_metadata_file(folder: Path, formatter: str) -> None:
    config = config_of(folder, TABLE, formatter)
    config.datasets[0].meta_file_train = "/dev/zero"
    facts = ConfigFacts(config=config, list_datasets=lambda: list_datasets(config))
    (finding,) = check_metadata(facts)
    assert "datasets.0.meta_file_train (/dev/zero) is a folder, a pipe or a device" in finding.found
    with pytest.raises(ConfigError, match=r"meta_file_train = '/dev/zero': is a pipe or a device"):
        list_samples(config)


def test_a_folder_whose_name_is_too_long(folder: Path) -> None:
    config = config_of(folder, TABLE, path="long/" * 2_000)
    assert list_datasets(config) == []
    with pytest.raises(ConfigError, match="there is no such folder"):
        list_samples(config)


def test_metadata_files_that_do_not_exist(folder: Path) -> None:
    for key in ("meta_file_train", "meta_file_val"):
        (finding,) = findings_of(folder, TABLE, **{key: "tabel.csv"})
        assert f"datasets.0.{key}" in finding.found
        assert "no such file" in finding.found
        assert "'table.csv'" in finding.change
    (finding,) = findings_of(folder, TABLE, meta_file_train="")
    assert "datasets.0.meta_file_train is empty" in finding.found


def test_ignored_speakers_that_are_all_or_have_no_effect(folder: Path) -> None:
    assert "names every speaker" in findings_of(folder, TABLE, ignored_speakers=["a", "b"])[0].found
    assert "no effect" in findings_of(folder, LJSPEECH, "ljspeech", ignored_speakers=["a"])[0].found
    assert findings_of(folder, TABLE, ignored_speakers=["a"]) == []


def test_the_rows_of_ignored_speakers_need_no_recordings(folder: Path) -> None:
    assert findings_of(folder, TABLE + "gone.wav|x|c\n", ignored_speakers=["c"]) == []


def test_spaces_matter_less_without_a_table_of_speakers(folder: Path) -> None:
    config = config_of(folder, row(3, "3.wav|hello|b \n"))
    config.use_speaker_embedding = config.model_args.use_speaker_embedding = False
    (finding,) = check_metadata(ConfigFacts(config=config, list_datasets=lambda: list_datasets(config)))
    assert not finding.is_error


def test_what_coqui_warns_of_and_nothing_explains_is_a_finding(folder: Path) -> None:
    samples = [{"audio_file": str(folder / f"{take}.wav"), "speaker_name": "a"} for take in range(6)]
    warned = ("Wav file doesn't exist - x.flac", "Beware")
    listing = Listing("datasets.0.meta_file_train", "mine", str(folder), "any.json", samples, warnings=warned)
    for listed, is_error in ((listing, True), (replace(listing, warnings=("Beware",)), False)):
        (finding,) = check_metadata(ConfigFacts(config=SclVitsConfig(), list_datasets=lambda listed=listed: [listed]))
        assert "Beware" in finding.found
        assert finding.is_error is is_error


def test_a_formatter_that_searches_lists_little_of_what_there_is(folder: Path) -> None:
    samples = [{"audio_file": str(folder / "0.wav"), "speaker_name": "a"}]
    listing = Listing("datasets.0.meta_file_train", "vctk", str(folder), "", samples)
    (finding,) = check_metadata(ConfigFacts(config=SclVitsConfig(), list_datasets=lambda: [listing]))
    assert "1 of the 21 recordings" in finding.found
    assert not finding.is_error


def test_coquis_warnings_are_kept_and_its_loggers_put_back(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (listing,) = list_datasets(config_of(folder, TABLE + "gone.wav|x|a\n6.wav|a|b|c\n"))
    assert [text.partition(" ->")[0] for text in listing.warnings] == ["Missing column in line 8", "2 files not found"]
    assert caplog.records == []
    config = config_of(folder, TABLE + "gone.wav|x|a\n")
    config.eval_split_size = 2
    list_samples(config)  # shown where no check reports it
    assert "files not found" in caplog.text


def test_whoever_lists_the_samples_hears_the_cause(folder: Path) -> None:
    for content, words in ((TABLE.encode("utf-8-sig"), "byte order mark"), (ERRORS["an unpaired quote"][0], "line 3")):
        with pytest.raises(ConfigError, match=words) as caught:
            list_samples(config_of(folder, content))
        assert "eval_split_size" not in str(caught.value)


def test_reasons_of_names_that_a_formatter_changes(folder: Path) -> None:
    assert "appends '.wav'" in why_missing(folder / "wavs" / "0.wav.wav")
    assert why_missing(folder / "nothing-like-it.wav") == ""
    assert "upper or lower case" in why_missing(folder / "WAVS" / "0.WAV")
