"""What happens between the set-up of Coqui's trainer and step 1: checks, references, the freeze report, the guard."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from trainer import Trainer

from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.run_facts import (
    collect_facts,
    freeze_report,
    phonemes_left_alone,
    random_state_kept,
    small_batch,
)
from coqui_scl_plugin.coqui.run_folder import record_measurements, write_evaluation_set, write_section
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.freeze.drift_guard import Drift, DriftGuard
from coqui_scl_plugin.freeze.report import FreezeReport
from coqui_scl_plugin.monitoring.monitor import SimilarityMonitor
from coqui_scl_plugin.monitoring.publish import publish_similarity
from coqui_scl_plugin.monitoring.target import distance_of, take_target
from coqui_scl_plugin.preflight.checks import run_checks
from coqui_scl_plugin.preflight.facts import Restored, RunFacts
from coqui_scl_plugin.preflight.report import PreflightReport
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.fill import embed_recordings
from coqui_scl_plugin.references.recordings import recordings_of

if TYPE_CHECKING:
    from coqui_scl_plugin.coqui.vits import SclVits


@dataclass
class Run:
    """A run that began: what watches it, and what was said at its start."""

    guard: DriftGuard
    report: FreezeReport
    optimizers: Sequence[torch.optim.Optimizer]
    folder: Path | None
    """None for all processes but the first."""
    trainer: Trainer
    monitor: SimilarityMonitor | None
    """None where the section is off."""
    target: str | None = None
    """The similarity by which Coqui chooses the best model, as a distance; None where it chooses by another."""
    drifts: list[Drift] = field(default_factory=list)

    def report_similarity(self) -> None:
        """End an evaluation: its similarities go to Coqui's means, the console, TensorBoard and `scl_history.csv`."""
        if self.monitor is None or self.trainer.keep_avg_eval is None:
            return
        step = self.trainer.total_steps_done
        means = self.monitor.close(step, self.trainer.epochs_done)
        if not means:
            return
        for name, value in means.items():  # Coqui's own mean of batches leaves out the first
            self.trainer.keep_avg_eval.add_value(f"avg_{name}", value, 1)
        if self.target is not None:
            distance = distance_of(means, self.target)
            self.trainer.keep_avg_eval.add_value(f"avg_{self.target}", distance, 1)
        publish_similarity(self.monitor, self.trainer.dashboard_logger)

    def announce_target(self) -> None:
        """Give Coqui the target among the means of training, where it looks for it too and makes no use of it."""
        if self.target is not None and self.monitor is not None and self.trainer.keep_avg_train is not None:
            last = self.monitor.last
            known = self.monitor.named(last.cross_utterance) if last is not None else {}
            self.trainer.keep_avg_train.add_value(f"avg_{self.target}", distance_of(known, self.target), 1)

    def check_guard(self, step: int) -> None:
        """The encoders are what they were; a change that the run survives is kept in `freeze_report.json`.

        Raises:
            DriftError: they are not, and `freeze.on_drift` is `raise`.
        """
        found = self.guard.check(step, self.optimizers)
        self.drifts += found
        if found and self.folder is not None:
            self.report.write(self.folder, self.drifts)


def begin(model: "SclVits", trainer: Trainer) -> Run:
    """Check, embed and report before step 1.

    Raises:
        PreflightError: a check failed. A run folder that holds nothing yet is removed.
    """
    model.train()  # as the trainer does before each epoch
    try:
        config = _config_of(model, trainer)
        with random_state_kept(), phonemes_left_alone(config):
            checks, setup = _check(model, config, trainer)
    except BaseException:
        _discard_empty_run(trainer)
        raise
    is_first = trainer.args.rank == 0
    report = freeze_report(model, setup.optimizers, trainer.total_steps_done)
    guard = DriftGuard(model.frozen_encoders(), model.config.scl.freeze.on_drift, report.step)
    folder = Path(trainer.output_path) if is_first else None
    monitor = None
    if model.speaker_encoder_loss is not None:
        monitor = SimilarityMonitor(model.speaker_encoder_loss, model.config.scl.evaluation, folder)
    if is_first:
        if trainer.eval_samples:
            write_evaluation_set(Path(trainer.output_path), trainer.eval_samples)
        checks.write(Path(trainer.output_path), {"step": report.step, "skip": list(model.skipped_checks)})
        _publish(trainer, checks, setup, report)
    return Run(guard, report, trainer.optimizer, folder, trainer, monitor, take_target(trainer.config))


