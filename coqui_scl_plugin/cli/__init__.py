"""The command `coqui-scl`."""

import itertools
import json
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from coqui_scl_plugin.cli import demo, evaluate
from coqui_scl_plugin.coqui import train_tts
from coqui_scl_plugin.errors import ConfigError, SclError

_HELP = {"help_option_names": ["-h", "--help"]}
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}

app = typer.Typer(
    context_settings=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False) -> None:
    """Speaker consistency losses and an explicit freeze policy for Coqui TTS's VITS trainer."""


@app.command(context_settings={**_PASS_ON, "help_option_names": []})
def train(ctx: typer.Context) -> None:
    """Train a model: TTS.bin.train_tts with every flag of its own (-h lists them), and --skip ID.

    The config is checked first; nothing is written if it cannot be used. --coqpit.scl.weight 5 and the like override
    single values. A stock config with use_speaker_encoder_as_loss is trained as scl_vits. --skip ID lets a check of
    coqui-scl preflight fail; the run folder records it.
    """
    train_tts.train(ctx.args)


@app.command(context_settings=_PASS_ON)
def run(ctx: typer.Context) -> None:
    """Run any Coqui command with this package imported: run -m TTS.bin.NAME ..., or run tts ..."""
    arguments = list(ctx.args)
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        train_tts.run_module(arguments[1], arguments[2:])
    elif arguments and not arguments[0].startswith("-"):
        train_tts.run_script(arguments[0], arguments[1:])
    else:
        raise ConfigError("run needs a command: coqui-scl run -m TTS.bin.NAME ..., or coqui-scl run tts ...")


@app.command(context_settings={**_PASS_ON, "allow_interspersed_args": True})
def embed(
    ctx: typer.Context,
    config_path: Annotated[str, typer.Option("--config_path", help="Config of the run: JSON or YAML.")],
    import_file: Annotated[
        Path | None, typer.Option("--import", help="Take embeddings from Coqui's speakers.pth or speakers.json.")
    ] = None,
    export_file: Annotated[
        Path | None, typer.Option("--export", help="Write the embeddings as such a file, for d_vector_file.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Alias of the encoder of --import and --export, where there are several.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Fill the reference cache: embed every recording of the config once; training does it too where it must.

    What is in the cache is not embedded again, unless its file changed. An interrupted run keeps what it has. At the
    end of the line, --coqpit.KEY VALUE overrides single values of the config.
    """
    from coqui_scl_plugin.cli.embed import run_embed

    run_embed(config_path, ctx.args, import_file, export_file, encoder, as_json=as_json)


@app.command(context_settings={**_PASS_ON, "allow_interspersed_args": True})
def preflight(
    ctx: typer.Context,
    config_path: Annotated[str, typer.Option("--config_path", help="Config of the run: JSON or YAML.")],
    restore_path: Annotated[
        str | None, typer.Option("--restore_path", help="Checkpoint that the run is to start from.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(help="Id of a check that may fail; may be given several times.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Check a run without starting it: whether the loss will teach the generator, and what would end the run late.

    The same checks run before step 1 of every training. Writes nothing. Ends with 1 if a check failed. At the end of
    the line, --coqpit.KEY VALUE overrides single values of the config. See docs/preflight.md for the checks.
    """
    from coqui_scl_plugin.cli.preflight import run_preflight

    run_preflight(config_path, ctx.args, restore_path, skip or [], as_json=as_json)


app.command(context_settings={**_PASS_ON, "allow_interspersed_args": True})(evaluate.evaluate)


@app.command("list")
def list_registered(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every loss, speaker encoder and freeze policy, with the distribution that registered it."""
    from rich.console import Console
    from rich.table import Table

    from coqui_scl_plugin.plugins import registry

    rows = [
        {"kind": kind, "name": name, "distribution": entry.distribution, "summary": _summary(entry.cls)}
        for kind in registry.KINDS
        for name, entry in sorted(registry.installed().entries(kind).items())
    ]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table("kind", "name", "registered by", "what it is")
    for row in rows:
        table.add_row(registry.KINDS[row["kind"]], row["name"], row["distribution"], row["summary"])
    Console().print(table)


def _summary(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]


app.command()(demo.demo)


def main() -> None:
    """Run the command line: one message on standard error for an error of ours, a traceback only under --debug."""
    # options before the command are ours; a command that runs another replaces sys.argv
    debug = "--debug" in itertools.takewhile(lambda argument: argument.startswith("-"), sys.argv[1:])
    try:
        app(prog_name="coqui-scl")
    except SclError as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"coqui-scl: {error}\n")
        sys.exit(error.exit_status)
