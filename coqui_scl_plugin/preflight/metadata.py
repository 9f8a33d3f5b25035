"""The check of the metadata files: what they hold against what Coqui's formatters read of them."""

import difflib
import itertools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.headers import ENDINGS
from coqui_scl_plugin.preflight.listing import LAYOUTS, SEARCHED, Column, Layout, Listing
from coqui_scl_plugin.preflight.missing_files import why_missing
from coqui_scl_plugin.preflight.report import Finding, agree, number, shown, some, warning
from coqui_scl_plugin.preflight.tables import Row, Table, TableError, is_unpaired, read_table

MAX_LOST_SHARE = 0.01
"""Up to this share of a data set may be left out of the training with a warning; more is an error."""
_EXAMINED = 20
"""Recordings that do not exist of which the reason is looked for."""
_EXAMPLE = ", such as "
_MAX_LINES = 5
_FILES = ("audio_file", "file", "file_name", "filename", "wav_filename", "path")
_NAMES = frozenset((*_FILES, "text", "transcript", "sentence", "speaker_name", "speaker"))
"""What columns are called: a line with two of these is a header."""
_MIN_LISTED = 0.4
"""Share of the recordings in a folder that a formatter that searches it lists at least; half of VCTK's, for example."""
_TABLES = (".csv", ".txt", ".tsv")
_SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "'|'"}
_EXPLAINED = re.compile(r"Missing column in line|files not found|files skipped|does not exist|doesn't exist")
"""Warnings of Coqui's formatters that the findings explain, with numbers and names."""


def check_metadata(facts: ConfigFacts) -> list[Finding]:
    """Coqui's formatters read every row of the metadata files, as it is meant, and every recording exists."""
    listings = facts.list_datasets()
    findings = [finding for listing in listings for finding in _findings_of(listing)]
    return [*findings, *_recordings_twice(listings), *_recordings_in_both(listings)]


def _findings_of(listing: Listing) -> list[Finding]:
    name = listing.formatter.lower()
    layout = LAYOUTS.get(name) if listing.file or name not in SEARCHED else None
    findings = _table_findings(listing, layout) if layout is not None else []
    findings += _warnings_of(listing, explained=layout is not None)
    if listing.error is not None and not any(finding.is_error for finding in findings):
        reason = shown(str(listing.error).strip().rstrip(".") or repr(listing.error), quoted=False, limit=200)
        found = f"{listing.place}: Coqui's formatter {listing.formatter!r} reads no recording from it: {reason}."
        findings.append(Finding(found, _what_to_check(listing)))
    return [*(findings or _of_names(listing)), *_of_folder(listing)]


def _what_to_check(listing: Listing) -> str:
    key = listing.key.rpartition(".")[0]
    looks = SEARCHED.get(listing.formatter.lower())
    what = f": {looks}" if looks else " what this formatter looks for"
    return f"Check {key}.formatter and {key}.path, and that the folder has{what}."


def _of_names(listing: Listing) -> list[Finding]:
    """Find names of speakers with spaces or line ends around them, as the formatter returns them."""
    names = {str(sample["speaker_name"]) for sample in listing.samples or () if "speaker_name" in sample}
    if kept := sorted(names & set(listing.ignored_speakers)):
        key = f"{listing.key.rpartition('.')[0]}.ignored_speakers"
        found = f"{key} has no effect on {some(kept)}: the formatter {listing.formatter!r} lists them all the same."
        without = "" if "_" not in kept[0] else f" It may know them without the prefix: {kept[0].partition('_')[2]!r}."
        return [warning(found, f"Name them as the data set does.{without}")]
    if not (spaced := {name for name in names if name != name.strip()}):
        return []
    where = f"as the formatter {listing.formatter!r} reads them"
    return [_of_spaces(listing, spaced, where, "Use another formatter, or one of your own that strips them.")]


def _of_spaces(listing: Listing, names: Collection[str], where: str, change: str) -> Finding:
    what = agree(len(names), "have spaces or line ends around them")
    table = ", which Coqui's table of speakers does not have" if listing.has_speaker_table else ""
    found = f"{listing.place}: {number(len(names), 'name')} of speakers {what}{table}: {some(names)}, {where}."
    return Finding(found, change, is_error=listing.has_speaker_table)


