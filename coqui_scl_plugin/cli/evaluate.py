"""`coqui-scl evaluate`: judge synthetic speech by speaker encoders, and write what came out."""

import contextlib
import csv
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coqui_scl_plugin.config import EncoderConfig
from coqui_scl_plugin.consistency.term import build_encoder_of
from coqui_scl_plugin.coqui.synthesis import METHODS, Method, TrainedRun, evaluation_set_from_run, load_run
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation import plots, report
from coqui_scl_plugin.evaluation.evaluation_set import (
    EvaluationSet,
    evaluation_set_from_folders,
    evaluation_set_from_pairs,
)
from coqui_scl_plugin.evaluation.results import EncoderIdentity, Evaluation, Role, evaluations_of, results
from coqui_scl_plugin.evaluation.verification import EmbeddedRecording, judge
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.monitoring.history import read_history
from coqui_scl_plugin.utils.atomic import replacing
from coqui_scl_plugin.utils.fingerprint import fingerprint
from coqui_scl_plugin.utils.log_level import log_level
from coqui_scl_plugin.utils.suggest import did_you_mean

_DEFAULT_ENCODERS = ("ge2e", "dvector")


@dataclass(frozen=True)
class EvaluateOptions:
    """What the command line asks for."""

    runs: Sequence[Path]
    pairs: Path | None
    real: Path | None
    synthetic: Path | None
    encoders: Sequence[str]
    synthesis: Sequence[str]
    checkpoint: Path | None
    sentences: int
    level: float | None
    seed: int
    resamples: int
    out: Path


# --- what is judged ---------------------------------------------------------------------------------------------------


