"""Signals that ask a command to end: each ends it as Ctrl-C does, so that what is being done is left tidy."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME_REQUEST_SECONDS = 2.0
"""Signals this close are one request: `timeout` and job managers send it to the process and to its group."""


class Ended(KeyboardInterrupt):
    """A signal that asks to end; like Ctrl-C, it passes by `except Exception`."""


_received: list[signal.Signals] = []


def received() -> signal.Signals | None:
    """Return the signal that asked this process to end, None if none did; within `ending_by_signals`."""
    return _received[0] if _received else None


def status_of(number: signal.Signals) -> int:
    """Return the exit status by which shells know that a signal ended a program."""
    return 128 + number


@contextlib.contextmanager
def ending_by_signals() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise `Ended` in the main thread; a signal that is ignored stays ignored.

    `nohup` ignores SIGHUP and a background shell SIGINT, and both mean it. A later signal raises again, which ends what
    the first one left to be done; within two seconds it is taken for the same one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process, last = os.getpid(), -_SAME_REQUEST_SECONDS

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if os.getpid() != process:  # a worker that inherited this
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        former, last = last, time.monotonic()
        if last - former < _SAME_REQUEST_SECONDS:
            return
        _received.append(signal.Signals(number))
        raise Ended

    _received.clear()
    former = {number: signal.getsignal(number) for number in _REQUESTS}
    try:
        for number in _REQUESTS:
            if former[number] not in (signal.SIG_IGN, None):
                signal.signal(number, end)
        yield
    finally:
        for number, handler in former.items():
            if handler is not None:
                signal.signal(number, handler)
