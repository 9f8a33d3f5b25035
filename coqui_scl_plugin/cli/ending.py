"""How a command ends: its exit status, and the one message on standard error that says what ended it."""

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

from coqui_scl_plugin.errors import SclError
from coqui_scl_plugin.utils.disk_error import disk_error
from coqui_scl_plugin.utils.signals import ending_by_signals, received, status_of
from coqui_scl_plugin.utils.streams import holding_streams


def end_with(command: Callable[[], None], *, debug: bool) -> NoReturn:
    """Run a command and end the process with its status; tracebacks are shown under `debug`, and for bugs.

    After a signal, the status is 128 plus its number. Threads that are still at work then are not waited for.
    """
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback at each of its lines
    with holding_streams() as errors:
        with ending_by_signals(), _threads_without_tracebacks(debug=debug):
            status = _run(command, debug=debug)
        sys.stdout.flush()
        sys.stderr.flush()
    if received() is not None:
        logging.shutdown()
        atexit._run_exitfuncs()
        os._exit(status)
    if errors and status == 0:
        sys.stderr.write(f"coqui-scl: standard output cannot be written: {errors[0].strerror}.\n")
        status = 1
    sys.exit(status)


def _run(command: Callable[[], None], *, debug: bool) -> int:
    """Run the command, say what ended it, and return its exit status."""
    status = 0
    try:
        command()
    except SystemExit as stop:
        status = _status(stop)
    except KeyboardInterrupt:
        status = status_of(signal.SIGINT)
    except SclError as error:
        status = error.exit_status
        _say(str(error), debug=debug)
    except Exception as error:
        found = error if isinstance(error, OSError) else disk_error(error)
        if found is None:
            raise
        status = 1
        _say(_described(found), debug=debug)
    if (number := received()) is not None:
        _say(f"ended by {number.name}.", debug=False)
        return status_of(number)
    return status


def _status(stop: SystemExit) -> int:
    """Return the status that an exit asks for, and say what it says in place of one, as the interpreter does."""
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    sys.stderr.write(f"{stop.code}\n")
    return 1


def _described(error: OSError) -> str:
    """Return the file of an error and the system's reason."""
    if error.strerror is None or error.filename is None:
        return str(error)
    return f"{error.filename}: {error.strerror}."


def _say(message: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"coqui-scl: {message}\n")


@contextlib.contextmanager
def _threads_without_tracebacks(*, debug: bool) -> Iterator[None]:
    """Let a thread that the disk stops say nothing: TensorBoard's hands its error to the main thread, which says it."""
    former = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if debug or disk_error(failed.exc_value) is None:
            former(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = former