def _check(options: EvaluateOptions) -> None:
    folders = [folder for folder in (options.real, options.synthetic) if folder is not None]
    given = [bool(options.runs), options.pairs is not None, bool(folders)]
    if sum(given) != 1:
        raise ConfigError("evaluate needs one of: RUN ..., --pairs FILE, or --real DIR with --synthetic DIR.")
    if len(folders) == 1:
        missing = "--synthetic" if options.synthetic is None else "--real"
        raise ConfigError(f"{missing}: --real and --synthetic belong together; give both.")
    if not options.runs and (options.synthesis or options.checkpoint is not None):
        option = "--synthesis" if options.synthesis else "--checkpoint"
        raise ConfigError(f"{option}: is for RUN; recordings are judged as they are.")
    nearest = next(path for path in (options.out, *options.out.parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError(f"--out {options.out}: {nearest} is no folder.")
    if options.checkpoint is not None and len(options.runs) > 1:
        raise ConfigError("--checkpoint: is for a single RUN.")
    for method in options.synthesis:
        if method not in METHODS:
            raise ConfigError(f"--synthesis {method}: there is no such way. {did_you_mean(method, METHODS)}")


def _labels(runs: Sequence[TrainedRun], methods: Sequence[Method]) -> dict[tuple[int, Method], str]:
    """By run and method, the name of its evaluation: that of the folder, and what tells it from the others."""
    names = [run.label for run in runs]
    labels = {}
    for index, name in enumerate(names):
        own = f"{name} ({index + 1})" if names.count(name) > 1 else name
        for method in methods:
            labels[index, method] = f"{own}, {method}" if len(methods) > 1 else own
    return labels


def _materials(options: EvaluateOptions, runs: Sequence[TrainedRun]) -> list[tuple[EvaluationSet, TrainedRun | None]]:
    if options.pairs is not None:
        return [(evaluation_set_from_pairs(options.pairs), None)]
    if options.real is not None and options.synthetic is not None:
        return [(evaluation_set_from_folders(options.real, options.synthetic), None)]
    methods: list[Method] = [method for method in METHODS if method in (options.synthesis or ["tts"])]
    made: list[tuple[EvaluationSet, TrainedRun | None]] = []
    for (index, method), label in _labels(runs, methods).items():
        folder = options.out / "audio" / label.replace(", ", "-")
        material = evaluation_set_from_run(runs[index], method, options.sentences, options.seed, folder, label)
        made.append((material, runs[index]))
    return made


# --- who judges -------------------------------------------------------------------------------------------------------


def _may_be_one(one: EncoderConfig, other: EncoderConfig) -> bool:
    """Whether two runs mean the same encoder; a run that did not load it has not recorded its SHA-256."""
    first, second = ({key: value for key, value in s.params.items() if key != "sha256"} for s in (one, other))
    sums = {spec.params["sha256"] for spec in (one, other) if spec.params.get("sha256")}
    return (one.name, first) == (other.name, second) and len(sums) < 2


def _specs(options: EvaluateOptions, runs: Sequence[TrainedRun]) -> dict[str, EncoderConfig]:
    """By alias, the encoders of all runs and of the command line. Raises ConfigError where an alias means two."""
    specs: dict[str, EncoderConfig] = {}
    for spec in (spec for run in runs for spec in (*run.config.scl.encoders, *run.config.scl.holdout)):
        known = specs.setdefault(spec.label, spec)
        if not _may_be_one(known, spec):
            raise ConfigError(
                f"The runs mean different encoders by {spec.label!r}: {known.name} {known.params} and {spec.name} "
                f"{spec.params}. Evaluate them one at a time."
            )
        if "sha256" in spec.params:
            specs[spec.label] = spec
    for name in options.encoders or (() if runs else _DEFAULT_ENCODERS):
        specs.setdefault(name, EncoderConfig(name=name))
    return specs


def _load(specs: Mapping[str, EncoderConfig]) -> tuple[dict[str, SegmentEncoder], dict[str, EncoderIdentity]]:
    encoders, judges = {}, {}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for alias, spec in specs.items():
        encoder = SegmentEncoder(build_encoder_of(spec, f"encoder {alias}"))
        FrozenPolicy().apply(encoder)
        judges[alias] = EncoderIdentity(spec.name, dict(spec.params), fingerprint(encoder.encoder))
        encoders[alias] = encoder.to(device)
    return encoders, judges


def _roles(run: TrainedRun | None, judges: Mapping[str, EncoderIdentity]) -> dict[str, Role]:
    """What each encoder was in the training of a run, told by its weights."""
    if run is None:
        return dict.fromkeys(judges, "judge")
    scl = run.config.scl
    trains = scl.enabled and scl.weight > 0
    trained = {judges[spec.label].fingerprint for spec in scl.encoders} if trains else set()
    return {alias: "training" if judge.fingerprint in trained else "holdout" for alias, judge in judges.items()}


# --- the command ------------------------------------------------------------------------------------------------------


def run_evaluate(options: EvaluateOptions, overrides: Sequence[str], *, as_json: bool) -> None:
    """Do the whole job: prints a table, writes `results.json`, `trials.csv`, `report.html` and `audio/` to `out`.

    Raises:
        ConfigError: an option, a run, a list or a recording cannot be used.
        EncoderError: an encoder cannot be loaded.
    """
    _check(options)
    if overrides and not options.runs:
        raise ConfigError(f"{overrides[0]}: overrides are for the config of a RUN.")
    with (
        contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(),
        log_level(logging.WARNING, "TTS", "trainer"),
    ):
        runs = [load_run(folder, options.checkpoint, overrides) for folder in options.runs]
        encoders, judges = _load(_specs(options, runs))
        evaluations, memory = [], dict[Path, EmbeddedRecording]()
        for material, run in _materials(options, runs):
            judged = judge(
                material, encoders, dbfs=options.level, seed=options.seed, resamples=options.resamples, memory=memory
            )
            history = [row.flat() for row in read_history(run.folder)] if run is not None else []
            evaluations.append(Evaluation(material, judged, _roles(run, judges), history))
    found = results(evaluations, judges, seed=options.seed, resamples=options.resamples, dbfs=options.level)
    _write(options.out, found)
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        _show(found, options.out)


def _write(out: Path, found: Mapping[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "results.json") as temporary:
        temporary.write_text(json.dumps(found, indent=2), encoding="utf-8")
    with replacing(out / "trials.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        for number, (label, one) in enumerate(evaluations_of(found).items()):
            if number == 0:
                writer.writerow(["evaluation", *one["trials"]["columns"]])
            writer.writerows([label, *row] for row in one["trials"]["rows"])
    report.write(out, found)


def _interval(value: Mapping[str, float | None] | None) -> str:
    if value is None:
        return "-"
    if value["low"] is None:
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _show(found: Mapping[str, Any], out: Path) -> None:
    console = Console()
    evaluations = evaluations_of(found)
    for label, one in evaluations.items():
        table = Table(
            title=escape(f"{label}: synthetic speech of {len(one['speakers'])} speakers"), title_justify="left"
        )
        table.add_column("speaker encoder")
        for column in ("SECS", "other recordings", "scaled", "EER %", "minDCF", "real EER %"):
            table.add_column(column, justify="right")
        for alias, verdict in one["encoders"].items():
            table.add_row(
                f"{alias}, {plots.ROLES[verdict['role']]}",
                *(_interval(verdict[measure]) for measure in ("secs", "cross_utterance", "scaled")),
                _number(verdict["eer"], 2), _number(verdict["min_dcf"], 3), _number(verdict["real_eer"], 2),
            )  # fmt: skip
        console.print(table)
        for note in one["warnings"]:
            console.print(f"Note: {note}", highlight=False, markup=False)
    for row in found.get("comparisons", []):
        if row["measure"] == "scaled":
            verdict = "distinguishable from zero" if row["distinguishable"] else "not distinguishable from zero"
            console.print(
                f"{row['evaluation']} minus {row['baseline']}, {row['encoder']}, scaled: "
                f"{_interval(row['difference'])}, {verdict}.", highlight=False, markup=False,
            )  # fmt: skip
    console.print(f"Written to {out}: results.json, report.html, trials.csv", highlight=False, markup=False)
