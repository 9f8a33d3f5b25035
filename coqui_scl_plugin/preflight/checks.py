"""The table of all checks, and how they are run: before step 1 of every run, and by `coqui-scl preflight`."""

import dataclasses
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from coqui_scl_plugin.errors import ConfigError, HoldoutError, SclError
from coqui_scl_plugin.preflight import (
    architecture,
    audio,
    conditioning,
    config_keys,
    config_values,
    continued,
    encoders,
    environment,
    files,
    generator,
    metadata,
    processes,
    recordings,
    restored,
    sampler,
    sentences,
    settings,
    speakers,
    steps,
    text,
    texts,
)
from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.report import NEEDS, Finding, NotMeasuredError, PreflightReport, Result, result_of
from coqui_scl_plugin.utils.suggest import did_you_mean

Stage = Literal["config", "data", "model", "speech"]
"""What a check looks at: the config alone; the data, too; the model; or what the generator and the encoders make."""
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Check:
    """One check; its function's docstring says what holds when it finds nothing."""

    id: str
    run: Callable[[Any], list[Finding]]
    """Takes the facts of its stage."""
    stage: Stage = "model"
    needs: tuple[str, ...] = ()
    """Ids of earlier checks without which it cannot be run."""
    explained_by: tuple[str, ...] = ()
    """Ids of earlier checks that, if they failed, are the cause of what this one finds, which is then not reported."""
    can_be_skipped: bool = True
    """False for a step without which there is nothing more to check."""
    exit_status: int = 1
    """Exit status of a command if it fails; 2 where the config cannot be used."""

    @property
    def checks(self) -> str:
        """A sentence that holds when the check passes."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


def _step(id_: str, run: Callable[[Any], list[Finding]], stage: Stage, **others: Any) -> Check:
    return Check(id_, run, stage, **others, can_be_skipped=False)


_MODEL = ("values", "architecture", "files", "text")
_DROPPED = ("metadata",)
_BATCH = (
    *("ffmpeg", "metadata", "recordings", "audio"),
    *("conditioning", "languages", "d-vectors", "known-speakers", "alphabet", "text-length"),
)

CHECKS = (
    Check("ffmpeg", environment.check_ffmpeg, "config"),
    Check("versions", environment.check_versions, "config"),
    Check("values", config_values.check_values, "config", exit_status=2),
    Check("keys", config_keys.check_keys, "config"),
    Check("twin-keys", config_keys.check_twin_keys, "config"),
    Check("architecture", architecture.check_architecture, "config", needs=("values",), exit_status=2),
    Check("files", files.check_files, "config", needs=("values",), exit_status=2),
    Check("text", text.check_text, "config", needs=("values",), exit_status=2),
    Check("languages", conditioning.check_languages, "config", needs=("values", "files"), exit_status=2),
    Check("weight", settings.check_weight, "config", needs=("values",)),
    _step("checkpoint", steps.check_checkpoint, "config"),
    _step("encoders", steps.check_encoders, "config"),
    Check("metadata", metadata.check_metadata, "config", explained_by=("values",)),
    _step("samples", steps.check_samples, "config", explained_by=("values", "metadata")),
    Check("recordings", recordings.check_recordings, "data"),
    Check("audio", audio.check_audio, "data"),
    Check("sample-rate", recordings.check_sample_rate, "data"),
    Check("conditioning", conditioning.check_conditioning, "data", needs=("values",)),
    Check("sampler", sampler.check_sampler, "data", needs=("values",)),
    _step("model", steps.check_model, "data", needs=_MODEL),
    Check("stock-loss", settings.check_stock_loss),
    Check("segment-length", recordings.check_segment_length),
    Check("speakers", speakers.check_speakers, explained_by=_DROPPED),
    Check("d-vectors", speakers.check_d_vectors, needs=("conditioning",), explained_by=_DROPPED),
    Check("known-speakers", speakers.check_known_speakers, needs=("conditioning",), explained_by=_DROPPED),
    Check(
        "evaluation-set",
        recordings.check_evaluation_set,
        needs=("sampler",),
        explained_by=(*_DROPPED, "recordings"),
    ),
    Check("alphabet", texts.check_alphabet, explained_by=_DROPPED),
    Check("text-length", texts.check_text_length, explained_by=_DROPPED),
    Check("test-sentences", sentences.check_test_sentences, needs=("conditioning",), explained_by=_DROPPED),
    Check("discriminator", restored.check_discriminator),
    Check("restored-weights", restored.check_restored_weights),
    Check("tables", restored.check_tables, explained_by=_DROPPED),
    Check("restored-config", restored.check_restored_config),
    Check("continued", continued.check_continued),
    Check("optimizer-state", restored.check_optimizer_state),
    Check("trains", settings.check_trains),
    Check("unfreeze", settings.check_unfreeze),
    Check("processes", processes.check_processes),
    Check("policies", encoders.check_policies),
    Check("optimizers", encoders.check_optimizers),
    Check("eval-mode", encoders.check_eval_mode),
    Check("references", encoders.check_references, "speech", needs=("metadata", "recordings", "audio", "speakers")),
    Check("target", settings.check_target, "speech", needs=("references",)),
    Check("gradient", encoders.check_gradient, "speech", needs=(*_BATCH, "references")),
    Check("reach", generator.check_reach, "speech", needs=("gradient",)),
    Check("holdout", encoders.check_holdout, "speech", needs=_BATCH),
)
"""In the order in which they are run."""

IDS = tuple(check.id for check in CHECKS)
FORMER_IDS = {"thaw": "unfreeze"}
"""Ids that configs of before may name, and those of today."""
_MAX_ERROR_CHARACTERS = 400
_STEP_BEFORE: dict[Stage, tuple[str, ...]] = {
    "config": (),
    "data": ("samples",),
    "model": ("samples", "checkpoint", "model", "encoders"),
    "speech": ("samples", "checkpoint", "model", "encoders"),
}
"""The steps without which there are no facts for a stage."""


def check_skipped(ids: Iterable[str], path: str) -> None:
    """Raise a ConfigError for an id, named by the config key or option `path`, that no check has."""
    known = [check.id for check in CHECKS if check.can_be_skipped]
    for id_ in ids:
        if id_ not in known and id_ not in FORMER_IDS:
            raise ConfigError(f"{path} = {id_!r}: there is no such check. {did_you_mean(id_, known)}")


def can_run(stage: Stage, before: PreflightReport) -> bool:
    """Tell whether the steps that give a stage its facts have passed."""
    return not _unmet(_STEP_BEFORE[stage], before)


def run_checks(
    stage: Stage, facts: ConfigFacts | None, skip: Sequence[str], before: PreflightReport
) -> PreflightReport:
    """Run the checks of a stage.

    An error that a check ends with becomes its finding.

    Args:
        stage: The stage.
        facts: Facts of the stage; None if a step that gives them failed, so that none of its checks can be run.
        skip: Ids of checks that are run and reported, but may fail.
        before: Earlier results; a check is not run if one that it needs failed.

    Returns:
        `before`, followed by the results of these. The error of a check may speak for another one, which then has it.
    """
    report = PreflightReport(list(before.results))
    skipped = {FORMER_IDS.get(id_, id_) for id_ in skip}
    for check in CHECKS:
        if check.stage != stage or any(result.id == check.id for result in report.results):
            continue
        if unmet := _unmet((*_STEP_BEFORE[stage], *check.needs), report):
            report.results.append(_not_run(check, f"{NEEDS} {', '.join(unmet)}."))
        else:
            results = _results_of(check, facts, skip=check.can_be_skipped and check.id in skipped)
            causes = _unmet(check.explained_by, report)
            if causes and any(result.status in ("failed", "warning") for result in results):
                unexplained = _not_run(check, f"{NEEDS} {', '.join(causes)}.")
                results = [dataclasses.replace(unexplained, error=results[0].error)]
            report.results += results
    report.results.sort(key=lambda result: IDS.index(result.id))
    return report


def _unmet(needs: Iterable[str], report: PreflightReport) -> list[str]:
    statuses = {result.id: result.status for result in report.results}
    return [id_ for id_ in dict.fromkeys(needs) if statuses.get(id_) in ("failed", "not run")]


def _not_run(check: Check, why: str) -> Result:
    return Result(check.id, check.checks, "not run", why_not_run=why)


def _describe(error: Exception) -> str:
    """Return the class and the message of an error, or its repr if it has no message."""
    message = textwrap.shorten(str(error), _MAX_ERROR_CHARACTERS, placeholder=" …").rstrip(".")
    return f"{type(error).__name__}: {message}" if message else repr(error)


def _results_of(check: Check, facts: ConfigFacts | None, *, skip: bool) -> list[Result]:
    try:
        result = result_of(check.id, check.checks, check.run(facts), skip=skip)
    except NotMeasuredError as error:
        return [_not_run(check, str(error))]
    except SclError as error:
        finding = Finding(str(error), "")
        other = next((known for known in CHECKS if known.id == getattr(error, "check", None)), None)
        if other is not None:
            found = result_of(other.id, other.checks, [finding], skip=False)
            return [dataclasses.replace(found, can_be_skipped=False), _not_run(check, f"{NEEDS} {other.id}.")]
        result = result_of(check.id, check.checks, [finding], skip=False, error=error)
        return [dataclasses.replace(result, can_be_skipped=False)]
    except Exception as error:  # noqa: BLE001  # whatever it is, it is reported, and the other checks still run
        finding = Finding(
            f"The check {check.id} could not be run: {_describe(error)}.",
            "If nothing else here explains it, coqui-scl --debug shows where it happened.",
        )
        result = result_of(check.id, check.checks, [finding], skip=skip, error=error)
    return [dataclasses.replace(result, can_be_skipped=check.can_be_skipped, exit_status=check.exit_status)]


def found_early(error: HoldoutError) -> PreflightReport:
    """Return the report of a config that contradicts itself: one check failed, no other was run."""
    return PreflightReport(
        [
            result_of(check.id, check.checks, [Finding(str(error), "")], skip=False)
            if check.id == error.check
            else _not_run(check, f"{NEEDS} {error.check}.")
            for check in CHECKS
        ]
    )
