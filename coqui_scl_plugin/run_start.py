"""What happens between the making of a model and step 1: the checks, the references, the freeze report.

A run through Coqui's trainer (`begin`) and `coqui-scl preflight` (`setup_of`) do the same.
"""

import contextlib
import copy
import functools
import io
import logging
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from trainer import Trainer

from coqui_scl_plugin.consistency import SpeakerConsistency
from coqui_scl_plugin.freeze.guard import Drift, FreezeGuard
from coqui_scl_plugin.freeze.report import FreezeReport, encoder_row, module_rows
from coqui_scl_plugin.preflight.checks import run_checks
from coqui_scl_plugin.preflight.report import PreflightReport
from coqui_scl_plugin.preflight.setup import Restored, RunSetup, Sample
from coqui_scl_plugin.quiet import quiet
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.embed import embed_recordings
from coqui_scl_plugin.references.recordings import recordings_of
from coqui_scl_plugin.run_record import record_measurements, write_section

if TYPE_CHECKING:
    from coqui_scl_plugin.vits import SclVits
    from coqui_scl_plugin.vits_config import SclVitsConfig

_BATCH = 4
_LOOKED_AT = 200  # recordings of which the small batch is taken
_OPTIMIZERS = ("discriminator", "generator")


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave the random numbers of Python, numpy and torch as they were, so that checks do not change a run."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def phonemes_left_alone(config: "SclVitsConfig") -> Iterator[None]:
    """Write no phonemes of a few samples to Coqui's cache of them, which it takes to be complete once it is there."""
    own = config.phoneme_cache_path
    with tempfile.TemporaryDirectory() as folder:
        config.phoneme_cache_path = folder if own else own
        try:
            yield
        finally:
            config.phoneme_cache_path = own


@dataclass
class Run:
    """A run that began: what watches it, and what was said at its start."""

    guard: FreezeGuard
    report: FreezeReport
    optimizers: Sequence[torch.optim.Optimizer]
    folder: Path | None
    """None for all processes but the first."""
    drifts: list[Drift] = field(default_factory=list)

    def check_guard(self, step: int) -> None:
        """The encoders are what they were; a change that the run survives is kept in `freeze_report.json`.

        Raises:
            DriftError: they are not, and `freeze.on_drift` is `raise`.
        """
        found = self.guard.check(step, self.optimizers)
        self.drifts += found
        if found and self.folder is not None:
            self.report.write(self.folder, self.drifts)


# --- what the checks look at ------------------------------------------------------------------------------------------


def _data_loader(model: "SclVits", samples: Sequence[Sample], **changes: Any) -> Any:
    """Coqui's loader for evaluation, without its bars, and without phonemes of all samples computed beforehand."""
    config = copy.copy(model.config)
    for name, value in {"precompute_num_workers": 0, **changes}.items():
        setattr(config, name, value)
    with quiet(logging.WARNING, "TTS"), contextlib.redirect_stderr(io.StringIO()):
        return model.get_data_loader(config, is_eval=True, samples=[dict(s) for s in samples], verbose=False)


