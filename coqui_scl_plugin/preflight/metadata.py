"""The check of the metadata files: what they hold against what Coqui's formatters read of them."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.headers import ENDINGS
from coqui_scl_plugin.preflight.listing import LAYOUTS, SEARCHED, Layout, Listing
from coqui_scl_plugin.preflight.metadata_columns import (
    column_findings,
    empty_line_findings,
    header_findings,
    quote_findings,
)
from coqui_scl_plugin.preflight.metadata_rows import (
    MAX_LOST_SHARE,
    file_findings,
    ignored_findings,
    is_left_out,
    names_with_spaces,
    repeated_findings,
    speaker_findings,
    text_findings,
)
from coqui_scl_plugin.preflight.report import Finding, agree, number, some, warning
from coqui_scl_plugin.preflight.tables import MAX_LINES, Row, Table, TableError, is_unpaired, read_table
from coqui_scl_plugin.utils.shown import excerpt

_MIN_LISTED = 0.4
"""Share of the recordings in a folder that a formatter that searches it lists at least; half of VCTK's, for example."""
_TABLES = (".csv", ".txt", ".tsv")
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
        reason = excerpt(str(listing.error).strip().rstrip(".") or repr(listing.error), quoted=False, limit=200)
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
    return [names_with_spaces(listing, spaced, where, "Use another formatter, or one of your own that strips them.")]


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
    listed = "; ".join(excerpt(text, quoted=False) for text in left[:MAX_LINES])
    more = f"; and {len(left) - MAX_LINES} more" if len(left) > MAX_LINES else ""
    found = f"{listing.place}: Coqui's formatter {listing.formatter!r} warns: {listed}{more}."
    change = "Recordings that it skips take no part in the training." if read else _what_to_check(listing)
    return [Finding(found, change, is_error=is_error)]


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
    findings = header_findings(listing, layout, table)
    if any(finding.is_error for finding in findings) and not table.has_byte_order_mark:
        return findings  # its columns are others than they seem
    if not table.rows:
        return [*findings, Finding(f"{listing.place} has no rows.", f"Name a file with recordings in {listing.key}.")]
    return [*findings, *_of_rows(listing, layout, table)]


def _of_absent(listing: Listing) -> Finding:
    path, found = listing.path, f"{listing.place}: there is no such file."
    if os.path.islink(path):  # noqa: PTH114  # as above
        return Finding(f"{listing.place} is a symbolic link to a file that does not exist.", "Put that file there.")
    if os.path.exists(path):  # noqa: PTH110
        return Finding(f"{listing.place} is a folder, a pipe or a device, not a file.", f"Correct {listing.key}.")
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
        *quote_findings(listing, table, unpaired),
        *column_findings(listing, layout, table, odd),
        *empty_line_findings(listing, layout, table),
        *speaker_findings(listing, layout, table, whole),
        *text_findings(listing, layout, table, whole),
        *file_findings(listing, layout, table, whole),
        *repeated_findings(listing, layout, table, whole),
        *ignored_findings(listing, layout, table, whole),
    ]
    return findings if findings or table.has_byte_order_mark else _of_count(listing, layout, table)


def _of_count(listing: Listing, layout: Layout, table: Table) -> list[Finding]:
    """Find that Coqui read another number of rows, for whatever reason."""
    wanted = sum(not is_left_out(listing, layout, table, row) for row in table.rows)
    read = len(listing.samples) if listing.samples is not None else wanted
    if read == wanted:
        return []
    found = f"{listing.place} has {wanted} rows of speakers that are not ignored, {read} are read."
    return [Finding(found, "Compare them with what the formatter expects.")]


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
        findings = header_findings(listing, layout, read_table(listing.path.read_bytes(), layout))
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
