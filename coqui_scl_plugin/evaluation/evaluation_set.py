"""Evaluation sets: real recordings of some speakers, and the synthetic speech that should sound like them."""

import csv
import functools
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.suggest import did_you_mean

_COLUMNS = ("reference", "synthetic", "speaker")
_TEXT_COLUMNS = ("text", "reference_text", "language")
_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


@dataclass(frozen=True)
class SpokenRecording(Recording):
    """A recording whose text may be known."""

    text: str = ""
    """Text that it speaks, if known."""
    language: str = ""
    """Language of the text as Coqui names it, such as `en` or `pt-br`, if known."""


@dataclass(frozen=True)
class SyntheticRecording(SpokenRecording):
    """A file of synthetic speech that should sound like `speaker`."""

    reference: str | None = None
    """Name of the real recording that it reconstructs or whose text it speaks; None if there is none."""


@dataclass(frozen=True)
class EvaluationSet:
    """All recordings of one evaluation. Names are unique within each list."""

    label: str
    """Name of the evaluation in the results."""
    source: dict[str, Any]
    """Origin of the recordings, so that they can be obtained again."""
    real: list[Recording]
    synthetic: list[SyntheticRecording]

    @functools.cached_property
    def speakers(self) -> list[str]:
        """Speakers with synthetic speech, sorted."""
        return sorted({recording.speaker for recording in self.synthetic})

    def __post_init__(self) -> None:
        """Check that each speaker has real speech to compare with, and that names are text. Raises ConfigError."""
        if not self.synthetic:
            raise ConfigError(f"{self.label}: there is no synthetic speech to evaluate.")
        for recording in (*self.real, *self.synthetic):
            if any("\ud800" <= letter <= "\udfff" for letter in f"{recording.path}{recording.speaker}"):
                raise ConfigError(f"{self.label}: the name {str(recording.path)!a} is not UTF-8; rename it.")
        known = {recording.speaker for recording in self.real}
        for speaker in self.speakers:
            if speaker not in known:
                msg = (
                    f"{self.label}: the speaker {speaker!r} has synthetic speech but no real speech. "
                    f"{did_you_mean(speaker, known)}"
                )
                raise ConfigError(msg)


def _audio_file(folder: Path, name: str, where: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise ConfigError(f"{where}: there is no file {path}. Paths are relative to the folder of the list.")
    return path


def evaluation_set_from_pairs(file: Path) -> EvaluationSet:
    """Read a csv file with the columns `reference`, `synthetic` and `speaker`; paths are relative to its folder.

    The columns `text` and `reference_text`, what the two recordings say, and `language`, that of both, are optional.

    Raises:
        ConfigError: the file or one that it names does not exist, a column or a value is missing, or a recording is
            assigned to two speakers or has two texts.
    """
    if not file.is_file():
        raise ConfigError(f"--pairs {file}: there is no such file.")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"--pairs {file}: not UTF-8: {error}.") from error
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    if missing := set(_COLUMNS) - set(reader.fieldnames or ()):
        raise ConfigError(
            f"--pairs {file}: the first line lacks {', '.join(sorted(missing))}; it must name {','.join(_COLUMNS)}."
        )
    real: dict[str, SpokenRecording] = {}
    synthetic: dict[str, SyntheticRecording] = {}
    for row in reader:
        where = f"--pairs {file}, line {reader.line_num}"
        values = [(row[column] or "").strip() for column in _COLUMNS]
        if not all(values):
            raise ConfigError(f"{where}: reference, synthetic and speaker must all be given.")
        reference, name, speaker = values
        text, said, language = ((row.get(column) or "").strip() for column in _TEXT_COLUMNS)
        original = _audio_file(file.parent, reference, where)
        known = real.setdefault(reference, SpokenRecording(reference, original, speaker, text=said, language=language))
        if known.speaker != speaker:
            raise ConfigError(f"{where}: {reference} belongs to {known.speaker!r} above and to {speaker!r} here.")
        if known.text != said:
            raise ConfigError(f"{where}: {reference} says {known.text!r} above and {said!r} here (reference_text).")
        if name in synthetic:
            raise ConfigError(f"{where}: {name} is already listed above.")
        synthetic[name] = SyntheticRecording(
            name, _audio_file(file.parent, name, where), speaker, text=text, language=language, reference=reference
        )
    return EvaluationSet(file.stem, {"pairs": str(file)}, [*real.values()], list(synthetic.values()))


def _recordings_in(folder: Path, option: str) -> dict[str, Recording]:
    """Find the recordings of a folder with one subfolder per speaker, by path below the folder without suffix."""
    if not folder.is_dir():
        raise ConfigError(f"{option} {folder}: there is no such folder.")
    found: dict[str, Recording] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _SUFFIXES:
            continue
        inside = path.relative_to(folder)
        if len(inside.parts) == 1:
            msg = f"{option} {folder}: {path.name} is not in a speaker's folder; expected {option} DIR/SPEAKER/FILE."
            raise ConfigError(msg)
        name = inside.with_suffix("").as_posix()
        if name in found:
            raise ConfigError(f"{option} {folder}: {found[name].path.name} and {path.name} have the same name.")
        found[name] = Recording(name, path, inside.parts[0])
    if not found:
        raise ConfigError(f"{option} {folder}: contains no audio ({', '.join(_SUFFIXES)}) in speakers' folders.")
    return found


def evaluation_set_from_folders(real: Path, synthetic: Path) -> EvaluationSet:
    """Read two folders with one subfolder per speaker; files with the same name below both are pairs.

    Raises:
        ConfigError: a folder does not exist or contains no audio, or a speaker has no real speech.
    """
    references = _recordings_in(real, "--real")
    made = [
        SyntheticRecording(name, found.path, found.speaker, reference=name if name in references else None)
        for name, found in _recordings_in(synthetic, "--synthetic").items()
    ]
    source = {"real": str(real), "synthetic": str(synthetic)}
    return EvaluationSet(synthetic.resolve().name, source, list(references.values()), made)


def first_of_each_speaker(recordings: Iterable[Recording], count: int) -> list[Recording]:
    """Return the first `count` recordings of each speaker, in their order."""
    kept: list[Recording] = []
    seen: dict[str, int] = {}
    for recording in recordings:
        if seen.get(recording.speaker, 0) < count:
            seen[recording.speaker] = seen.get(recording.speaker, 0) + 1
            kept.append(recording)
    return kept
