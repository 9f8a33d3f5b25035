"""The start of a run, between the setup of Coqui's trainer and step 1: checks, references, records and reports."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console
from torch.utils.data.distributed import DistributedSampler
from trainer import Trainer

from coqui_scl_plugin.consistency.reach import reach_dicts, reach_table
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.config_facts import coqui_tools
from coqui_scl_plugin.coqui.continuing import settle_run
from coqui_scl_plugin.coqui.distributed import check_group, deciding, decision, is_main_process, load_alone
from coqui_scl_plugin.coqui.listing import list_datasets
from coqui_scl_plugin.coqui.match_rows import describe
from coqui_scl_plugin.coqui.parts import VitsParts
from coqui_scl_plugin.coqui.restored import check_usable, read_restored
from coqui_scl_plugin.coqui.run_facts import (
    DataAccess,
    collect_facts,
    few_samples_alone,
    name_optimizers,
    report_freezing,
    undisturbed,
)
from coqui_scl_plugin.coqui.run_folder import holds_model, record_measurements, write_evaluation_set, write_section
from coqui_scl_plugin.coqui.samples import small_batch
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.errors import ConfigError, SclError
from coqui_scl_plugin.freeze.report import FreezeReport
from coqui_scl_plugin.preflight.checks import STAGES, run_checks
from coqui_scl_plugin.preflight.facts import RunFacts, TrainerFacts
from coqui_scl_plugin.preflight.generator import measured_reach
from coqui_scl_plugin.preflight.report import PreflightReport
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings
from coqui_scl_plugin.references.recordings import recordings_of
from coqui_scl_plugin.utils import processes
from coqui_scl_plugin.utils.checkpoint import read_checkpoint
from coqui_scl_plugin.utils.disk_error import disk_error
from coqui_scl_plugin.utils.fingerprint import hashing_once


def prepare_restore(parts: VitsParts, trainer: Trainer, loading: contextlib.ExitStack) -> None:
    """Judge the checkpoint that the trainer is about to load, and carry rows of its tables by name if asked for.

    Args:
        parts: Parts of the model.
        trainer: The trainer, which has made the run folder and loads next.
        loading: Closed when it has loaded.

    Raises:
        ConfigError: the trainer cannot load it, a run that is continued has no sound one, or the process is one of
            several without a group. A run folder that holds nothing yet is removed.
    """
    try:
        check_group(trainer)
    except ConfigError:
        _discard_empty_run(trainer)
        raise
    if processes.rank() > 0:
        decision()
        _read_restored(parts, trainer, loading)
        return
    with deciding():
        _read_restored(parts, trainer, loading)
    if parts.restored is not None and parts.restored.matches_rows and is_main_process(trainer):
        Console().print(describe(parts.carried, parts.restored.path), highlight=False, markup=False)


def _read_restored(parts: VitsParts, trainer: Trainer, loading: contextlib.ExitStack) -> None:
    try:
        settle_run(trainer, _config_of(parts, trainer).reference_cache)
        path = trainer.args.restore_path
        if not path:
            return
        match_rows = _config_of(parts, trainer).scl.restore.match_rows
        parts.restored = read_restored(str(path), continues=trainer.continue_run, match_rows=match_rows)
        if parts.restored is None:
            return
        check_usable(parts.model, read_checkpoint(parts.restored.path)["model"], parts.restored)
        loading.enter_context(parts.carrying_rows(parts.restored))
    except BaseException:
        _discard_empty_run(trainer)
        raise


def prepare_run(parts: VitsParts, trainer: Trainer) -> FreezeReport:
    """Check the run, embed its references, and report to the console, TensorBoard and the run folder.

    Of several processes, the main one does so, and the others take its references.

    Returns:
        The report of what trains and what is frozen.

    Raises:
        PreflightError: a check failed. A run folder that holds nothing yet is removed.
        ProcessError: a check failed in the main process.
    """
    parts.model.train()  # as the trainer does before each epoch
    if processes.rank() > 0:
        _take_references(parts, _config_of(parts, trainer), decision())
        return report_freezing(parts, trainer.optimizer, trainer.total_steps_done)
    embedded = deciding(lambda: parts.consistency.references.embeddings if parts.consistency is not None else None)
    with embedded, hashing_once():
        return _prepare(parts, trainer)


def _take_references(parts: VitsParts, config: SclVitsConfig, embeddings: ReferenceEmbeddings | None) -> None:
    """Hold what the main process embedded, and record in this process's config what it measured."""
    if parts.consistency is None:
        return
    if embeddings is not None and embeddings.row:
        parts.consistency.hold(embeddings)
    record_measurements(config.scl, parts.consistency)


def _prepare(parts: VitsParts, trainer: Trainer) -> FreezeReport:
    """Check the run, embed its references, and report."""
    config = _config_of(parts, trainer)
    data = DataAccess(
        small_batch=lambda: _batch_of(parts, config, trainer),
        prepare_references=lambda consistency: _embed_references(config, consistency, trainer),
    )
    try:
        with undisturbed(config):
            facts, checks = _check(parts, _trainer_facts(parts, config, trainer), data)
    except BaseException:
        _discard_empty_run(trainer)
        raise
    report = report_freezing(parts, trainer.optimizer, trainer.total_steps_done)
    if is_main_process(trainer):
        folder = Path(trainer.output_path)
        if trainer.eval_samples:
            write_evaluation_set(folder, trainer.eval_samples)
        reach = reach_dicts(measured_reach(facts, checks))
        checks.write(folder, {"step": report.step, "skip": list(parts.skipped_checks), "reach": reach})
        _publish(trainer, checks, facts, report)
    return report


