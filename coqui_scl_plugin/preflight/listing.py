"""What Coqui makes of a metadata file, as plain data, and the layouts of the files that its formatters read."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Listing:
    """What Coqui's formatter made of one metadata file of one data set."""

    key: str
    """The config key that names the file, such as `datasets.0.meta_file_train`."""
    formatter: str
    folder: str
    """The data set's folder."""
    file: str
    """The metadata file as the config names it; empty for formatters that search the folder."""
    samples: Sequence[Mapping[str, Any]] | None = None
    """None if the formatter ended in an error."""
    error: Exception | None = None
    """That error."""
    warnings: Sequence[str] = ()
    """What Coqui warned of."""
    ignored_speakers: Sequence[str] = ()
    has_speaker_table: bool = True
    """Whether the model has a table of speakers, for which Coqui strips their names."""

    @property
    def path(self) -> Path:
        """The metadata file."""
        return Path(self.folder) / self.file

    @property
    def place(self) -> str:
        """The config key and the file, for messages."""
        return f"{self.key} ({self.path if self.file else self.folder})"


Column = str | int | None
"""A column's name in the header, its place in files without one, or None if there is no such column."""


@dataclass(frozen=True)
class Layout:
    """How a formatter of Coqui reads a metadata file that has one recording a line."""

    separator: str
    file: Column
    text: Column
    path: Callable[[str], str]
    """Returns the recording's path in the data set's folder, of what the file's column holds."""
    speaker: Column = None
    begin_of_header: str = ""
    """Lines that begin so are skipped; the formatter knows no other header."""
    names: Sequence[str] = ()
    """What that header calls the columns, as the formatter takes them by their places."""
    exact: bool = False
    """Whether another number of columns ends the formatter."""
    missing: Literal["left out", "listed", "ends"] = "listed"
    """What becomes of a recording that does not exist."""
    encoding: str = "utf-8"
    takes_ignored: bool = False
    """Whether `ignored_speakers` has an effect."""
    beside_table: bool = False
    """Whether the path is in the metadata file's folder, not in the data set's."""
    speaker_of: Callable[[str], str] | None = None
    """Returns the speaker that the file's column names, where no other column does."""

    @property
    def has_named_columns(self) -> bool:
        """Whether the first line is a header and quotes have a meaning, as in Python's csv.DictReader."""
        return isinstance(self.file, str)

    @property
    def wanted(self) -> list[str]:
        """The names of the columns that must be there."""
        return [str(column) for column in (self.file, self.text)]

    @property
    def least_columns(self) -> int:
        """The number of columns that a line needs, in files without named columns."""
        return 1 + max(column for column in (self.file, self.text, self.speaker) if isinstance(column, int))


SEARCHED: Mapping[str, str] = {
    "vctk": "txt/SPEAKER/*.txt and wav48_silence_trimmed/SPEAKER/*_mic1.flac",
    "vctk_old": "txt/SPEAKER/*.txt and wav48/SPEAKER/*.wav",
    "synpaflex": "wav/*.wav and txt/*.txt",
    "open_bible": "META_FILE/SPEAKER/*.txt and *.flac",
    "mailabs": "by_book/male or by_book/female, SPEAKER/BOOK/metadata.csv and wavs/*.wav",
    "sam_accenture": "voice_over_recordings/META_FILE and vo_voice_quality_transformation/*.wav",
    "libri_tts": "*trans.tsv and SPEAKER/CHAPTER/*.wav",
}
"""What formatters look for in a data set's folder if the metadata file does not name it, by the formatter's name."""


def _within(folder: str = "", ending: str = "") -> Callable[[str], str]:
    return lambda cell: os.path.join(folder, cell + ending)  # noqa: PTH118  # as the formatters do: `..` stays


def _by_parts(folder: str, parts: int) -> Callable[[str], str]:
    """Return a path of the first parts of a name that are joined by `_`."""
    return lambda cell: os.path.join(folder, *cell.split("_")[:parts], f"{cell}.wav")  # noqa: PTH118


def _in_wavs(ending: str = "") -> Callable[[str], str]:
    return lambda cell: f"wavs/{cell.strip()}{ending}"


def _mozilla_de(cell: str) -> str:
    return f"BATCH_{cell.strip().split('_')[0]}_FINAL/{cell.strip()}"


def _first_part(cell: str) -> str:
    return cell.split("_")[0]


def _pipes(text: int, path: Callable[[str], str], **more: Any) -> Layout:
    return Layout("|", 0, text, path, **more)


LAYOUTS: Mapping[str, Layout] = {
    "coqui": Layout(
        "|", "audio_file", "text", _within(), speaker="speaker_name", missing="left out", takes_ignored=True
    ),
    "cml_tts": Layout(
        "|", "wav_filename", "transcript", _within(), speaker="client_id", missing="left out", takes_ignored=True
    ),
    "tweb": Layout("\t", 0, 1, _within(ending=".wav")),
    "mozilla": Layout("|", 1, 0, _in_wavs()),
    "mozilla_de": _pipes(1, _mozilla_de, encoding="iso-8859-1"),
    "ljspeech": _pipes(2, _within("wavs", ".wav")),
    "ljspeech_test": _pipes(2, _within("wavs", ".wav")),
    "thorsten": _pipes(1, _within("wavs", ".wav")),
    "ruslan": _pipes(1, _within("RUSLAN", ".wav")),
    "css10": _pipes(1, _within()),
    "kokoro": _pipes(2, _within("wavs", ".wav")),
    "kss": _pipes(2, _within()),
    "baker": _pipes(1, _within("clips_22"), exact=True),
    "bel_tts_formatter": _pipes(1, _within()),
    "custom_turkish": _pipes(1, _in_wavs(".wav"), missing="left out"),
    "brspeech": _pipes(
        2,
        _within(),
        speaker=3,
        begin_of_header="wav_filename",
        names=("wav_filename", "transcript_raw", "transcript", "speaker_id"),
        takes_ignored=True,
    ),
    "common_voice": Layout(
        "\t",
        1,
        2,
        _within("clips"),
        speaker=0,
        begin_of_header="client_id",
        names=("client_id", "path", "sentence"),
        takes_ignored=True,
    ),
    "libri_tts": Layout("\t", 0, 2, _by_parts("", 2), missing="ends", takes_ignored=True, speaker_of=_first_part),
    "mls": Layout(
        "\t",
        0,
        1,
        _by_parts("audio", 2),
        exact=True,
        takes_ignored=True,
        beside_table=True,
        speaker_of=_first_part,
    ),
}
"""By the formatter's name; the others search a folder, read XML, or are not of Coqui's."""