def dataset_that_fits(model: "SclVits", samples: Sequence[Sample]) -> Any:
    """A data set of recordings that Coqui does not leave out for their length; not all, since it opens each file."""
    try:
        return _data_loader(model, samples[:: max(1, len(samples) // _LOOKED_AT)], use_weighted_sampler=False).dataset
    except RuntimeError:  # No samples left
        return _data_loader(model, samples, use_weighted_sampler=False).dataset


def small_batch(model: "SclVits", samples: Sequence[Sample]) -> dict[str, Any]:
    """A small real batch on the model's device, of different speakers where there are some."""
    dataset = dataset_that_fits(model, samples)
    by_speaker: dict[str, int] = {}
    for index, sample in enumerate(dataset.samples):
        by_speaker.setdefault(sample["speaker_name"], index)
    batch = model.format_batch(dataset.collate_fn([dataset[index] for index in list(by_speaker.values())[:_BATCH]]))
    device = next(model.parameters()).device
    moved = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
    formatted: dict[str, Any] = model.format_batch_on_device(moved)
    return formatted


def _segment_seconds(model: "SclVits") -> float:
    factor = int(model.interpolate_factor) if model.args.encoder_sample_rate else 1
    audio = model.config.audio
    return float(model.spec_segment_size * factor * audio.hop_length / audio.sample_rate)


def named_optimizers(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, torch.optim.Optimizer]:
    """Those of the trainer, by name."""
    names = [*_OPTIMIZERS, *(f"optimizer {index}" for index in range(len(_OPTIMIZERS), len(optimizers)))]
    return dict(zip(names, optimizers, strict=False))


def setup_of(
    model: "SclVits",
    optimizers: Sequence[torch.optim.Optimizer],
    samples: tuple[Sequence[Sample] | None, Sequence[Sample] | None],
    batch: Callable[[], dict[str, Any]],
    prepare_references: Callable[[SpeakerConsistency], None],
    step: int = 0,
    **more: Any,
) -> RunSetup:
    """What the checks look at.

    Args:
        model: With its encoders and its loss.
        optimizers: The trainer's.
        samples: To train on, and to evaluate with.
        batch: Makes a small real batch, as `train_step` would get it.
        prepare_references: Lets the encoders hear real speech, as far as the checks need it.
        step: The first training step.
        more: Further fields of `RunSetup`.
    """
    manager, args = model.speaker_manager, model.args

    @functools.cache
    def generate() -> tuple[Tensor, Any]:
        with torch.enable_grad():
            return model.generate_pair(batch())

    def prepare() -> None:
        if model.speaker_encoder_loss is not None:
            model.speaker_encoder_loss.eval()  # also encoders that train hear references as they will be heard
            prepare_references(model.speaker_encoder_loss)
            model.train()

    return RunSetup(
        config=model.config,
        consistency=model.speaker_encoder_loss,
        frozen_encoders=model.frozen_encoders(),
        optimizers=named_optimizers(optimizers),
        train_samples=samples[0],
        eval_samples=samples[1],
        model_sizes={k: v.numel() for k, v in model.state_dict().items() if not k.startswith("speaker_encoder")},
        speakers=manager.speaker_names if manager is not None and args.use_speaker_embedding else None,
        d_vectors=manager.embeddings if manager is not None and args.use_d_vector_file else None,
        segment_seconds=_segment_seconds(model),
        train_mode=model.train,
        count_eval_batches=lambda: len(_data_loader(model, samples[1] or ())),
        generate=generate,
        prepare_references=prepare,
        thaws_at=[
            rule.until_step
            for rule in model.module_rules.rules
            if rule.lr_scale == 0.0 and rule.until_step is not None and rule.until_step > step
        ],
        **more,
    )


# --- the freeze report ------------------------------------------------------------------------------------------------


def freeze_report(model: "SclVits", optimizers: Mapping[str, torch.optim.Optimizer], step: int) -> FreezeReport:
    """What trains and what is frozen in a training step."""
    scl = model.config.scl
    consistency = model.speaker_encoder_loss
    encoders = []
    if consistency is not None:
        for role, specs in (("training", scl.encoders), ("holdout", scl.holdout)):
            encoders += [
                encoder_row(spec.label, role, spec.policy, consistency.encoders[spec.label], optimizers)
                for spec in specs
            ]
    if (stock := model.stock_encoder()) is not None:
        encoders.append(encoder_row("stock", "d-vectors", "frozen", stock, optimizers))
    return FreezeReport(
        step=step,
        modules=module_rows(model.own_modules(), model.module_rules, optimizers, step),
        encoders=encoders,
        rules=[rule.to_dict() for rule in model.module_rules.rules],
        guard={"check_every": scl.freeze.check_every, "on_drift": scl.freeze.on_drift},
    )


# --- a run through Coqui's trainer ------------------------------------------------------------------------------------


def begin(model: "SclVits", trainer: Trainer) -> Run:
    """Check, embed and report before step 1.

    Raises:
        PreflightError: a check failed. A run folder that holds nothing yet is removed.
    """
    model.train()  # as the trainer does before each epoch
    try:
        with random_state_kept(), phonemes_left_alone(model.config):
            checks, setup = _check(model, trainer)
    except BaseException:
        _discard_empty_run(trainer)
        raise
    is_first = trainer.args.rank == 0
    report = freeze_report(model, setup.optimizers, trainer.total_steps_done)
    guard = FreezeGuard(model.frozen_encoders(), model.config.scl.freeze.on_drift, report.step)
    if is_first:
        checks.write(Path(trainer.output_path), {"step": report.step, "skip": list(model.skipped_checks)})
        _publish(trainer, checks, setup, report)
    return Run(guard, report, trainer.optimizer, Path(trainer.output_path) if is_first else None)


def _check(model: "SclVits", trainer: Trainer) -> tuple[PreflightReport, RunSetup]:
    setup = setup_of(
        model,
        trainer.optimizer,
        (trainer.train_samples, trainer.eval_samples),
        batch=lambda: _batch_of(model, trainer),
        prepare_references=lambda consistency: _embed_recordings(model, consistency, trainer),
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


def _batch_of(model: "SclVits", trainer: Trainer) -> dict[str, Any]:
    if trainer.train_samples is not None:
        return small_batch(model, trainer.train_samples)
    loader = trainer.train_loader or model.get_data_loader(trainer.config, verbose=False)  # the user brought one
    batch: dict[str, Any] = trainer.format_batch(next(iter(loader)))
    return batch


def _embed_recordings(model: "SclVits", consistency: SpeakerConsistency, trainer: Trainer) -> None:
    """Let each encoder hear all real speech before training, from the cache where it has it."""
    scl = model.config.scl
    if trainer.train_samples and consistency.uses_recordings:
        recordings = recordings_of(trainer.train_samples, trainer.eval_samples or [])
        cache = ReferenceCache.load(model.config.reference_cache)
        speech, _ = embed_recordings(consistency.prepared_encoders, recordings, cache)
        consistency.hold(speech)
    record_measurements(scl, consistency)
    if trainer.args.rank == 0:
        write_section(trainer.output_path / "config.json", scl)


def _publish(trainer: Trainer, checks: PreflightReport, setup: RunSetup, report: FreezeReport) -> None:
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
