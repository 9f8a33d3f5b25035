"""Findings about the columns of a metadata file: its header, its quotes, and lines that are split otherwise."""

import re
from collections import Counter
from collections.abc import Sequence

from coqui_scl_plugin.preflight.listing import Layout, Listing
from coqui_scl_plugin.preflight.report import Finding, number, warning
from coqui_scl_plugin.preflight.tables import MAX_LINES, Row, Table, lines_of
from coqui_scl_plugin.utils.shown import excerpt

_FILES = ("audio_file", "file", "file_name", "filename", "wav_filename", "path")
_NAMES = frozenset((*_FILES, "text", "transcript", "sentence", "speaker_name", "speaker"))
"""What columns are called: a line with two of these is a header."""
_SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "'|'"}


def header_findings(listing: Listing, layout: Layout, table: Table) -> list[Finding]:
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
        f"line 1 has {', '.join(map(excerpt, read[:9])) or 'none'}.{begins}"
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
            f"{', '.join(f'number {at + 1} is {excerpt(name)}, not {wanted!r}' for at, name, wanted in others)}."
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
        found = f"{listing.place}: line 1 names the column {excerpt(twice[0])} twice; the last one is read."
        findings.append(Finding(found, "Name each column once."))
    speaker = str(layout.speaker)
    if speaker not in header and (like := [name for name in header if re.search("speak|client", name.casefold())]):
        found = (
            f"{listing.place}: the column {excerpt(like[0])} is not read: the formatter {listing.formatter!r} takes "
            f"speakers from the column {speaker}, so that all recordings are of one speaker."
        )
        findings.append(warning(found, f"Name the column {speaker}."))
    return findings


def quote_findings(listing: Listing, table: Table, unpaired: Sequence[Row]) -> list[Finding]:
    """Find lines in which a quote opens and does not close."""
    if not unpaired:
        return []
    swallowed = sum(row.last_line - row.line for row in unpaired)
    found = (
        f'{listing.place} has {table.lines} rows, {len(table.rows)} are read: an unpaired quote (") in '
        f"{lines_of(unpaired)} swallows {f'the {swallowed} lines' if swallowed else 'the columns'} after it."
    )
    return [Finding(found, "Remove the quote, or write the text within quotes and each quote in it twice.")]


def column_findings(listing: Listing, layout: Layout, table: Table, odd: Sequence[Row]) -> list[Finding]:
    """Find lines with another number of columns than the others."""
    if not odd:
        return []
    counted = ", ".join(f"line {row.line} has {number(len(row.cells), 'column')}" for row in odd[:MAX_LINES])
    more = f", and {len(odd) - MAX_LINES} more lines are such" if len(odd) > MAX_LINES else ""
    whole = f"the header has {table.columns}" if table.header is not None else f"most lines have {table.columns}"
    change = "Give each line all columns"
    if table.header is not None:
        change += f", {excerpt(layout.separator.join(table.header), quoted=False)}"
    if any(len(row.cells) > table.columns for row in odd):
        change += f"; a {_name(layout.separator)} within a text begins another column, so remove it"
    return [Finding(f"{listing.place}: {counted}{more}, {whole}.", f"{change}.")]


def _name(separator: str) -> str:
    return {"\t": "tab"}.get(separator, f"'{separator}'")


def empty_line_findings(listing: Listing, layout: Layout, table: Table) -> list[Finding]:
    """Find empty lines."""
    if not table.empty_lines:
        return []
    numbers = [Row(number, number, (), "") for number in table.empty_lines]
    found = f"{listing.place}: {lines_of(numbers)} {'is' if len(numbers) == 1 else 'are'} empty"
    if layout.has_named_columns:
        return [warning(f"{found}, and skipped.", "Remove it." if len(numbers) == 1 else "Remove them.")]
    return [Finding(f"{found}: the formatter {listing.formatter!r} ends there.", "Remove what is empty.")]
