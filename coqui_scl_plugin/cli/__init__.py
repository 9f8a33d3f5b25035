"""The command `coqui-scl`."""

import itertools
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from coqui_scl_plugin.cli import embed, preflight, run, train
from coqui_scl_plugin.cli import list as list_command
from coqui_scl_plugin.errors import SclError

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


_OVERRIDES = {**_PASS_ON, "allow_interspersed_args": True}

app.command("train", context_settings={**_PASS_ON, "help_option_names": []})(train.train)
app.command("run", context_settings=_PASS_ON)(run.run)
app.command("embed", context_settings=_OVERRIDES)(embed.embed)
app.command("preflight", context_settings=_OVERRIDES)(preflight.preflight)
app.command("list")(list_command.list_registered)


@app.command(context_settings={**_PASS_ON, "allow_interspersed_args": True})
def evaluate(
    ctx: typer.Context,
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN...", help="Folders of runs; several are compared.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Instead of a run: csv file with the columns reference,synthetic,speaker.")
    ] = None,
    real: Annotated[
        Path | None, typer.Option(help="Instead of a run: real speech, DIR/SPEAKER/FILE; with --synthetic.")
    ] = None,
    synthetic: Annotated[
        Path | None, typer.Option(help="Synthetic speech, DIR/SPEAKER/FILE; files named as real ones are pairs.")
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Speaker encoder that judges, beside those of the runs; may be given several times. Without a run: "
            "ge2e and dvector."
        ),
    ] = None,
    synthesis: Annotated[
        list[str] | None,
        typer.Option(
            help="What the run's model makes of held-out recordings: tts (speaks the text; the default), "
            "reconstruction (copies in the same voice), conversion (copies in another speaker's voice); may be given "
            "several times."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Model of the run. Default: its best model, or else its latest checkpoint.")
    ] = None,
    sentences: Annotated[int, typer.Option(min=1, help="Held-out recordings of each speaker, at most.")] = 10,
    level: Annotated[
        float | None,
        typer.Option(
            "--level-dbfs", min=-60, max=0,
            help="Bring every recording to this level (RMS) first, as YourTTS's authors to -27. Default: as it is.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of synthesis and of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=99, help="Of the bootstrap over speakers.")] = 9999,
    out: Annotated[Path, typer.Option(help="Folder for results.json, report.html, trials.csv and audio.")] = Path(
        "evaluation_out"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of the tables.")] = False,
) -> None:  # fmt: skip
    """Judge whether synthetic speech sounds like the right person, by encoders trained against and held-out ones.

    Similarity (SECS), equal error rate and minDCF of each encoder, with 95 % intervals over speakers, scaled between
    real speech of different speakers (0) and of the same (1). At the end of the line, --coqpit.KEY VALUE overrides
    single values of the runs' configs, such as --coqpit.datasets.0.path DIR. See docs/evaluation.md.
    """
    from coqui_scl_plugin.cli.evaluate import EvaluateOptions, run_evaluate

    arguments = [str(run) for run in runs or []] + ctx.args  # typer takes the overrides for runs
    overrides = list(itertools.dropwhile(lambda argument: not argument.startswith("--"), arguments))
    folders = [Path(folder) for folder in arguments[: len(arguments) - len(overrides)]]
    options = EvaluateOptions(
        runs=folders, pairs=pairs, real=real, synthetic=synthetic, encoders=encoder or [], synthesis=synthesis or [],
        checkpoint=checkpoint, sentences=sentences, level=level, seed=seed, resamples=resamples, out=out,
    )  # fmt: skip
    run_evaluate(options, overrides, as_json=as_json)


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with metadata.csv in Coqui's `coqui` format, and its audio. Default: bundled speech."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each of the two runs.")] = 100,
    batch_size: Annotated[int, typer.Option(min=2, help="Segments a step.")] = 4,
    weight: Annotated[float, typer.Option(min=0.0, help="Weight of the speaker consistency loss.")] = 9.0,
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights, data order and slices.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for results.json, the plot and audio.")] = Path("demo_out"),
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of the table.")] = False,
) -> None:
    """Train a small multi-speaker VITS twice from one start, without and with the loss, and compare.

    The loss trains against the encoder ge2e; dvector takes no part and judges. Ends with 1 if an encoder moved or no
    gradient came through.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # Coqui's bars for every data loader would tear the demo's own
    from coqui_scl_plugin.demo.arms import DemoOptions
    from coqui_scl_plugin.demo.run import run_demo

    run_demo(
        DemoOptions(data=data, steps=steps, batch_size=batch_size, weight=weight, seed=seed, out=out), as_json=as_json
    )


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
