"""The command `coqui-scl`: one file a command, registered here.

These modules are light, so that help answers at once: a command imports its work when it runs.
"""

import itertools
import sys
from typing import Annotated

import typer

from coqui_scl_plugin import __version__
from coqui_scl_plugin.cli import (
    demo,
    disable,
    embed,
    enable,
    encoders,
    evaluate,
    export,
    init,
    listen,
    preflight,
    run,
    train,
)
from coqui_scl_plugin.cli import list as list_command
from coqui_scl_plugin.cli.ending import end_with

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
app.command("init")(init.init)
app.command("train", context_settings={**_PASS_ON, "help_option_names": []})(train.train)
app.command("run", context_settings=_PASS_ON)(run.run)
app.command("embed", context_settings=_OVERRIDES)(embed.embed)
app.command("preflight", context_settings=_OVERRIDES)(preflight.preflight)
app.command("evaluate", context_settings=_OVERRIDES)(evaluate.evaluate)
app.command("listen", context_settings=_OVERRIDES)(listen.listen)
app.command("export", context_settings=_OVERRIDES)(export.export)
app.command("enable")(enable.enable)
app.command("disable")(disable.disable)
app.command("list")(list_command.list_registered)
app.add_typer(encoders.app, name="encoders", context_settings=app.info.context_settings)
app.command("demo")(demo.demo)


def _say_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"coqui-scl {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Speaker consistency losses and an explicit freeze policy for Coqui TTS's VITS trainer."""


def main() -> None:
    """Run the command line: one message on standard error for an error of ours, a traceback only under --debug."""
    # options before the command are ours; a command that runs another replaces sys.argv
    debug = "--debug" in itertools.takewhile(lambda argument: argument.startswith("-"), sys.argv[1:])
    end_with(lambda: app(prog_name="coqui-scl"), debug=debug)