def _of_folder(listing: Listing) -> list[Finding]:
    """Find that a formatter that searches the folder lists only a small part of its recordings."""
    name = listing.formatter.lower()
    names_them = name == "sam_accenture" or (listing.file and name in LAYOUTS)  # a table of some of the recordings
    if name not in SEARCHED or names_them or not listing.samples or listing.key.endswith("_val"):
        return []
    files = (file for _, _, files in os.walk(listing.folder) for file in files)
    there = sum(file.rpartition(".")[2].lower() in ENDINGS for file in files)
    if len(listing.samples) >= _MIN_LISTED * there:
        return []
    found = f"{listing.place}: {len(listing.samples)} of the {there} recordings in the folder are listed."
    return [warning(found, _what_to_check(listing))]


def _warnings_of(listing: Listing, *, explained: bool) -> list[Finding]:
    """Turn what Coqui warned of, and no other finding explains, into one finding."""
    left = [text for text in listing.warnings if not (explained and _EXPLAINED.search(text))]
    if not left:
        return []
    read = len(listing.samples or ())
    missing = [text for text in left if _EXPLAINED.search(text)]
    is_error = len(missing) > MAX_LOST_SHARE * (read + len(missing))
    listed = "; ".join(shown(text, quoted=False) for text in left[:_MAX_LINES])
    more = f"; and {len(left) - _MAX_LINES} more" if len(left) > _MAX_LINES else ""
    found = f"{listing.place}: Coqui's formatter {listing.formatter!r} warns: {listed}{more}."
    change = "Recordings that it skips take no part in the training." if read else _what_to_check(listing)
    return [Finding(found, change, is_error=is_error)]


# --- one table --------------------------------------------------------------------------------------------------------


def _table_findings(listing: Listing, layout: Layout) -> list[Finding]:
    path = listing.path
    if not listing.file:
        found = f"{listing.key} is empty: the formatter {listing.formatter!r} reads the recordings from that file."
        return [Finding(found, f"Name it, relative to {listing.folder}.")]
    if not os.path.isfile(path):  # noqa: PTH113  # Path raises for names that are too long
        return [_of_absent(listing)]
    try:
        table = read_table(path.read_bytes(), layout)
    except OSError as error:
        return [Finding(f"{listing.place} cannot be read: {error.strerror}.", "Make it readable.")]
    except TableError as error:
        return [Finding(f"{listing.place} {error}.", error.change)]
    findings = _of_header(listing, layout, table)
    if any(finding.is_error for finding in findings) and not table.has_byte_order_mark:
        return findings  # its columns are others than they seem
    if not table.rows:
        return [*findings, Finding(f"{listing.place} has no rows.", f"Name a file with recordings in {listing.key}.")]
    return [*findings, *_of_rows(listing, layout, table)]


def _of_absent(listing: Listing) -> Finding:
    path, found = listing.path, f"{listing.place}: there is no such file."
    if os.path.islink(path):  # noqa: PTH114  # as above
        return Finding(f"{listing.place} is a symbolic link to a file that does not exist.", "Put that file there.")
    if os.path.isfile(listing.file):  # noqa: PTH113
        folder = listing.key.rpartition(".")[0] + ".path"
        return Finding(found, f"Name it relative to {folder}: {listing.file} is there from the working folder.")
    near = [name.name for name in sorted(path.parent.glob("*")) if name.suffix in _TABLES]
    there = f" Files there: {some(near)}." if near else ""
    return Finding(found, f"Correct {listing.key}.{there}")


def _of_rows(listing: Listing, layout: Layout, table: Table) -> list[Finding]:
    unpaired: list[Row] = []
    odd: list[Row] = []
    whole: list[Row] = []
    for row in table.rows:
        swallows = layout.has_named_columns and is_unpaired(row, layout.separator)
        kind = unpaired if swallows else odd if len(row.cells) != table.columns else whole
        kind.append(row)
    findings = [
        *_of_quotes(listing, table, unpaired),
        *_of_columns(listing, layout, table, odd),
        *_of_empty_lines(listing, layout, table),
        *_of_speakers(listing, layout, table, whole),
        *_of_texts(listing, layout, table, whole),
        *_of_files(listing, layout, table, whole),
        *_of_repeated(listing, layout, table, whole),
        *_of_ignored(listing, layout, table, whole),
    ]
    return findings if findings or table.has_byte_order_mark else _of_count(listing, layout, table)


def _of_count(listing: Listing, layout: Layout, table: Table) -> list[Finding]:
    """Find that Coqui read another number of rows, for whatever reason."""
    wanted = sum(not _is_left_out(listing, layout, table, row) for row in table.rows)
    read = len(listing.samples) if listing.samples is not None else wanted
    if read == wanted:
        return []
    found = f"{listing.place} has {wanted} rows of speakers that are not ignored, {read} are read."
    return [Finding(found, "Compare them with what the formatter expects.")]


