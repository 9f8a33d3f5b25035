"""Temporary files and folders of `atomic` that processes left when they were killed."""

import contextlib
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)(?:@(?P<machine>.+))?\.(?P<kind>partial(?:\.\w+)?|former)")


def remove_leftovers(folder: Path, names: str = "*") -> list[str]:
    """Remove what dead processes of this machine left of unfinished files in a folder.

    A folder that was on its way to be replaced, and has no successor, gets its name back.

    Args:
        folder: The folder; folders in it are not searched.
        names: Glob of the files whose temporary ones are looked for, without their suffix.

    Returns:
        The names of what was removed, sorted.
    """
    removed = []
    for path, name in _leftovers(folder, names):
        with contextlib.suppress(OSError):  # another process may remove it, and none has to
            if path.is_dir() and path.name.endswith(".former") and not path.with_name(name).exists():
                path.rename(path.with_name(name))
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed.append(path.name)
    return sorted(removed)


def _leftovers(folder: Path, names: str) -> Iterator[tuple[Path, str]]:
    """Yield each, and the name of the file or folder that it was to become."""
    for path in list(folder.glob(f".{names}")) if folder.is_dir() else []:
        found = _TEMPORARY.fullmatch(path.name)
        if found is None or found["machine"] not in (None, platform.node()):
            continue
        if not _is_at_work(int(found["pid"]), path):
            yield path, found["name"]


def _is_at_work(pid: int, path: Path) -> bool:
    """Tell whether the process that wrote a file still runs; one that began later has taken over its number."""
    try:
        began = psutil.Process(pid).create_time()
        return began <= path.lstat().st_mtime + 1.0
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError):
        return True
