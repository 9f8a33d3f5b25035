"""The csv file of `coqui-scl evaluate --pairs`: rows that can be read, and why the others cannot."""

import contextlib
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.audio_file import unusable_file
from coqui_scl_plugin.utils.shown import shorten
from coqui_scl_plugin.utils.suggest import did_you_mean

REQUIRED = ("reference", "synthetic", "speaker")
OPTIONAL = ("text", "reference_text", "language")
_MAX_BYTES = 100_000_000
_MAX_CHARACTERS = 10_000
"""Of a value; more is no name and no sentence, but usually a quotation mark that is missing."""
_MAX_NAME_CHARACTERS = 200
"""Of a speaker and a language, which label tables and figures."""


@dataclass(frozen=True)
class Row:
    """A row of the file."""

    line: int
    """Number of its first line, from 1."""
    values: dict[str, str]
    """Value of each known column, without spaces around it; empty if it is not given."""
    problem: str | None = None
    """Reason why it cannot be used; None if it can."""


@dataclass(frozen=True)
class PairsFile:
    """What the file holds."""

    rows: list[Row]
    unknown_columns: list[str]


@contextlib.contextmanager
def _any_field_size(characters: int) -> Iterator[None]:
    """Let csv read fields of this size, so that one that is too long is named rather than an error for the file."""
    before = csv.field_size_limit(characters + 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _text_of(file: Path) -> str:
    if problem := unusable_file(file):
        raise ConfigError(f"--pairs {shorten(file)}: {problem}.")
    try:
        size = file.stat().st_size
        if size > _MAX_BYTES:
            raise ConfigError(
                f"--pairs {shorten(file)}: {size:,} bytes; a list of pairs has at most {_MAX_BYTES:,}. Name the csv "
                "file, or evaluate in parts."
            )
        data = file.read_bytes() if size else b""  # some files of /proc have no size and no end
    except OSError as error:
        raise ConfigError(f"--pairs {shorten(file)}: cannot be read: {error.strerror}.") from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"--pairs {shorten(file)}: not UTF-8: line {line} holds the byte 0x{data[error.start]:02x}. "
            "Save the file as UTF-8."
        ) from error


def _records(lines: Sequence[str], columns: int | None) -> Iterator[tuple[int, list[str] | None]]:
    """Yield the number of the first line and the fields of each record; None for fields with an unpaired quote.

    After an unpaired quote, reading goes on in the next line: the records below it are not lost.

    Args:
        lines: Lines with their ends.
        columns: Fields of a record; None if that is not known.
    """
    start = 0
    while start < len(lines):
        line = lines[start]
        reader = csv.reader((lines[index] for index in range(start, len(lines))), skipinitialspace=True, strict=True)
        fields: list[str] | None
        try:
            fields, taken = next(reader), reader.line_num
        except csv.Error:
            fields, taken = None, 1
        if taken > 1 and columns is not None and fields is not None and not len(REQUIRED) <= len(fields) <= columns:
            fields, taken = None, 1
        if fields is None and line.count('"') % 2 == 0:  # such as "a" b, which is not strict csv but clear
            with contextlib.suppress(csv.Error):
                fields = next(csv.reader([line], skipinitialspace=True))
        if fields is None or any(fields):
            yield start + 1, fields
        start += taken


def _row(line: int, fields: Sequence[str] | None, header: Sequence[str]) -> Row:
    if fields is None:
        why = (
            "a quotation mark lacks its pair; close the quotes, and write a quotation mark within quotes twice. "
            "Reading goes on in the next line"
        )
        return Row(line, {}, why)
    if more := [field for field in fields[len(header) :] if field.strip()]:
        why = (
            f"{len(header) + len(more)} values for {len(header)} columns; put a value that holds a comma in quotation "
            "marks"
        )
        return Row(line, {}, why)
    values = {column: field.strip() for column, field in zip(header, fields, strict=False)}
    known = {column: values.get(column, "") for column in (*REQUIRED, *OPTIONAL)}
    for column, value in values.items():
        limit = _MAX_NAME_CHARACTERS if column in ("speaker", "language") else _MAX_CHARACTERS
        if len(value) > limit:
            return Row(line, known, f"{shorten(column)} has {len(value)} characters, more than {limit}; shorten it")
        if "\0" in value:
            return Row(line, known, f"{shorten(column)} holds a NUL character; remove it")
    if missing := [column for column in REQUIRED if not known[column]]:
        why = f"{', '.join(missing)}: not given; reference, synthetic and speaker must all be given"
        return Row(line, known, why)
    return Row(line, known)


def _header(file: Path, lines: Sequence[str]) -> tuple[int, list[str]]:
    """Return the number of the first line that is not empty, and its fields. Raises ConfigError."""
    line, fields = next(_records(lines, None), (0, []))
    if fields is None:
        raise ConfigError(f"--pairs {shorten(file)}: a quotation mark in the first line lacks its pair; close it.")
    header = [field.strip() for field in fields]
    if missing := set(REQUIRED) - set(header):
        found = f" It is {shorten(lines[line - 1].strip())!r}." if line else " The file is empty."
        found += " It looks like UTF-16: save the file as UTF-8." if "\0" in lines[line - 1 if line else 0] else ""
        raise ConfigError(
            f"--pairs {shorten(file)}: the first line lacks {', '.join(sorted(missing))}; it must name "
            f"{','.join(REQUIRED)}.{found}"
        )
    if twice := [column for column in (*REQUIRED, *OPTIONAL) if header.count(column) > 1]:
        raise ConfigError(f"--pairs {shorten(file)}: the first line names {twice[0]} twice; remove one.")
    return line, header


def read_pairs(file: Path) -> PairsFile:
    """Read the rows of a csv file with the columns `REQUIRED`, and `OPTIONAL` ones.

    Empty lines and a byte order mark are skipped. A row that cannot be used keeps the others from nothing.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, or its first line does not name the columns.
    """
    text = _text_of(file)
    lines = text.split("\n")
    lines = [f"{line}\n" for line in lines[:-1]] + lines[-1:]
    with _any_field_size(len(text)):
        first, header = _header(file, lines)
        rows = [_row(first + number, fields, header) for number, fields in _records(lines[first:], len(header))]
    known = (*REQUIRED, *OPTIONAL)
    unknown = [column for column in dict.fromkeys(header) if column and column not in known]
    return PairsFile(rows, unknown)


def unknown_columns_note(file: Path, columns: Sequence[str]) -> str:
    """Say that columns are not used, and which one may have been meant."""
    first = did_you_mean(columns[0][:_MAX_NAME_CHARACTERS], OPTIONAL)
    return f"{shorten(file.name)}: not used: {shorten(', '.join(columns))}. {first}"
