"""The rows of a metadata file, read line by line, with what keeps Coqui's formatter from reading them."""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from coqui_scl_plugin.preflight.listing import Column, Layout

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BOM = codecs.BOM_UTF8.decode("utf-8")
MAX_LINES = 5
"""Line numbers that a message lists."""
_KINDS = {
    b"PK\x03\x04": "is a spreadsheet (.xlsx, .ods) or another zip file, not text",
    b"\xd0\xcf\x11\xe0": "is a spreadsheet (.xls) or another Office file, not text",
    b"\x1f\x8b": "is compressed by gzip",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself",
    b"<!DOCTYPE": "is a web page, not a table",
    b"<html": "is a web page, not a table",
    b"[{": "is JSON, not a table",
    b'{"': "is JSON, not a table",
    b"{\n": "is JSON, not a table",
    b"[\n": "is JSON, not a table",
}
"""What a file is that begins in this way."""
_AS_TEXT = "Save it as UTF-8 text, without a byte order mark."


class TableError(Exception):
    """A file that is no table of text; the message says why, as the end of a sentence that begins with the file."""

    def __init__(self, found: str, change: str = _AS_TEXT) -> None:
        """Take what is wrong, and what to do."""
        super().__init__(found)
        self.change = change


@dataclass(frozen=True)
class Row:
    """One row of the file as the formatter splits it."""

    line: int
    """Its first line, counted from 1."""
    last_line: int
    cells: Sequence[str]
    source: str
    """Its first line as it is in the file."""


@dataclass(frozen=True)
class Table:
    """The content of a metadata file."""

    rows: Sequence[Row]
    """Without the header and without empty lines."""
    header: Sequence[str] | None
    """The names of the columns; None in files without them."""
    columns: int
    """How many columns a row should have: those of the header, else of most rows."""
    lines: int
    """Lines that should be rows: all but the header and empty ones."""
    empty_lines: Sequence[int] = field(default_factory=tuple)
    has_byte_order_mark: bool = False

    def cell(self, row: Row, column: Column) -> str | None:
        """Return what a row has in a column; None if it is too short, or there is no such column."""
        if isinstance(column, str):
            names = self.header or ()
            index = len(names) - 1 - list(reversed(names)).index(column) if column in names else None
        else:
            index = column
        return row.cells[index] if index is not None and index < len(row.cells) else None


def read_table(content: bytes, layout: Layout) -> Table:
    """Read a metadata file as the formatter of this layout splits it. Raises TableError."""
    text = _decoded(content, layout.encoding)
    marked = text.startswith(_BOM)
    text = text.removeprefix(_BOM).replace("\r\n", "\n").replace("\r", "\n")
    lines = text.removesuffix("\n").split("\n") if text else []
    empty = tuple(number for number, line in enumerate(lines, 1) if not line)
    rows = list(_quoted_rows(lines, layout) if layout.has_named_columns else _split_rows(lines, layout))
    header: Sequence[str] | None = None
    if layout.has_named_columns:
        header = rows[0].cells if rows else ()
        columns, rows = len(header), rows[1:]
    else:
        named = [row for row in rows if layout.begin_of_header and row.source.startswith(layout.begin_of_header)]
        rows = [row for row in rows if not row.source.startswith(layout.begin_of_header)] if named else rows
        counts = Counter(len(row.cells) for row in (named or rows))
        columns = counts.most_common(1)[0][0] if counts else 0
        header = named[0].cells if named else None
    count = len(lines) - len(empty) - (1 if header is not None and lines else 0)
    return Table(rows, header, columns, count, empty, marked)


def _decoded(content: bytes, encoding: str) -> str:
    if content.startswith(_UTF_16):
        raise TableError("is UTF-16, Coqui reads UTF-8")
    for beginning, kind in _KINDS.items():
        if content.startswith(beginning):
            raise TableError(kind, "Write a table in UTF-8 text, one recording a line, as the formatter reads it.")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise TableError(f"is not UTF-8: byte 0x{content[error.start]:02x} in line {line}, place {column}") from error
    if "\0" in text:
        if 3 * text.count("\0") > len(text):
            raise TableError("is UTF-16 without a byte order mark, Coqui reads UTF-8")
        line = 1 + text[: text.index("\0")].count("\n")
        raise TableError(f"holds a NUL character in line {line}", "Remove it.")
    return text


def _split_rows(lines: Sequence[str], layout: Layout) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if line:
            yield Row(number, number, line.split(layout.separator), line)


def _quoted_rows(lines: Sequence[str], layout: Layout) -> Iterator[Row]:
    reader = csv.reader(io.StringIO("\n".join(lines)), delimiter=layout.separator)
    end = 0
    while True:
        begin = end
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:  # a quoted text of over 131,072 characters: the quote does not end
            yield Row(begin + 1, len(lines), (), lines[begin])
            return
        end = reader.line_num
        if cells:
            yield Row(begin + 1, end, cells, lines[begin])


def is_unpaired(row: Row, separator: str) -> bool:
    """Tell whether a quote in a row does not end where its text does, so that it swallows what follows."""
    if not row.cells:
        return True
    swallows = any("\n" in cell and separator in cell for cell in row.cells)
    return swallows or (row.source.count('"') % 2 == 1 and any(separator in cell for cell in row.cells))


def lines_of(rows: Iterable[Row]) -> str:
    """List the first few line numbers of rows, such as `lines 5, 9`."""
    numbers = [row.line for row in rows]
    more = f" and {len(numbers) - MAX_LINES} more" if len(numbers) > MAX_LINES else ""
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:MAX_LINES]))}{more}"
