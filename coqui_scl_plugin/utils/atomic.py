"""Atomic writes: files and folders that appear complete or not at all."""

import contextlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path


def owner() -> str:
    """Return this process and its machine, as names of temporary files have them; see `leftovers`."""
    return f"{os.getpid()}@{platform.node().replace(os.sep, '-')}"


def temporary_beside(path: Path) -> Path:
    """Return the temporary path beside `path` that this process writes to."""
    return path.with_name(f".{path.stem}.{owner()}.partial{path.suffix}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` once the block ends without an error.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "made" / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     print([file.name for file in temporary.parent.iterdir()])
    ['a.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which replaces all of `path` once the block ends without an error.

    If the block fails, or the folder cannot be moved into place, `path` stays as it was.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = Path(folder) / "made"
    ...     made.mkdir()
    ...     _ = (made / "old.txt").write_text("")
    ...     with replacing_folder(made) as temporary:
    ...         _ = (temporary / "new.txt").write_text("whole")
    ...     print([str(file.relative_to(folder)) for file in sorted(Path(folder).rglob("*.txt"))])
    ['made/new.txt']
    """
    temporary, former = (path.with_name(f".{path.name}.{owner()}.{state}") for state in ("partial", "former"))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            path.replace(former)
        temporary.replace(path)
    finally:
        if former.exists() and not path.exists():
            former.replace(path)
        for folder in (temporary, former):
            shutil.rmtree(folder, ignore_errors=True)
