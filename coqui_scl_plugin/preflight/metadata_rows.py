"""Findings about the rows of a metadata file: their speakers, texts and recordings."""

import difflib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from coqui_scl_plugin.preflight.listing import Column, Layout, Listing
from coqui_scl_plugin.preflight.missing_files import reasons_of
from coqui_scl_plugin.preflight.report import Finding, agree, number, some, warning
from coqui_scl_plugin.preflight.tables import Row, Table, lines_of

MAX_LOST_SHARE = 0.01
"""Up to this share of a data set may be left out of the training with a warning; more is an error."""


def names_with_spaces(listing: Listing, names: Collection[str], where: str, change: str) -> Finding:
    """Make the finding that names of speakers have spaces around them."""
    what = agree(len(names), "have spaces or line ends around them")
    table = ", which Coqui's table of speakers does not have" if listing.has_speaker_table else ""
    found = f"{listing.place}: {number(len(names), 'name')} of speakers {what}{table}: {some(names)}, {where}."
    return Finding(found, change, is_error=listing.has_speaker_table)


def speaker_findings(listing: Listing, layout: Layout, table: Table, rows: Sequence[Row]) -> list[Finding]:
    """Find rows without a speaker, and speakers who are spelled in several ways."""
    if layout.speaker is None or (layout.has_named_columns and str(layout.speaker) not in (table.header or ())):
        return []
    names = [(row, table.cell(row, layout.speaker) or "") for row in rows]
    findings = []
    if without := [row for row, name in names if not name.strip()]:
        found = f"{listing.place}: {lines_of(without)} {agree(len(without), 'have no speaker')}."
        findings.append(Finding(found, f"Name the speaker of each row in the column {_column(table, layout.speaker)}."))
    if spaced := [(row, name) for row, name in names if name.strip() and name != name.strip()]:
        where = f"in {lines_of(row for row, _ in spaced)}"
        findings.append(names_with_spaces(listing, {name for _, name in spaced}, where, "Remove the spaces."))
    forms: dict[str, set[str]] = defaultdict(set)
    for _, name in names:
        forms[unicodedata.normalize("NFC", name).casefold().strip()].add(name.strip())
    if alike := [sorted(several) for several in forms.values() if len(several) > 1]:
        found = f"{listing.place}: names that differ in case or Unicode form alone count as speakers: {some(alike[0])}."
        findings.append(warning(found, "Spell each speaker in one way."))
    return findings


def _column(table: Table, column: Column) -> str:
    """Name a column for messages."""
    if isinstance(column, int):
        return str(table.header[column]) if table.header is not None else f"number {column + 1}"
    return str(column)


def text_findings(listing: Listing, layout: Layout, table: Table, rows: Sequence[Row]) -> list[Finding]:
    """Find rows without a text."""
    empty = [row for row in rows if not (table.cell(row, layout.text) or "").strip()]
    if not empty:
        return []
    found = f"{listing.place}: {lines_of(empty)} {agree(len(empty), 'have no text')}."
    return [Finding(found, "Write the text, or remove the row.", is_error=len(empty) > MAX_LOST_SHARE * len(rows))]


def _paths(listing: Listing, layout: Layout, table: Table, rows: Iterable[Row]) -> Iterator[tuple[Row, str, Path]]:
    """Yield row, name in the file, and path of each recording that is named."""
    folder = listing.path.parent if layout.beside_table else Path(listing.folder)
    for row in rows:
        if name := table.cell(row, layout.file):
            yield row, name, folder / layout.path(name)


def is_left_out(listing: Listing, layout: Layout, table: Table, row: Row) -> bool:
    """Tell whether a row is of an ignored speaker."""
    if not (layout.takes_ignored and listing.ignored_speakers):
        return False
    return _speaker(layout, table, row) in listing.ignored_speakers


def _speaker(layout: Layout, table: Table, row: Row) -> str | None:
    if layout.speaker_of is not None:
        return layout.speaker_of(table.cell(row, layout.file) or "")
    return table.cell(row, layout.speaker)