def _config_of(parts: VitsParts, trainer: Trainer) -> SclVitsConfig:
    """Return the trainer's config, since overrides of single values reach only it; the model has a copy."""
    config = trainer.config
    return config if isinstance(config, SclVitsConfig) else parts.model.config


def _trainer_facts(parts: VitsParts, config: SclVitsConfig, trainer: Trainer) -> TrainerFacts:
    return TrainerFacts(
        config=config,
        coqui=coqui_tools(),
        optimizers=name_optimizers(trainer.optimizer),
        list_datasets=lambda: [listing for listing in list_datasets(config) if listing.error is None],
        train_samples=trainer.train_samples,
        eval_samples=trainer.eval_samples,
        has_eval_loader=trainer.eval_loader is not None,
        step=trainer.total_steps_done,
        restored=parts.restored,
        needs_all_gradients=_needs_all_gradients(trainer),
        processes=processes.count(),
        uses_accelerate=trainer.use_accelerate,
        shares_data=_shares_data(trainer),
    )


def _check(parts: VitsParts, known: TrainerFacts, data: DataAccess) -> tuple[RunFacts, PreflightReport]:
    """Run all checks that a command has not run yet. Raises PreflightError, or the error that is all that was found.

    If one fails that runs neither the generator nor the encoders, the others embed a few recordings alone.
    """
    facts, checks = collect_facts(parts, known, data), parts.checked or PreflightReport()
    for stage in STAGES[:-1]:
        checks = run_checks(stage, facts, parts.skipped_checks, checks)
    if not checks.passed and known.train_samples is not None:
        facts = collect_facts(parts, known, few_samples_alone(parts.model, known.train_samples))
    checks = run_checks(STAGES[-1], facts, parts.skipped_checks, checks)
    failed = checks.of("failed")
    if len(failed) == 1 and isinstance(failed[0].error, SclError):  # a script may tell it by its class
        raise failed[0].error
    if len(failed) == 1 and (found := disk_error(failed[0].error)) is not None:
        raise found
    checks.raise_failures()
    return facts, checks


def _needs_all_gradients(trainer: Trainer) -> bool:
    """Tell whether Coqui's trainer computes the norm of all gradients, which fails where one is None."""
    clips = trainer.config.grad_clip  # for several optimizers, Coqui accepts only a list
    all_clipped = isinstance(clips, list) and min(clips, default=0.0) > 0.0
    return bool(trainer.use_accelerate or (trainer.use_amp_scaler and not all_clipped))


def _shares_data(trainer: Trainer) -> bool:
    """Tell whether each process gets data of its own: from a loader that the user brought, by its sampler."""
    loader = trainer.train_loader
    samplers = (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None))
    return loader is None or any(isinstance(sampler, DistributedSampler) for sampler in samplers)


def _batch_of(parts: VitsParts, config: SclVitsConfig, trainer: Trainer) -> dict[str, Any]:
    if trainer.train_samples is not None:
        return small_batch(parts.model, config, trainer.train_samples)
    # the user supplied a loader
    if trainer.train_loader is None:
        load_alone()
    loader = trainer.train_loader or parts.model.get_data_loader(trainer.config, verbose=False)
    batch: dict[str, Any] = trainer.format_batch(next(iter(loader)))
    return batch


def _embed_references(config: SclVitsConfig, consistency: SpeakerConsistency, trainer: Trainer) -> None:
    """Embed all real speech before training, taking from the cache what it has, and record what was measured."""
    if trainer.train_samples and (consistency.uses_recordings or config.run_eval):
        recordings = recordings_of(trainer.train_samples, trainer.eval_samples or [])
        consistency.embed_references(recordings, ReferenceCache.load(config.reference_cache))
    record_measurements(config.scl, consistency)
    if is_main_process(trainer):
        write_section(trainer.output_path / "config.json", config.scl)


def _publish(trainer: Trainer, checks: PreflightReport, facts: RunFacts, report: FreezeReport) -> None:
    """Report the run to the console, TensorBoard and the run folder."""
    step = trainer.total_steps_done
    report.write(Path(trainer.output_path))
    trainer.dashboard_logger.add_text("freeze_report", report.markdown(), step)
    console = Console()
    console.print(report.table())
    if reach := measured_reach(facts, checks):
        console.print(reach_table(reach))
    if checks.of("warning", "skipped"):
        console.print(checks.table())
    probed = facts.probe_gradients() if not checks.was_not_run("gradient") else {}
    norms = {alias: probes[0].norm for alias, probes in probed.items() if probes[0].arrives}
    if norms:
        reached = ", ".join(f"{alias} {norm:.2e}" for alias, norm in norms.items())
        console.print(f"Speaker consistency: gradient norm at the generated waveform: {reached}", highlight=False)
    calibrations = facts.consistency.calibrations if facts.consistency is not None else {}
    for alias, (floor, ceiling) in calibrations.items():
        console.print(
            f"Real speech by {alias}: mean cosine {floor:.3f} of different speakers, {ceiling:.3f} of the same.",
            highlight=False,
        )
        scalars = {f"floor_{alias}": floor, f"ceiling_{alias}": ceiling}
        trainer.dashboard_logger.add_scalars("SpeakerReferences", scalars, step)


def _discard_empty_run(trainer: Trainer) -> None:
    """Remove the folder of a run that did not start, unless it holds a model or the run continues another."""
    folder = Path(trainer.output_path)
    if is_main_process(trainer) and not trainer.continue_run and not holds_model(folder):
        trainer.dashboard_logger.finish()
        shutil.rmtree(folder, ignore_errors=True)
