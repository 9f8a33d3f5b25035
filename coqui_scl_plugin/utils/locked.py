"""An advisory lock on a file that several processes read, merge and replace."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_TIMEOUT_SECONDS = 30.0


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on a file, or on what a link leads to, while the block runs; other processes that ask for it wait.

    The kernel holds the lock, on a file beside the one that is meant, and frees it when a process dies. Where it cannot
    be had within 30 s (a file system without locks, a folder that cannot be written to, a process that hangs), the
    block runs without it: it must then still be safe, if less complete.
    """
    real = Path(os.path.realpath(path))
    lock = FileLock(real.with_name(f".{real.name}.lock"), timeout=_TIMEOUT_SECONDS, fallback_to_soft=False)
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):  # of which filelock's Timeout is one
        yield
        return
    try:
        yield
    finally:
        # removed while it is held: whoever waits sees that the file is gone, and asks again
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def held_alone(path: Path) -> FileLock | None:
    """Hold the lock on a file or folder until `let_go`, or the end of the process; None where it cannot be had.

    Raises:
        BlockingIOError: another process, or another place of this one, holds it.
    """
    real = Path(os.path.realpath(path))
    lock = FileLock(real.with_name(f".{real.name}.lock"), timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise BlockingIOError from error
    except (OSError, NotImplementedError):
        return None
    return lock


def let_go(lock: FileLock | None) -> None:
    """Free what `held_alone` holds."""
    if lock is not None and lock.is_locked:
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()
