"""What a folder of recordings holds: which of Coqui's formatters reads it, its speakers, rate and characters."""

import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
from TTS.tts.models.vits import VitsCharacters
from TTS.tts.utils.languages import normalize_language
from TTS.tts.utils.text import cleaners

from coqui_scl_plugin.coqui.samples import Samples, list_all_samples
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.references.audio_header import read_audio_header
from coqui_scl_plugin.utils.shown import shown

_PROBED = 200
"""Recordings whose headers are read, spread evenly."""


@dataclass(frozen=True)
class FoundData:
    """A data set as a config needs it."""

    dataset: dict[str, Any]
    """An entry of `datasets`."""
    speakers: list[str]
    recordings: int
    rate: int
    """Hz, of most recordings."""
    cleaner: str
    """The text cleaner for its language."""
    unknown: list[str]
    """Characters of the cleaned texts that Coqui's default lacks."""
    sentence: tuple[str, str]
    """A text, and who speaks it."""

    @property
    def name(self) -> str:
        """The name of the data set."""
        return str(self.dataset["dataset_name"])

    @property
    def characters(self) -> dict[str, Any] | None:
        """The section `characters` with those that Coqui's default lacks; None if it lacks none."""
        if not self.unknown:
            return None
        default = VitsCharacters().to_config().to_dict()
        marks = "".join(c for c in self.unknown if unicodedata.category(c)[0] == "P")
        letters = "".join(c for c in self.unknown if c not in marks)
        return {
            "characters_class": "TTS.tts.models.vits.VitsCharacters",
            **{key: default[key] for key in ("pad", "eos", "bos", "blank")},
            "characters": default["characters"] + letters,
            "punctuations": default["punctuations"] + marks,
            "phonemes": "",
        }


def find_data(folder: str, *, formatter: str | None, metadata: str | None, language: str) -> FoundData:
    """Look into a data set.

    Args:
        folder: Its folder, as the config is to name it.
        formatter: Coqui's formatter; None: the one that its files suggest.
        metadata: The metadata file; None: likewise.
        language: Of all its texts, such as `en`.

    Raises:
        ConfigError: there is no such folder, no formatter is known for it, or nothing can be read.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ConfigError(f"--data {shown(folder)}: there is no such folder.")
    if formatter is None:
        formatter, found = _formatter_of(path)
        metadata = metadata or found
    dataset = {
        "formatter": formatter,
        "dataset_name": path.resolve().name,
        "path": folder,
        "meta_file_train": metadata or "",
        "language": language,
    }
    samples = list_all_samples(SclVitsConfig.new_from_dict({"model": "scl_vits", "datasets": [dataset]}))
    cleaner = "english_cleaners" if normalize_language(language) == "en" else "multilingual_cleaners"
    cleaned = [getattr(cleaners, cleaner)(sample["text"], lang=normalize_language(language)) for sample in samples]
    alphabet = set(VitsCharacters().vocab)
    typical = min(samples, key=lambda sample: abs(len(sample["text"]) - 60))
    return FoundData(
        dataset=dataset,
        speakers=sorted({str(sample["speaker_name"]) for sample in samples}),
        recordings=len(samples),
        rate=_rate_of(samples),
        cleaner=cleaner,
        unknown=sorted({c for text in cleaned for c in text if c not in alphabet and not c.isspace()}),
        sentence=(typical["text"].strip(), str(typical["speaker_name"])),
    )


def _formatter_of(folder: Path) -> tuple[str, str]:
    """Return the formatter and the metadata file that the files of a folder suggest."""
    if (folder / "wav48_silence_trimmed").is_dir():
        return "vctk", ""
    if next(folder.glob("*/*/*.trans.tsv"), None) is not None:
        return "libri_tts", ""
    for file in _tables(folder):
        with file.open(encoding="utf-8", errors="replace") as lines:
            first = lines.readline().strip().split("|")
        if {"audio_file", "text"} <= set(first):
            return "coqui", file.name
        if len(first) == 3 and (folder / "wavs" / f"{first[0]}.wav").is_file():
            return "ljspeech", file.name
    raise ConfigError(
        f"--data {shown(str(folder))}: no data set was recognised. Expected a metadata.csv with a header "
        "audio_file|text|speaker_name (formatter coqui), one as in LJSpeech beside a folder wavs, or the folders of "
        "VCTK or of a part of LibriTTS. For other data, name one of Coqui's formatters: --formatter NAME --metadata "
        "FILE."
    )


def _tables(folder: Path) -> Iterator[Path]:
    """Yield text tables in a folder, the usual names first."""
    usual = [folder / "metadata.csv", folder / "metadata_train.csv", folder / "train.csv"]
    others = sorted(path for path in folder.glob("*.[ct][sx][vt]") if path not in usual)
    yield from (path for path in (*usual, *others) if path.is_file())


def _rate_of(samples: Samples) -> int:
    """Return the sample rate of most recordings. Raises ConfigError if no header can be read."""
    rates: Counter[int] = Counter()
    for sample in samples[:: max(1, len(samples) // _PROBED)]:
        try:
            rates[read_audio_header(str(sample["audio_file"])).rate] += 1
        except soundfile.SoundFileError:
            continue  # preflight names those
    if not rates:
        raise ConfigError(f"None of the recordings can be read, such as {shown(str(samples[0]['audio_file']))}.")
    return rates.most_common(1)[0][0]
