"""Files of a run folder that appear whole or not at all, although Coqui's trainer writes them in place.

The trainer opens and copies local files through fsspec. Its registry is the seam: within a run folder, the class
registered here writes under a temporary name, which takes the file's own name once all is on the disk.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileOpener, LocalFileSystem

from coqui_scl_plugin.utils.atomic import temporary_beside

_CHUNK = 1 << 20
_SUFFIX = ".whole"
"""Ends the temporary names, since the trainer takes whatever ends in `.pth` for a checkpoint."""


def write_whole(folder: str | os.PathLike[str]) -> None:
    """From now on, let Coqui's trainer write the files in a folder, and in folders in it, whole or not at all."""
    WholeFileSystem.folders.add(Path(folder).resolve())
    for protocol in ("file", "local"):
        fsspec.register_implementation(protocol, WholeFileSystem, clobber=True)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file, which appears whole or not at all. Raises OSError, which names a file."""
    try:
        with source.open("rb") as content, WholeFile(str(target), "wb") as copy:
            shutil.copyfileobj(content, copy, _CHUNK)
    except OSError as error:
        error.filename = error.filename or str(target)  # that of a full disk names none
        raise


class WholeFileSystem(LocalFileSystem):
    """fsspec's local file system, which within some folders replaces files as a whole."""

    folders: ClassVar[set[Path]] = set()

    @classmethod
    def holds(cls, path: str) -> bool:
        """Tell whether a file is in one of the folders."""
        folder = Path(path).parent.resolve()
        return not cls.folders.isdisjoint((folder, *folder.parents))

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any) -> Any:
        own = self._strip_protocol(path)
        if mode != "wb" or not kwargs.get("autocommit", True) or not self.holds(own):
            return super()._open(path, mode, block_size, **kwargs)
        if self.auto_mkdir:
            self.makedirs(self._parent(own), exist_ok=True)
        return WholeFile(own, mode, fs=self, **kwargs)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a file or make a folder, as fsspec does."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if not self.isfile(source) or not self.holds(target):
            super().cp_file(path1, path2, **kwargs)
            return
        copy_whole(Path(source), Path(target))


class WholeFile(LocalFileOpener):
    """A file opened for writing, which takes its name when it is closed, unless an error is on its way then."""

    def __init__(self, path: str, mode: str, **kwargs: Any) -> None:
        """Open the temporary file."""
        self._target = Path(path).resolve()  # a link stays a link
        self._former = sys.exception()
        self._failed = False
        super().__init__(str(temporary_beside(self._target.with_name(self._target.name + _SUFFIX))), mode, **kwargs)

    def write(self, *args: Any, **kwargs: Any) -> Any:
        """Write; after an error, such as that of a full disk, the file never takes its name."""
        try:
            return super().write(*args, **kwargs)
        except BaseException:
            self._failed = True
            raise

    def close(self) -> None:
        """Put what was written on the disk and in place; or remove it if it is not all."""
        if self.closed:
            return
        temporary = Path(self.path)
        # fsspec closes a file without a word about the error that ends its `with` block
        whole = not self._failed and sys.exception() is self._former
        try:
            self.flush()
            if whole:
                os.fsync(self.f.fileno())
            super().close()
            if whole:
                temporary.replace(self._target)
        finally:
            self.f.close()
            temporary.unlink(missing_ok=True)

    def __exit__(self, *args: object) -> None:
        """Close."""
        self.close()
