"""Evaluation sets: real recordings of some speakers, and the synthetic speech that should sound like them."""

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.audio_file import NO_SUCH_FILE, NOT_UTF_8, is_text, unusable_file
from coqui_scl_plugin.evaluation.pairs_file import OPTIONAL, REQUIRED, Row, read_pairs, unknown_columns_note
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.shown import printable, shorten
from coqui_scl_plugin.utils.suggest import did_you_mean

_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


@dataclass(frozen=True)
class SpokenRecording(Recording):
    """A recording whose text may be known."""

    text: str = ""
    """Text that it speaks, if known."""
    language: str = ""
    """Language of the text as Coqui names it, such as `en` or `pt-br`, if known."""
    where: str = ""
    """Place where it is listed, such as `line 3`, if it is one."""


@dataclass(frozen=True)
class SyntheticRecording(SpokenRecording):
    """A file of synthetic speech that should sound like `speaker`."""

    reference: str | None = None
    """Name of the real recording that it reconstructs or whose text it speaks; None if there is none."""


@dataclass(frozen=True)
class LeftOut:
    """A pair or a file that is not part of the evaluation."""

    where: str
    """Line of the list, or path of the file."""
    problem: str
    """Reason, and what to do."""


@dataclass(frozen=True)
class EvaluationSet:
    """All recordings of one evaluation. Names are unique within each list."""

    label: str
    """Name of the evaluation in the results."""
    source: dict[str, Any]
    """Origin of the recordings, so that they can be obtained again."""
    real: list[Recording]
    synthetic: list[SyntheticRecording]
    left_out: list[LeftOut] = field(default_factory=list)
    """What was listed but cannot be evaluated."""
    remarks: list[str] = field(default_factory=list)
    """What else a reader of the results should know of the list."""

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


# --- a list of pairs --------------------------------------------------------------------------------------------------


class _PairError(Exception):
    """A pair that cannot be evaluated; the message says why."""


def _audio_file(folder: Path, name: str) -> Path:
    path = folder / name
    problem = unusable_file(path)
    if problem == NO_SUCH_FILE:
        hint = "separate folders by /" if "\\" in name else "paths are relative to the folder of the list"
        problem = f"{problem}; {hint}"
    if problem or not is_text(path):
        raise _PairError(f"{shorten(path)}: {problem or NOT_UTF_8}")
    return path