def file_findings(listing: Listing, layout: Layout, table: Table, rows: Sequence[Row]) -> list[Finding]:
    """Find rows without a recording, and recordings that do not exist."""
    rows = [row for row in rows if not is_left_out(listing, layout, table, row)]
    findings = []
    if nameless := [row for row in rows if not (table.cell(row, layout.file) or "").strip()]:
        found = f"{listing.place}: {lines_of(nameless)} {agree(len(nameless), 'have no name of a recording')}."
        findings.append(Finding(found, "Name the recording of each row, or remove the row."))
    named = list(_paths(listing, layout, table, rows))
    root = Path(listing.folder)
    if outside := [(row, name) for row, name, path in named if path.is_absolute() and not path.is_relative_to(root)]:
        found = (
            f"{listing.place}: {len(outside)} of {len(rows)} recordings are named by absolute paths outside the data "
            f"set's folder, on which Coqui's listing ends: {some(name for _, name in outside)} in "
            f"{lines_of(row for row, _ in outside)}."
        )
        findings.append(Finding(found, f"Name them relative to {listing.folder}."))
        return findings
    if layout.missing != "listed":  # otherwise the check `recordings` finds them among the samples
        findings += _of_missing(listing, layout, named)
    return findings


def _of_missing(listing: Listing, layout: Layout, named: Sequence[tuple[Row, str, Path]]) -> list[Finding]:
    missing = [(row, name, path) for row, name, path in named if not os.path.exists(path)]  # noqa: PTH110  # quicker
    if not missing:
        return []
    reasons = reasons_of(path for _, _, path in missing)
    part = f"{len(missing)} of {len(named)} recordings {agree(len(missing), 'do not exist')}"
    found = (
        f"{listing.place}: {part if len(missing) < len(named) else f'None of the {len(named)} recordings exists'}: "
        f"{some(name for _, name, _ in missing)} ({lines_of(row for row, _, _ in missing)}){reasons}."
    )
    ends = layout.missing == "ends"
    change = "Coqui's listing ends there. " if ends else "Coqui leaves them out. "
    change += f"Correct their names or {listing.key.rpartition('.')[0]}.path, or remove their rows."
    return [Finding(found, change, is_error=ends or len(missing) > MAX_LOST_SHARE * len(named))]


def repeated_findings(listing: Listing, layout: Layout, table: Table, rows: Sequence[Row]) -> list[Finding]:
    """Find recordings that rows name twice with another text or speaker; the same row twice is taken as meant."""
    said: dict[str, dict[tuple[str | None, str | None], Row]] = defaultdict(dict)
    for row in rows:
        if name := table.cell(row, layout.file):
            said[name].setdefault((table.cell(row, layout.speaker), table.cell(row, layout.text)), row)
    findings = []
    several = {name: kinds for name, kinds in said.items() if len(kinds) > 1}
    by_speaker = {name for name, kinds in several.items() if len({speaker for speaker, _ in kinds}) > 1}
    for what, names in (("speakers", by_speaker), ("texts", several.keys() - by_speaker)):
        if names:
            first = min(names)
            found = (
                f"{listing.place}: {number(len(names), 'recording')} {agree(len(names), f'have several {what}')}: "
                f"{some(names)}, the first of them in {lines_of(several[first].values())}."
            )
            findings.append(warning(found, "Keep one row of each."))
    return findings


def ignored_findings(listing: Listing, layout: Layout, table: Table, rows: Sequence[Row]) -> list[Finding]:
    """Find `ignored_speakers` that leave out everything or nothing."""
    if not listing.ignored_speakers:
        return []
    key = f"{listing.key.rpartition('.')[0]}.ignored_speakers"
    if not layout.takes_ignored:
        found = f"{key} has no effect: the formatter {listing.formatter!r} does not read it."
        return [warning(found, "Remove the rows of these speakers from the file.")]
    if rows and all(is_left_out(listing, layout, table, row) for row in rows):
        return [Finding(f"{key} names every speaker of {listing.path}: nothing is left.", "Name fewer of them.")]
    known = {speaker for row in rows if (speaker := _speaker(layout, table, row))}
    if not (unknown := [name for name in listing.ignored_speakers if name not in known]):
        return []
    near = difflib.get_close_matches(str(unknown[0]), known, n=1)
    found = f"{key} names speakers that {listing.path} does not have: {some(map(str, unknown))}."
    return [warning(found, f"Nearest: {near[0]!r}." if near else f"It has {some(known)}.")]