def lines_of(rows: Iterable[Row]) -> str:
    """List the first few line numbers of rows, such as `lines 5, 9`."""
    numbers = [row.line for row in rows]
    more = f" and {len(numbers) - _MAX_LINES} more" if len(numbers) > _MAX_LINES else ""
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:_MAX_LINES]))}{more}"


def _of_header(listing: Listing, layout: Layout, table: Table) -> list[Finding]:
    """Find that the file does not begin, or is not split, as the formatter expects it."""
    mark = "begins with a byte order mark (BOM), which becomes a part of the first name."
    begins = f" The file {mark}" if table.has_byte_order_mark else ""
    if not layout.has_named_columns:
        return _of_split(listing, layout, table) + (
            [Finding(f"{listing.place} {mark}", "Save it as UTF-8 without BOM.")] if begins else []
        )
    header = list(table.header or ())
    missing = [name for name in layout.wanted if name not in header]
    if not missing and not begins:
        return _of_column_names(listing, layout, header)
    read = [("\ufeff" if begins and not index else "") + name for index, name in enumerate(header)]
    found = (
        f"{listing.place}: the formatter {listing.formatter!r} wants the columns {' and '.join(layout.wanted)}; "
        f"line 1 has {', '.join(map(shown, read[:9])) or 'none'}.{begins}"
    )
    change = "Save it as UTF-8 without BOM." if not missing else _begin_with(layout)
    if missing and (other := _separator(header, layout)):
        change = f"Its columns are separated by {_SEPARATORS[other]}, the formatter wants '|': write it so."
    return [Finding(found, change)]


def _begin_with(layout: Layout) -> str:
    names = [*layout.wanted, *([str(layout.speaker)] if layout.speaker else [])]
    return f"Let the first line be {layout.separator.join(names)}, or choose the formatter that fits the file."


def _separator(cells: Sequence[str], layout: Layout) -> str | None:
    """Return the separator of a line that the formatter's own does not split."""
    if len(cells) > 1 or not cells:
        return None
    counts = {other: cells[0].count(other) for other in _SEPARATORS if other != layout.separator}
    best = max(counts, key=lambda other: counts[other])
    return best if counts[best] else None


def _of_split(listing: Listing, layout: Layout, table: Table) -> list[Finding]:
    if not table.rows:
        return []
    if table.header is None and len(_NAMES & {cell.strip().casefold() for cell in table.rows[0].cells}) > 1:
        found = (
            f"{listing.place}: line {table.rows[0].line} names columns, but the formatter {listing.formatter!r} reads "
            "it as a recording."
        )
        return [Finding(found, "Remove that line, or choose the formatter that fits the file.")]
    if table.header is not None and (others := _other_columns(table.header, layout)):
        found = (
            f"{listing.place}: the formatter {listing.formatter!r} reads columns by their place, but in line 1, "
            f"{', '.join(f'number {at + 1} is {shown(name)}, not {wanted!r}' for at, name, wanted in others)}."
        )
        return [Finding(found, f"Begin each line with the columns {', '.join(layout.names)}, in this order.")]
    if table.columns >= layout.least_columns:
        return []
    separator = _SEPARATORS[layout.separator]
    found = (
        f"{listing.place}: the formatter {listing.formatter!r} reads {layout.least_columns} columns, separated by "
        f"{separator}; line {table.rows[0].line} has {len(table.rows[0].cells)}."
    )
    other = _separator(table.rows[0].cells, layout)
    change = f"Its columns are separated by {_SEPARATORS[other]}: " if other else ""
    return [Finding(found, f"{change}choose the formatter that fits the file.".capitalize() if not change else
                    f"{change}write {separator}, or choose the formatter that fits the file.")]  # fmt: skip


def _other_columns(header: Sequence[str], layout: Layout) -> list[tuple[int, str, str]]:
    """Return place, name and wanted name of the columns that the header has elsewhere than where they are read."""
    read, names = (layout.speaker, layout.file, layout.text), [name.strip() for name in header]
    pairs = enumerate(zip(names, layout.names, strict=False))
    return [(at, name, wanted) for at, (name, wanted) in pairs if at in read and name != wanted and wanted in names]


def _of_column_names(listing: Listing, layout: Layout, header: Sequence[str]) -> list[Finding]:
    findings = []
    if twice := sorted(name for name, count in Counter(header).items() if count > 1):
        found = f"{listing.place}: line 1 names the column {shown(twice[0])} twice; the last one is read."
        findings.append(Finding(found, "Name each column once."))
    speaker = str(layout.speaker)
    if speaker not in header and (like := [name for name in header if re.search("speak|client", name.casefold())]):
        found = (
            f"{listing.place}: the column {shown(like[0])} is not read: the formatter {listing.formatter!r} takes "
            f"speakers from the column {speaker}, so that all recordings are of one speaker."
        )
        findings.append(warning(found, f"Name the column {speaker}."))
    return findings


