"""The command `coqui-scl evaluate`. Heavy imports are inside functions, so that its help is fast."""

import contextlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coqui_scl_plugin.cli.arguments import check_name, check_out, split_overrides
from coqui_scl_plugin.cli.options import takes_options
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.log_level import log_level
from coqui_scl_plugin.utils.suggest import did_you_mean

if TYPE_CHECKING:
    from coqui_scl_plugin.coqui.run_folder import TrainedRun
    from coqui_scl_plugin.coqui.synthesis import Method
    from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet
    from coqui_scl_plugin.evaluation.judges import Judge
    from coqui_scl_plugin.evaluation.verification import EmbeddedRecording


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `coqui-scl evaluate`."""

    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several are compared.")] = field(
        default_factory=list
    )
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Instead of a run: csv file with the columns reference,synthetic,speaker; for --asr also text, and "
            "reference_text and language if known."
        ),
    ] = None
    real: Annotated[
        Path | None, typer.Option(help="Instead of a run: real speech, DIR/SPEAKER/FILE; with --synthetic.")
    ] = None
    synthetic: Annotated[
        Path | None,
        typer.Option(help="Synthetic speech, DIR/SPEAKER/FILE; files with the same name as real ones are pairs."),
    ] = None
    encoder: Annotated[
        list[str],
        typer.Option(
            help="Speaker encoder that scores the speech, besides those of the runs; may be given several times. "
            "Without a run: ge2e and dvector."
        ),
    ] = field(default_factory=list)
    synthesis: Annotated[
        list[str],
        typer.Option(
            help="Speech that the run's model makes from held-out recordings: tts (speaks the text; the default), "
            "reconstruction (in the same voice), conversion (in another speaker's voice); may be given several times."
        ),
    ] = field(default_factory=list)
    checkpoint: Annotated[
        Path | None, typer.Option(help="Model of the run. Default: its best model, or else its latest checkpoint.")
    ] = None
    sentences: Annotated[int, typer.Option(min=1, help="Held-out recordings of each speaker, at most.")] = 10
    loudness_dbfs: Annotated[
        float | None,
        typer.Option(
            "--loudness-dbfs",
            "--level-dbfs",
            min=-60,
            max=0,
            help="Bring every recording to this loudness (RMS) first; YourTTS's authors used -27. Default: unchanged.",
        ),
    ] = None
    quality: Annotated[
        bool, typer.Option("--quality", help="Estimate the quality of every recording by DNSMOS; needs [quality].")
    ] = False
    asr: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Count the characters that a speech recogniser gets wrong; a folder or a hub name, such as "
            "openai/whisper-small; needs [asr].",
        ),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Seed of synthesis and of the bootstrap.")] = 0
    resamples: Annotated[int, typer.Option(min=99, help="Draws of the bootstrap over speakers.")] = 9999
    out: Annotated[Path, typer.Option(help="Folder for results.json, report.html, trials.csv and audio.")] = Path(
        "evaluation_out"
    )  # fmt: skip


@takes_options
def evaluate(
    ctx: typer.Context,
    options: EvaluateOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of the tables.")] = False,
) -> None:
    """Measure whether synthetic speech sounds like the right person, by training and held-out encoders.

    Similarity (SECS), equal error rate and minDCF by each encoder, with 95 % intervals over speakers, and calibrated
    between real speech of different speakers (0) and of the same one (1). At the end of the line, --coqpit.KEY VALUE
    overrides single values of the runs' configs, such as --coqpit.datasets.0.path DIR. See docs/evaluation.md.
    """
    runs, overrides = split_overrides([*options.runs, *ctx.args])
    run_evaluate(replace(options, runs=runs), overrides, as_json=as_json)


# --- evaluation sets --------------------------------------------------------------------------------------------------


def _check(options: EvaluateOptions, overrides: Sequence[str]) -> None:
    from coqui_scl_plugin.coqui.synthesis import METHODS

    folders = [folder for folder in (options.real, options.synthetic) if folder is not None]
    if sum([bool(options.runs), options.pairs is not None, bool(folders)]) != 1:
        raise ConfigError("evaluate needs one of: RUN ..., --pairs FILE, or --real DIR with --synthetic DIR.")
    if len(folders) == 1:
        missing = "--synthetic" if options.synthetic is None else "--real"
        raise ConfigError(f"{missing}: --real and --synthetic belong together; give both.")
    if not options.runs and (options.synthesis or options.checkpoint is not None):
        option = "--synthesis" if options.synthesis else "--checkpoint"
        raise ConfigError(f"{option} is for RUN; recordings are evaluated as they are.")
    if not options.runs and overrides:
        raise ConfigError(f"{overrides[0]}: overrides are for the config of a RUN.")
    for path in (*options.runs, *filter(None, [options.checkpoint])):
        check_name(path)
    check_out(options.out)
    if options.checkpoint is not None and len(options.runs) > 1:
        raise ConfigError("--checkpoint is for a single RUN.")
    for method in options.synthesis:
        if method not in METHODS:
            raise ConfigError(f"--synthesis {method}: unknown method. {did_you_mean(method, METHODS)}")
    if options.asr is not None and folders:
        raise ConfigError("--asr needs texts: give --pairs FILE with a column text instead of --real and --synthetic.")


def _labels(runs: "Sequence[TrainedRun]", methods: "Sequence[Method]") -> "dict[tuple[int, Method], str]":
    """Name each evaluation after its run, and method where there are several, by run and method."""
    from coqui_scl_plugin.coqui.run_folder import labels_of

    return {
        (index, method): f"{own}, {method}" if len(methods) > 1 else own
        for index, own in enumerate(labels_of(runs))
        for method in methods
    }


def _listed_set(options: EvaluateOptions) -> "EvaluationSet | None":
    """List the recordings that the options name; None if they name runs, whose models make them."""
    from coqui_scl_plugin.evaluation.evaluation_set import evaluation_set_from_folders, evaluation_set_from_pairs

    if options.pairs is not None:
        return evaluation_set_from_pairs(options.pairs)
    if options.real is not None and options.synthetic is not None:
        return evaluation_set_from_folders(options.real, options.synthetic)
    return None


def _sets_of_runs(
    options: EvaluateOptions, runs: "Sequence[TrainedRun]"
) -> "list[tuple[EvaluationSet, TrainedRun | None]]":
    """Let the model of each run make the recordings of its evaluations."""
    from coqui_scl_plugin.coqui.synthesis import METHODS, evaluation_set_from_run

    methods = [method for method in METHODS if method in (options.synthesis or ["tts"])]
    found: list[tuple[EvaluationSet, TrainedRun | None]] = []
    for (index, method), label in _labels(runs, methods).items():
        folder = options.out / "audio" / label.replace(", ", "-")
        made = evaluation_set_from_run(runs[index], method, options.sentences, options.seed, folder, label)
        found.append((made, runs[index]))
    return found


# --- judges -----------------------------------------------------------------------------------------------------------


def _judges(options: EvaluateOptions) -> "list[Judge]":
    """Load the judges that the options ask for."""
    from coqui_scl_plugin.evaluation.quality import QualityJudge
    from coqui_scl_plugin.evaluation.recognition import RecognitionJudge

    judges: list[Judge] = []
    if options.quality:
        judges.append(QualityJudge())
    if options.asr is not None:
        judges.append(RecognitionJudge(options.asr))
    return judges


def _check_texts(options: EvaluateOptions, evaluation_set: "EvaluationSet") -> None:
    if options.asr is not None and not any(recording.text for recording in evaluation_set.synthetic):
        raise ConfigError(
            f"--asr {options.asr}: what the synthetic recordings of {evaluation_set.label} should say is not known. "
            "Add a column text to the csv file; reference_text and language are optional."
        )


# --- the whole job ----------------------------------------------------------------------------------------------------


def run_evaluate(options: EvaluateOptions, overrides: Sequence[str], *, as_json: bool) -> None:
    """Evaluate: print tables, and write `results.json`, `trials.csv`, `report.html` and `audio/` to `options.out`.

    Raises:
        ConfigError: an option, a run or a list cannot be used, or no recording of it can.
        EncoderError: an encoder cannot be loaded.
    """
    from rich.console import Console

    from coqui_scl_plugin.coqui.run_folder import load_run
    from coqui_scl_plugin.evaluation.console import print_results
    from coqui_scl_plugin.evaluation.encoders import encoder_specs, load_encoders, roles_of
    from coqui_scl_plugin.evaluation.judges import Memory, judge
    from coqui_scl_plugin.evaluation.results import Evaluation, as_text, results
    from coqui_scl_plugin.evaluation.verification import verify
    from coqui_scl_plugin.evaluation.writing import write_results
    from coqui_scl_plugin.monitoring.history import read_history
    from coqui_scl_plugin.utils.shown import printable, shorten

    _check(options, overrides)
    dbfs, seed, resamples = options.loudness_dbfs, options.seed, options.resamples
    with (
        contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(),
        log_level(logging.WARNING, "TTS", "trainer"),
    ):
        listed = _listed_set(options)  # first, for it may be refused at once
        judges = _judges(options)
        runs = [load_run(folder, options.checkpoint, overrides) for folder in options.runs]
        specs = encoder_specs([run.config.scl for run in runs], options.encoder)
        encoders, identities = load_encoders(specs)
        evaluations, memory, judged_before = [], dict[Path, "EmbeddedRecording"](), Memory()
        for evaluation_set, run in _sets_of_runs(options, runs) if listed is None else [(listed, None)]:
            _check_texts(options, evaluation_set)
            verification = verify(evaluation_set, encoders, dbfs=dbfs, seed=seed, resamples=resamples, memory=memory)
            roles = roles_of(run.config.scl if run is not None else None, identities)
            history = [row.flat() for row in read_history(run.folder)] if run is not None else []
            judged = None
            if judges:
                judged = judge(
                    evaluation_set, verification, judges,
                    dbfs=dbfs, seed=seed, resamples=resamples, memory=judged_before,
                )  # fmt: skip
            evaluations.append(Evaluation(evaluation_set, verification, roles, history, judged))
    found = results(evaluations, identities, dbfs=dbfs, seed=seed, resamples=resamples)
    try:
        write_results(options.out, found)
    except OSError as error:
        raise ConfigError(f"--out {shorten(options.out)}: cannot be written: {error.strerror}.") from error
    if as_json:
        sys.stdout.write(as_text(found) + "\n")
    else:
        console = Console()
        print_results(console, found)
        files = "results.json, report.html, trials.csv"
        console.print(f"Written to {printable(options.out)}: {files}", highlight=False, markup=False)
