"""The command `coqui-scl`: one file a command, registered here.

These modules are light, so that help answers at once: a command imports its work when it runs.
"""

import atexit
import itertools
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from coqui_scl_plugin.cli import demo, embed, evaluate, preflight, run, train
from coqui_scl_plugin.cli import list as list_command
from coqui_scl_plugin.errors import SclError
from coqui_scl_plugin.utils.signals import ending_by_signals, received, status_of
from coqui_scl_plugin.utils.streams import holding_streams

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
_OVERRIDES = {**_PASS_ON, "allow_interspersed_args": True}
"""For commands that take --coqpit.KEY VALUE at the end of the line."""

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("train", context_settings={**_PASS_ON, "help_option_names": []})(train.train)
app.command("run", context_settings=_PASS_ON)(run.run)
app.command("embed", context_settings=_OVERRIDES)(embed.embed)
app.command("preflight", context_settings=_OVERRIDES)(preflight.preflight)
app.command("evaluate", context_settings=_OVERRIDES)(evaluate.evaluate)
app.command("list")(list_command.list_registered)
app.command("demo")(demo.demo)


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False) -> None:
    """Speaker consistency losses and an explicit freeze policy for Coqui TTS's VITS trainer."""


def main() -> None:
    """Run the command line: one message on standard error for an error of ours, a traceback only under --debug.

    Signals and what is behind the standard streams are dealt with here; see `docs/reliability.md`.
    """
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback at every line
    with holding_streams() as errors:
        with ending_by_signals():
            status = _run()
        sys.stdout.flush()
        sys.stderr.flush()
    if received() is not None:
        _leave(status)
    if errors and status == 0:
        sys.stderr.write(f"coqui-scl: standard output cannot be written: {errors[0].strerror}.\n")
        status = 1
    sys.exit(status)


def _run() -> int:
    """Run the command, say what ended it, and return its exit status."""
    # options before the command are ours; a command that runs another replaces sys.argv
    debug = "--debug" in itertools.takewhile(lambda argument: argument.startswith("-"), sys.argv[1:])
    try:
        status = _status_of(app)
    except SclError as error:
        status = error.exit_status
        _say(str(error), debug=debug)
    except OSError as error:  # a disk that is full or cannot be written to, above all
        status = 1
        _say(_described(error), debug=debug)
    except KeyboardInterrupt:
        status = status_of(signal.SIGINT)
    if (number := received()) is not None:
        _say(f"ended by {number.name}.", debug=False)
        return status_of(number)
    return status


def _status_of(command: Callable[..., None]) -> int:
    """Return the exit status with which typer ends a command."""
    try:
        command(prog_name="coqui-scl")
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        sys.stderr.write(f"{stop.code}\n")  # as the interpreter does
        return 1
    return 0


def _described(error: OSError) -> str:
    """Return the file of an error and the system's reason."""
    if error.strerror is None or error.filename is None:
        return str(error)
    return f"{error.filename}: {error.strerror}."


def _say(message: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"coqui-scl: {message}\n")


def _leave(status: int) -> NoReturn:
    """End the process after a signal: as at any end, but without a wait for threads at work on what nobody needs."""
    logging.shutdown()
    atexit._run_exitfuncs()
    os._exit(status)
