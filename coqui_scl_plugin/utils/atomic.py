"""Atomic writes: files and folders that appear complete or not at all."""

import contextlib
import errno
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from coqui_scl_plugin.utils.disk_error import disk_error


def owner() -> str:
    """Return this process and its machine, as names of temporary files have them; see `leftovers`."""
    return f"{os.getpid()}@{platform.node().replace(os.sep, '-')}"


def temporary_beside(path: Path) -> Path:
    """Return the temporary path beside `path` that this process writes to."""
    return path.with_name(f".{path.stem}.{owner()}.partial{path.suffix}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` once the block ends without an error.

    A link stays a link: what it leads to is replaced. The mode of a file that is replaced stays, and its owner where
    the system allows that. A device or a pipe, which nothing may replace, is written in place.

    Raises:
        OSError: the system's reason, with `path` as its file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "made" / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     print([file.name for file in temporary.parent.iterdir()])
    ['a.txt']
    """
    target = _followed(path)
    temporary = temporary_beside(target)
    with _naming(path, temporary):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file():
            yield target
            return
        try:
            yield temporary
            _take_mode(temporary, target)
            temporary.replace(target)
        finally:
            _remove(temporary)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which replaces all of `path` once the block ends without an error.

    If the block fails, or the folder cannot be moved into place, `path` stays as it was. A link stays a link: what it
    leads to is replaced.

    Raises:
        OSError: the system's reason, with `path` as its file.

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
    target = _followed(path)
    temporary, former = (target.with_name(f".{target.name}.{owner()}.{state}") for state in ("partial", "former"))
    with _naming(path, temporary):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if target.exists():
                target.replace(former)
            temporary.replace(target)
        finally:
            if former.exists() and not target.exists():
                former.replace(target)
            for folder in (temporary, former):
                shutil.rmtree(folder, ignore_errors=True)


def _followed(path: Path) -> Path:
    """Return what a link leads to in the end, and any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


@contextlib.contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Let the error of a disk in the block name `path`: a full one names no file, and others the temporary one."""
    try:
        yield
    except Exception as error:
        found = error if isinstance(error, OSError) else disk_error(error)
        if found is None or found.errno is None or not _is_of(found, temporary):
            raise
        raise OSError(found.errno, found.strerror, str(path)) from error


def _is_of(error: OSError, temporary: Path) -> bool:
    """Tell whether an error is of a temporary file or folder, and not of another file that the block deals with."""
    return error.filename is None or os.fsdecode(error.filename).startswith(str(temporary))


def _take_mode(temporary: Path, target: Path) -> None:
    """Give a file the mode of the one that it is to replace, and its owner where that is allowed."""
    if not target.exists():
        return
    former = target.stat()
    with contextlib.suppress(OSError):
        os.chown(temporary, former.st_uid, former.st_gid)
    with contextlib.suppress(OSError):  # file systems without modes
        shutil.copymode(target, temporary)


def _remove(temporary: Path) -> None:
    """Remove a temporary file if it is there; an error here would hide the one that matters."""
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