def _of_quotes(listing: Listing, table: Table, unpaired: Sequence[Row]) -> list[Finding]:
    if not unpaired:
        return []
    swallowed = sum(row.last_line - row.line for row in unpaired)
    found = (
        f'{listing.place} has {table.lines} rows, {len(table.rows)} are read: an unpaired quote (") in '
        f"{lines_of(unpaired)} swallows {f'the {swallowed} lines' if swallowed else 'the columns'} after it."
    )
    return [Finding(found, "Remove the quote, or write the text within quotes and each quote in it twice.")]


def _of_columns(listing: Listing, layout: Layout, table: Table, odd: Sequence[Row]) -> list[Finding]:
    if not odd:
        return []
    counted = ", ".join(f"line {row.line} has {number(len(row.cells), 'column')}" for row in odd[:_MAX_LINES])
    more = f", and {len(odd) - _MAX_LINES} more lines are such" if len(odd) > _MAX_LINES else ""
    whole = f"the header has {table.columns}" if table.header is not None else f"most lines have {table.columns}"
    change = "Give each line all columns"
    if table.header is not None:
        change += f", {shown(layout.separator.join(table.header), quoted=False)}"
    if any(len(row.cells) > table.columns for row in odd):
        change += f"; a {_name(layout.separator)} within a text begins another column, so remove it"
    return [Finding(f"{listing.place}: {counted}{more}, {whole}.", f"{change}.")]


def _name(separator: str) -> str:
    return {"\t": "tab"}.get(separator, f"'{separator}'")


def _column(table: Table, column: Column) -> str:
    """Name a column for messages."""
    if isinstance(column, int):
        return str(table.header[column]) if table.header is not None else f"number {column + 1}"
    return str(column)


def _of_empty_lines(listing: Listing, layout: Layout, table: Table) -> list[Finding]:
    if not table.empty_lines:
        return []
    numbers = [Row(number, number, (), "") for number in table.empty_lines]
    found = f"{listing.place}: {lines_of(numbers)} {'is' if len(numbers) == 1 else 'are'} empty"
    if layout.has_named_columns:
        return [warning(f"{found}, and skipped.", "Remove it." if len(numbers) == 1 else "Remove them.")]
    return [Finding(f"{found}: the formatter {listing.formatter!r} ends there.", "Remove what is empty.")]


def _of_speakers(listing: Listing, layout: Layout, table: Table, rows: Sequence[Row]) -> list[Finding]:
    if layout.speaker is None or (layout.has_named_columns and str(layout.speaker) not in (table.header or ())):
        return []
    names = [(row, table.cell(row, layout.speaker) or "") for row in rows]
    findings = []
    if without := [row for row, name in names if not name.strip()]:
        found = f"{listing.place}: {lines_of(without)} {agree(len(without), 'have no speaker')}."
        findings.append(Finding(found, f"Name the speaker of each row in the column {_column(table, layout.speaker)}."))
    if spaced := [(row, name) for row, name in names if name.strip() and name != name.strip()]:
        where = f"in {lines_of(row for row, _ in spaced)}"
        findings.append(_of_spaces(listing, {name for _, name in spaced}, where, "Remove the spaces."))
    forms: dict[str, set[str]] = defaultdict(set)
    for _, name in names:
        forms[unicodedata.normalize("NFC", name).casefold().strip()].add(name.strip())
    if alike := [sorted(several) for several in forms.values() if len(several) > 1]:
        found = f"{listing.place}: names that differ in case or Unicode form alone count as speakers: {some(alike[0])}."
        findings.append(warning(found, "Spell each speaker in one way."))
    return findings


def _of_texts(listing: Listing, layout: Layout, table: Table, rows: Sequence[Row]) -> list[Finding]:
    empty = [row for row in rows if not (table.cell(row, layout.text) or "").strip()]
    if not empty:
        return []
    found = f"{listing.place}: {lines_of(empty)} {agree(len(empty), 'have no text')}."
    return [Finding(found, "Write the text, or remove the row.", is_error=len(empty) > MAX_LOST_SHARE * len(rows))]


# --- the recordings of a table ----------------------------------------------------------------------------------------


def _paths(listing: Listing, layout: Layout, table: Table, rows: Iterable[Row]) -> Iterator[tuple[Row, str, Path]]:
    """Yield row, name in the file, and path of each recording that is named."""
    folder = listing.path.parent if layout.beside_table else Path(listing.folder)
    for row in rows:
        if name := table.cell(row, layout.file):
            yield row, name, folder / layout.path(name)


