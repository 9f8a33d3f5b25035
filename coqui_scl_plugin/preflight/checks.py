"""The table of all checks, and how they are run: before step 1 of every run, and by `coqui-scl preflight`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from coqui_scl_plugin.errors import ConfigError, EvaluationSetError, HoldoutError
from coqui_scl_plugin.preflight import encoders, environment, generator, recordings, settings, speakers
from coqui_scl_plugin.preflight.facts import RunFacts
from coqui_scl_plugin.preflight.report import Finding, NotMeasuredError, PreflightReport, Result, result_of
from coqui_scl_plugin.utils.suggest import did_you_mean


@dataclass(frozen=True)
class Check:
    """One check; its function's docstring says what holds when it finds nothing."""

    id: str
    run: Callable[[RunFacts], list[Finding]]
    needs: tuple[str, ...] = ()
    """Ids of earlier checks without which it cannot be run."""
    costly: bool = False
    """Whether it runs the generator or the encoders."""

    @property
    def checks(self) -> str:
        """A sentence that holds when the check passes."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


_BATCH = ("ffmpeg", "recordings", "d-vectors", "known-speakers")

CHECKS = (
    Check("ffmpeg", environment.check_ffmpeg),
    Check("versions", environment.check_versions),
    Check("weight", settings.check_weight),
    Check("stock-loss", settings.check_stock_loss),
    Check("recordings", recordings.check_recordings),
    Check("sample-rate", recordings.check_sample_rate),
    Check("segment-length", recordings.check_segment_length),
    Check("speakers", speakers.check_speakers),
    Check("d-vectors", speakers.check_d_vectors),
    Check("known-speakers", speakers.check_known_speakers),
    Check("evaluation-set", recordings.check_evaluation_set),
    Check("test-sentences", speakers.check_test_sentences),
    Check("discriminator", settings.check_discriminator),
    Check("restored-weights", settings.check_restored_weights),
    Check("optimizer-state", settings.check_optimizer_state),
    Check("trains", settings.check_trains),
    Check("unfreeze", settings.check_unfreeze),
    Check("policies", encoders.check_policies),
    Check("optimizers", encoders.check_optimizers),
    Check("eval-mode", encoders.check_eval_mode),
    Check("references", encoders.check_references, needs=("recordings", "speakers"), costly=True),
    Check("target", settings.check_target, needs=("references",), costly=True),
    Check("gradient", encoders.check_gradient, needs=(*_BATCH, "references"), costly=True),
    Check("reach", generator.check_reach, needs=("gradient",), costly=True),
    Check("holdout", encoders.check_holdout, needs=_BATCH, costly=True),
)
"""In the order in which they are run."""

IDS = tuple(check.id for check in CHECKS)
FORMER_IDS = {"thaw": "unfreeze"}
"""Ids that configs of before may name, and those of today."""


def check_skipped(ids: Iterable[str], path: str) -> None:
    """Raise a ConfigError for an id, named by the config key or option `path`, that no check has."""
    for id_ in ids:
        if id_ not in IDS and id_ not in FORMER_IDS:
            raise ConfigError(f"{path} = {id_!r}: there is no such check. {did_you_mean(id_, IDS)}")


def run_checks(facts: RunFacts, skip: Sequence[str], *, costly: bool, before: PreflightReport) -> PreflightReport:
    """Run the cheap checks, or those that run the generator and the encoders.

    Args:
        facts: The run.
        skip: Ids of checks that are run and reported, but may fail.
        costly: Whether to run the latter.
        before: Earlier results; a check is not run if one that it needs failed.

    Returns:
        `before`, followed by the results of these.
    """
    report = PreflightReport(list(before.results))
    skipped = {FORMER_IDS.get(id_, id_) for id_ in skip}
    for check in CHECKS:
        if check.costly is not costly:
            continue
        unmet = [r.id for r in report.results if r.id in check.needs and r.status in ("failed", "not run")]
        if unmet:
            why = f"It needs {', '.join(unmet)}."
            report.results.append(Result(check.id, check.checks, "not run", why_not_run=why))
        else:
            report.results.append(_result_of(check, facts, skip=check.id in skipped))
    return report


def _result_of(check: Check, facts: RunFacts, *, skip: bool) -> Result:
    try:
        return result_of(check.id, check.checks, check.run(facts), skip=skip)
    except NotMeasuredError as error:
        return Result(check.id, check.checks, "not run", why_not_run=str(error))


def found_early(error: HoldoutError | EvaluationSetError) -> PreflightReport:
    """Return the report of a run whose defect showed before it could be set up: one check failed, no other was run."""
    return PreflightReport(
        [
            result_of(check.id, check.checks, [Finding(str(error), "")], skip=False)
            if check.id == error.check
            else Result(check.id, check.checks, "not run", why_not_run=f"It needs {error.check}.")
            for check in CHECKS
        ]
    )