class _Pairs:
    """The recordings of a list, row by row."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.real: dict[str, SpokenRecording] = {}
        self.synthetic: dict[str, SyntheticRecording] = {}

    def add(self, row: Row) -> None:
        """Add the recordings of a row. Raises _PairError, and adds none of them, if one cannot be used."""
        if row.problem:
            raise _PairError(row.problem)
        (reference, name, speaker), where = (row.values[column] for column in REQUIRED), f"line {row.line}"
        text, said, language = (row.values[column] for column in OPTIONAL)
        new = SpokenRecording(
            reference, _audio_file(self.folder, reference), speaker, text=said, language=language, where=where
        )
        known = self.real.get(reference, new)
        if known.speaker != speaker:
            why = f"belongs to {known.speaker!r} in {known.where} and to {speaker!r} here; correct one of the two"
            raise _PairError(f"{shorten(reference)} {why}")
        if known.text != said:
            why = f"says {shorten(known.text)!r} in {known.where} and {shorten(said)!r} here (reference_text)"
            raise _PairError(f"{shorten(reference)} {why}; correct one of the two")
        if name in self.synthetic:
            raise _PairError(
                f"{shorten(name)} is already listed in {self.synthetic[name].where}; remove one of the two"
            )
        made = _audio_file(self.folder, name)
        self.real[reference] = known
        self.synthetic[name] = SyntheticRecording(
            name, made, speaker, text=text, language=language, where=where, reference=reference
        )


def evaluation_set_from_pairs(file: Path) -> EvaluationSet:
    """Read a csv file with the columns `reference`, `synthetic` and `speaker`; paths are relative to its folder.

    The columns `text` and `reference_text`, what the two recordings say, and `language`, that of both, are optional.
    A pair is left out if a file or a value is missing, its row cannot be read, it is listed twice, or a recording is
    assigned to two speakers or has two texts.

    Raises:
        ConfigError: the file cannot be read, does not name its columns, or holds no pair that can be evaluated.
    """
    found, pairs, left_out = read_pairs(file), _Pairs(file.parent), list[LeftOut]()
    for row in found.rows:
        try:
            pairs.add(row)
        except _PairError as problem:
            left_out.append(LeftOut(f"{shorten(file.name)}, line {row.line}", str(problem)))
    if left_out and not pairs.synthetic:
        first, others = left_out[0], len(left_out) - 1
        more = f" None of the other {others} pairs can be used either." if others else ""
        raise ConfigError(f"--pairs {shorten(file)}: {first.where}: {first.problem}.{more}")
    remarks = [unknown_columns_note(file, found.unknown_columns)] if found.unknown_columns else []
    source = {"pairs": str(file) if is_text(file) else printable(file)}
    real: list[Recording] = [*pairs.real.values()]
    synthetic = list(pairs.synthetic.values())
    return EvaluationSet(shorten(file.stem), source, real, synthetic, left_out, remarks)


# --- two folders ------------------------------------------------------------------------------------------------------


def _paths_below(folder: Path, left_out: list[LeftOut]) -> Iterator[Path]:
    """Yield files and folders with the suffix of audio; folders that cannot be opened are added to `left_out`."""

    def unopened(error: OSError) -> None:
        left_out.append(LeftOut(shorten(error.filename), f"the folder cannot be opened: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unopened):
        for name in (*folders, *files):
            if Path(name).suffix.lower() in _SUFFIXES:
                yield Path(place) / name


def _recordings_in(folder: Path, option: str, left_out: list[LeftOut]) -> dict[str, Recording]:
    """Find the recordings of a folder with one subfolder per speaker, by path below the folder without suffix."""
    try:
        is_folder = folder.is_dir()
    except OSError as error:
        raise ConfigError(f"{option} {shorten(folder)}: cannot be opened: {error.strerror}.") from error
    if not is_folder:
        raise ConfigError(f"{option} {shorten(folder)}: there is no such folder.")
    found: dict[str, Recording] = {}
    before = len(left_out)
    for path in sorted(_paths_below(folder, left_out)):
        inside = path.relative_to(folder)
        problem = unusable_file(path)
        if problem is None and not is_text(path):
            problem = NOT_UTF_8
        if problem is not None:
            left_out.append(LeftOut(shorten(path), problem))
            continue
        if len(inside.parts) == 1:
            msg = f"{option} {folder}: {path.name} is not in a speaker's folder; expected {option} DIR/SPEAKER/FILE."
            raise ConfigError(msg)
        name = inside.with_suffix("").as_posix()
        if name in found:
            raise ConfigError(f"{option} {folder}: {found[name].path.name} and {path.name} have the same name.")
        found[name] = Recording(name, path, inside.parts[0])
    if not found:
        why = f" {left_out[before].where}: {left_out[before].problem}." if left_out[before:] else ""
        raise ConfigError(
            f"{option} {shorten(folder)}: contains no audio ({', '.join(_SUFFIXES)}) in speakers' folders.{why}"
        )
    return found


def evaluation_set_from_folders(real: Path, synthetic: Path) -> EvaluationSet:
    """Read two folders with one subfolder per speaker; files with the same name below both are pairs.

    What has the suffix of audio and cannot be opened as a file is left out, and so are speakers whose folder of real
    speech holds nothing else.

    Raises:
        ConfigError: a folder does not exist or contains no audio, or a speaker has no real speech.
    """
    left_out: list[LeftOut] = []
    references = _recordings_in(real, "--real", left_out)
    known, made = {recording.speaker for recording in references.values()}, []
    for name, found in _recordings_in(synthetic, "--synthetic", left_out).items():
        if found.speaker not in known and (real / found.speaker).is_dir():
            why = f"{shorten(real / found.speaker)} holds no real speech that can be used to compare with"
            left_out.append(LeftOut(shorten(found.path), why))
        else:
            reference = name if name in references else None
            made.append(SyntheticRecording(name, found.path, found.speaker, reference=reference))
    source = {"real": printable(real), "synthetic": printable(synthetic)}
    label = shorten(synthetic.resolve().name)
    return EvaluationSet(label, source, list(references.values()), made, left_out)


# --- fewer ------------------------------------------------------------------------------------------------------------


def first_of_each_speaker(recordings: Iterable[Recording], count: int) -> list[Recording]:
    """Return the first `count` recordings of each speaker, in their order."""
    kept: list[Recording] = []
    seen: dict[str, int] = {}
    for recording in recordings:
        if seen.get(recording.speaker, 0) < count:
            seen[recording.speaker] = seen.get(recording.speaker, 0) + 1
            kept.append(recording)
    return kept