def _is_left_out(listing: Listing, layout: Layout, table: Table, row: Row) -> bool:
    """Tell whether a row is of an ignored speaker."""
    if not (layout.takes_ignored and listing.ignored_speakers):
        return False
    return _speaker(layout, table, row) in listing.ignored_speakers


def _speaker(layout: Layout, table: Table, row: Row) -> str | None:
    if layout.speaker_of is not None:
        return layout.speaker_of(table.cell(row, layout.file) or "")
    return table.cell(row, layout.speaker)


def _of_files(listing: Listing, layout: Layout, table: Table, rows: Sequence[Row]) -> list[Finding]:
    rows = [row for row in rows if not _is_left_out(listing, layout, table, row)]
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


def reasons_of(missing: Iterable[Path]) -> str:
    """Return why recordings do not exist, as the end of a sentence, after a look at the first of them."""
    reasons = list(filter(None, map(why_missing, itertools.islice(missing, _EXAMINED))))
    kinds = Counter(reason.partition(_EXAMPLE)[0] for reason in reasons)
    first = {kind: next(reason for reason in reasons if reason.startswith(kind)) for kind, _ in kinds.most_common(2)}
    return "".join(f"; {reason}" for reason in first.values())


def _of_repeated(listing: Listing, layout: Layout, table: Table, rows: Sequence[Row]) -> list[Finding]:
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


def _of_ignored(listing: Listing, layout: Layout, table: Table, rows: Sequence[Row]) -> list[Finding]:
    if not listing.ignored_speakers:
        return []
    key = f"{listing.key.rpartition('.')[0]}.ignored_speakers"
    if not layout.takes_ignored:
        found = f"{key} has no effect: the formatter {listing.formatter!r} does not read it."
        return [warning(found, "Remove the rows of these speakers from the file.")]
    if rows and all(_is_left_out(listing, layout, table, row) for row in rows):
        return [Finding(f"{key} names every speaker of {listing.path}: nothing is left.", "Name fewer of them.")]
    known = {speaker for row in rows if (speaker := _speaker(layout, table, row))}
    if not (unknown := [name for name in listing.ignored_speakers if name not in known]):
        return []
    near = difflib.get_close_matches(str(unknown[0]), known, n=1)
    found = f"{key} names speakers that {listing.path} does not have: {some(map(str, unknown))}."
    return [warning(found, f"Nearest: {near[0]!r}." if near else f"It has {some(known)}.")]


# --- two tables -------------------------------------------------------------------------------------------------------


def _recordings_twice(listings: Sequence[Listing]) -> list[Finding]:
    """Find recordings that several data sets list."""
    listed: dict[str, str] = {}
    twice: dict[tuple[str, str], list[str]] = defaultdict(list)
    for listing in listings:
        for file in {str(sample["audio_file"]) for sample in listing.samples or () if listing.key.endswith("_train")}:
            if (first := listed.setdefault(file, listing.key)) != listing.key:
                twice[first, listing.key].append(file)
    return [
        warning(
            f"{number(len(files), 'recording')} {agree(len(files), 'are')} both in {first} and in {other}: "
            f"{some(files)}. They count twice, and may be trained on and evaluated with.",
            f"Remove them from {other}, or that data set.",
        )
        for (first, other), files in twice.items()
    ]


def is_misread(listing: Listing) -> bool:
    """Tell whether what a formatter takes for names of recordings are other things, of which `check_metadata` tells."""
    layout = LAYOUTS.get(listing.formatter.lower())
    if layout is None or not listing.file or not listing.path.is_file():
        return False
    try:
        findings = _of_header(listing, layout, read_table(listing.path.read_bytes(), layout))
    except (OSError, TableError):
        return True
    return any(finding.is_error for finding in findings)


def _recordings_in_both(listings: Sequence[Listing]) -> list[Finding]:
    """Find recordings that are trained on and evaluated with."""
    files: Mapping[str, dict[str, str]] = {"meta_file_train": {}, "meta_file_val": {}}
    for listing in listings:
        part = files.get(listing.key.rpartition(".")[2], {})
        part.update({str(sample["audio_file"]): listing.key for sample in listing.samples or ()})
    train, evaluation = files["meta_file_train"], files["meta_file_val"]
    if not (both := evaluation.keys() & train.keys()):
        return []
    first = min(both)
    found = (
        f"{len(both)} of the {len(evaluation)} recordings of {evaluation[first]} are in {train[first]}, too: "
        f"{some(both)}. The evaluation then measures what the run was trained on."
    )
    return [warning(found, f"Remove them from {train[first]}.")]