def _config_of(model: "SclVits", trainer: Trainer) -> SclVitsConfig:
    """The trainer's, since overrides of single values reach it alone; Coqui gives the model a copy."""
    config = trainer.config
    return config if isinstance(config, SclVitsConfig) else model.config


def _check(model: "SclVits", config: SclVitsConfig, trainer: Trainer) -> tuple[PreflightReport, RunFacts]:
    setup = collect_facts(
        model,
        config,
        trainer.optimizer,
        (trainer.train_samples, trainer.eval_samples),
        batch=lambda: _batch_of(model, config, trainer),
        prepare_references=lambda consistency: _embed_recordings(config, consistency, trainer),
        step=trainer.total_steps_done,
        own_eval_loader=trainer.eval_loader is not None,
        restored=_restored(trainer),
        needs_all_gradients=_needs_all_gradients(trainer),
    )
    skip = model.skipped_checks
    checks = run_checks(setup, skip, costly=False, before=PreflightReport())
    checks.raise_failures()
    checks = run_checks(setup, skip, costly=True, before=checks)
    checks.raise_failures()
    return checks, setup


def _needs_all_gradients(trainer: Trainer) -> bool:
    """Whether Coqui's trainer computes the norm of all gradients, which fails where one is None."""
    clips = trainer.config.grad_clip  # for several optimizers, Coqui takes a list alone
    all_clipped = isinstance(clips, list) and min(clips, default=0.0) > 0.0
    return bool(trainer.use_accelerate or (trainer.use_amp_scaler and not all_clipped))


def _restored(trainer: Trainer) -> Restored | None:
    path = trainer.args.restore_path
    return Restored.read(str(path), continues=trainer.continue_run) if path else None


def _batch_of(model: "SclVits", config: SclVitsConfig, trainer: Trainer) -> dict[str, Any]:
    if trainer.train_samples is not None:
        return small_batch(model, config, trainer.train_samples)
    loader = trainer.train_loader or model.get_data_loader(trainer.config, verbose=False)  # the user brought one
    batch: dict[str, Any] = trainer.format_batch(next(iter(loader)))
    return batch


def _embed_recordings(config: SclVitsConfig, consistency: SpeakerConsistency, trainer: Trainer) -> None:
    """Let each encoder hear all real speech before training, from the cache where it has it."""
    if trainer.train_samples and (consistency.uses_recordings or config.run_eval):
        recordings = recordings_of(trainer.train_samples, trainer.eval_samples or [])
        cache = ReferenceCache.load(config.reference_cache)
        speech, _ = embed_recordings(consistency.segment_encoders, recordings, cache)
        consistency.hold(speech)
    record_measurements(config.scl, consistency)
    if trainer.args.rank == 0:
        write_section(trainer.output_path / "config.json", config.scl)


def _publish(trainer: Trainer, checks: PreflightReport, setup: RunFacts, report: FreezeReport) -> None:
    """Say at the start of a run what it is: in the console, in TensorBoard and in its folder."""
    folder, step = Path(trainer.output_path), trainer.total_steps_done
    report.write(folder)
    trainer.dashboard_logger.add_text("freeze_report", report.markdown(), step)
    console = Console()
    console.print(report.table())
    if checks.of("warning", "skipped"):
        console.print(checks.table())
    if setup.gradient_norms:
        reached = ", ".join(f"{alias} {norm:.2e}" for alias, norm in setup.gradient_norms.items())
        console.print(f"Speaker consistency: gradient norm at the generated waveform: {reached}", highlight=False)
    levels = setup.consistency.levels if setup.consistency is not None else {}
    for alias, (floor, ceiling) in levels.items():
        console.print(
            f"Real speech by {alias}: mean cosine {floor:.3f} of different speakers, {ceiling:.3f} of the same.",
            highlight=False,
        )
        scalars = {f"floor_{alias}": floor, f"ceiling_{alias}": ceiling}
        trainer.dashboard_logger.add_scalars("SpeakerReferences", scalars, step)


def _discard_empty_run(trainer: Trainer) -> None:
    """Remove the folder of a run that did not start; one that holds a model, or is continued, stays."""
    folder = Path(trainer.output_path)
    models = [*folder.glob("checkpoint_*.pth"), *folder.glob("best_model*.pth")]
    if trainer.args.rank == 0 and not trainer.continue_run and not models:
        trainer.dashboard_logger.finish()
        shutil.rmtree(folder, ignore_errors=True)
