"""Standard output and error that no terminal, file or pipe behind them can turn into a traceback."""

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


_PLAIN = {"…": ".", "–": "-", "−": "-", "’": "'", "×": "x"}
"""What stands for a character where the encoding lacks it, as wide as it, so that tables keep their lines."""


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking), error.end


codecs.register_error("plainly", _plainly)


class _Holding(io.FileIO):
    """A file that remembers the first error in writing, and from then on drops what is written."""

    error: OSError | None = None

    def write(self, content: "ReadableBuffer", /) -> int:
        """Write, or do as if."""
        if self.error is None:
            try:
                return super().write(content) or 0
            except OSError as error:
                self.error = error
        return memoryview(content).nbytes


@contextlib.contextmanager
def holding_streams() -> Iterator[list[OSError]]:
    """Replace standard output and error while the block runs, unless they were replaced before, as by a test.

    What their encoding lacks is written as an escape. A stream that is closed leads nowhere. After an
    error in writing, as of a full disk, what is written is dropped.

    Yields:
        A list that on leaving receives the error of standard output, unless its reader is gone, as with `| head`.
    """
    errors: list[OSError] = []
    former = sys.stdout, sys.stderr
    held = [_held(stream, number) for number, stream in enumerate(former, start=1)]
    sys.stdout, sys.stderr = (stream for stream, _ in held)
    try:
        yield errors
    finally:
        for stream, _ in held:
            with contextlib.suppress(ValueError):  # closed by the block
                stream.flush()
        _, file = held[0]
        if file is not None and file.error is not None and file.error.errno != errno.EPIPE:
            errors.append(file.error)
        if former[0] is not None:
            sys.stdout = former[0]
        if former[1] is not None:
            sys.stderr = former[1]


def _held(stream: TextIO | None, number: int) -> tuple[TextIO, _Holding | None]:
    """Return the stream to use in place of one, and the file behind it if that is ours."""
    if stream is None:  # the process was started without it
        return _nowhere(number), None
    is_own = stream is sys.__stdout__ or stream is sys.__stderr__
    if not is_own or stream.fileno() != number:
        return stream, None
    file = _Holding(number, "w", closefd=False)
    return (
        io.TextIOWrapper(
            io.BufferedWriter(file),
            encoding=stream.encoding,
            errors="plainly",
            line_buffering=number == 2 or file.isatty(),
        ),
        file,
    )


def _nowhere(number: int) -> TextIO:
    """Return a stream that leads nowhere, which also keeps the number from the next file that is opened."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    if nothing != number:
        try:
            os.fstat(number)
        except OSError:
            os.dup2(nothing, number)
    return os.fdopen(nothing, "w", encoding="utf-8")
