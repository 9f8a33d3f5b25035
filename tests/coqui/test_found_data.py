"""What `coqui-scl init` finds in a folder of recordings, by Coqui's own formatters."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from TTS.tts.models.vits import VitsCharacters
from TTS.tts.utils.text.tokenizer import TTSTokenizer

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.coqui.found_data import FoundData, find_data
from coqui_scl_plugin.errors import ConfigError


def record(file: Path, rate: int = 16_000) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.zeros(rate // 10), rate)


def find(folder: Path, **more: str) -> FoundData:
    return find_data(str(folder), **{"formatter": None, "metadata": None, "language": "en"} | more)


def coqui(folder: Path, text: str = "Hello there.") -> None:
    for name, rate in (("a", 22_050), ("b", 22_050), ("c", 16_000)):
        record(folder / f"{name}.wav", rate)
    rows = "".join(f"{name}.wav|{text}|{name.upper()}\n" for name in "abc")
    (folder / "metadata.csv").write_text("audio_file|text|speaker_name\n" + rows)


def ljspeech(folder: Path) -> None:
    record(folder / "wavs" / "LJ1.wav", 22_050)
    (folder / "metadata.csv").write_text("LJ1|Hello there.|Hello there.\n")


def vctk(folder: Path) -> None:
    for speaker in ("p225", "p226"):
        record(folder / "wav48_silence_trimmed" / speaker / f"{speaker}_001_mic1.flac", 48_000)
        text = folder / "txt" / speaker / f"{speaker}_001.txt"
        text.parent.mkdir(parents=True)
        text.write_text("Hello there.")


def libri_tts(folder: Path) -> None:
    for speaker in ("19", "26"):
        name = f"{speaker}_198_000000_000000"
        record(folder / speaker / "198" / f"{name}.wav", 24_000)
        table = folder / speaker / "198" / f"{speaker}_198.trans.tsv"
        table.write_text(f"{name}\tHello there.\tHello there.\n")


@pytest.mark.parametrize(
    ("write", "speakers", "rate"),
    [
        (coqui, ["A", "B", "C"], 22_050),
        (ljspeech, ["ljspeech"], 22_050),
        (vctk, ["VCTK_p225", "VCTK_p226"], 48_000),
        (libri_tts, ["LTTS_19", "LTTS_26"], 24_000),
    ],
)
def test_the_formatter_is_recognised(write, speakers, rate, tmp_path):
    write(tmp_path)
    found = find(tmp_path)
    assert found.dataset["formatter"] == write.__name__
    assert (found.speakers, found.rate) == (speakers, rate)
    assert found.sentence[0] == "Hello there."
    assert found.characters is None


def test_a_formatter_that_is_named_is_taken(tmp_path):
    coqui(tmp_path)
    (tmp_path / "metadata.csv").rename(tmp_path / "other.psv")
    with pytest.raises(ConfigError, match=r"no data set was recognised.*--formatter NAME --metadata FILE"):
        find(tmp_path, metadata=None)
    assert find(tmp_path, formatter="coqui", metadata="other.psv").recordings == 3


def test_characters_that_coquis_alphabet_lacks_are_added(tmp_path):
    coqui(tmp_path, "Zażółć gęślą jaźń „no”.")
    found = find(tmp_path, language="pl")
    assert {"ż", "ł", "ę"} <= set(found.unknown)
    config = SclVitsConfig.new_from_dict({"model": "scl_vits", "characters": found.characters})
    tokenizer, _ = TTSTokenizer.init_from_config(config)
    assert set(VitsCharacters().vocab) | set(found.unknown) <= set(tokenizer.characters.vocab)
    assert "„" in tokenizer.characters.punctuations


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_data_is_named(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=f"--data .*{folder}"):
        find(tmp_path / folder)


def test_recordings_that_cannot_be_read_are_named(tmp_path):
    coqui(tmp_path)
    for file in tmp_path.glob("*.wav"):
        file.write_bytes(b"no audio")
    with pytest.raises(ConfigError, match=r"None of the recordings can be read, such as .*a\.wav"):
        find(tmp_path)
