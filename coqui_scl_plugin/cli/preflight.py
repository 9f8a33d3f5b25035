"""`coqui-scl preflight`: the checks of a run, without the run."""

import functools
import json
import sys
from collections.abc import Sequence

import torch
from rich.console import Console
from trainer.generic_utils import set_partial_state_dict

from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.run_config import (
    Samples,
    asks_for_scl,
    check_checkpoint,
    list_samples,
    named_model,
    names_stock_loss,
    read_config,
    resolved_config,
)
from coqui_scl_plugin.coqui.run_facts import (
    collect_facts,
    dataset_that_fits,
    freeze_report,
    phonemes_left_alone,
    random_state_kept,
    small_batch,
)
from coqui_scl_plugin.coqui.vits import SclVits
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.errors import ConfigError, EvaluationSetError, HoldoutError
from coqui_scl_plugin.freeze.report import FreezeReport
from coqui_scl_plugin.preflight.checks import CHECKS, check_skipped, run_checks
from coqui_scl_plugin.preflight.facts import Restored, RunFacts
from coqui_scl_plugin.preflight.report import Finding, PreflightReport, Result, judge
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.fill import embed_recordings
from coqui_scl_plugin.references.recordings import recordings_of
from coqui_scl_plugin.utils.checkpoint import read_checkpoint

_MODELS = ("scl_vits", "vits")
_SPEAKERS, _EACH = 8, 2  # recordings that stand for the data set


def _a_few(samples: Samples) -> Samples:
    """A few samples of a few speakers, so that the checks need not wait for all to be embedded."""
    by_speaker: dict[str, Samples] = {}
    for sample in samples:
        by_speaker.setdefault(sample["speaker_name"], []).append(sample)
    speakers = sorted(by_speaker.values(), key=len, reverse=True)[:_SPEAKERS]
    return [sample for own in speakers for sample in own[:_EACH]]


def _setup(config: SclVitsConfig, restore_path: str | None, *, named_vits: bool) -> tuple[SclVits, RunFacts]:
    train, evaluation = list_samples(config)
    torch.manual_seed(config.training_seed)  # as `coqui-scl train` does, so that the same is checked each time
    model = SclVits(config)
    model.setup_speaker_consistency()
    optimizers = model.get_optimizer()
    restored = Restored.read(restore_path, continues=False) if restore_path else None
    if restore_path and restored is not None:
        weights = read_checkpoint(restore_path)["model"]
        model.load_state_dict(set_partial_state_dict(model.state_dict(), weights, config))

    @functools.cache
    def few() -> Samples:  # the batch is of those that were embedded
        return _a_few(dataset_that_fits(model, model.config, train).samples)

    def prepare(consistency: SpeakerConsistency) -> None:
        if consistency.uses_recordings:
            speech, _ = embed_recordings(consistency.segment_encoders, recordings_of(few()), ReferenceCache())
            consistency.hold(speech)

    setup = collect_facts(
        model, model.config, optimizers, (train, evaluation), batch=lambda: small_batch(model, model.config, few()),
        prepare_references=prepare, own_eval_loader=False, restored=restored, named_vits=named_vits,
    )  # fmt: skip
    return model, setup


def _found_early(error: HoldoutError | EvaluationSetError) -> PreflightReport:
    """The report where a check's defect showed before the run could be set up."""
    return PreflightReport(
        [
            judge(check.id, check.checks, [Finding(str(error), "")], skip=False)
            if check.id == error.check
            else Result(check.id, check.checks, "not run", why_not_run=f"It needs {error.check}.")
            for check in CHECKS
        ]
    )


def _check(
    config: SclVitsConfig, restore_path: str | None, *, named_vits: bool
) -> tuple[PreflightReport, FreezeReport]:
    model, setup = _setup(config, restore_path, named_vits=named_vits)
    model.train()
    skip, checks = config.scl.preflight.skip, PreflightReport()
    with random_state_kept(), phonemes_left_alone(model.config):
        for costly in (False, True):
            checks = run_checks(setup, skip, costly=costly, before=checks)
    return checks, freeze_report(model, setup.optimizers, step=0)


def run_preflight(
    config_path: str, overrides: Sequence[str], restore_path: str | None, skip: Sequence[str], *, as_json: bool
) -> None:
    """Check the run of a config, print what was found and the freeze report, and write nothing.

    Raises:
        ConfigError: the config, an option or the data cannot be used.
        EncoderError: an encoder cannot be loaded.
        SystemExit: with 1, a check failed.
    """
    check_skipped(skip, "--skip")
    data = read_config(config_path)
    if (name := named_model(data, overrides)) not in _MODELS:
        raise ConfigError(f"model = {name!r}: preflight checks {' and '.join(_MODELS)}, no other model of Coqui's.")
    if restore_path:
        check_checkpoint(restore_path)
    report: FreezeReport | None = None
    try:
        config = resolved_config(data, overrides)
        if not asks_for_scl(data, overrides):
            config.scl.enabled, config.scl.weight = False, 0.0
        config.scl.preflight.skip = [*config.scl.preflight.skip, *skip]
        checks, report = _check(config, restore_path, named_vits=names_stock_loss(data))
    except (HoldoutError, EvaluationSetError) as error:
        checks = _found_early(error)
    if as_json:
        result = {**checks.to_dict(), "freeze_report": report.to_dict() if report is not None else None}
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        _print(checks, report)
    if not checks.passed:
        sys.exit(1)


def _print(checks: PreflightReport, report: FreezeReport | None) -> None:
    console = Console()
    if report is not None:
        console.print(report.table())
    if checks.of("failed", "warning", "skipped", "not run"):
        console.print(checks.table())
    counts = [f"{len(found)} {status}" for status in ("passed", "warning", "failed", "skipped", "not run")
              if (found := checks.of(status))]  # fmt: skip
    console.print(f"{len(checks.results)} checks: {', '.join(counts)}.", highlight=False)
