"""A training run: the step, the term added to the loss, the guards, and the similarity at each evaluation."""

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from trainer import Trainer

from coqui_scl_plugin.consistency.finite_term import FiniteTerm, keep_finite
from coqui_scl_plugin.consistency.gradient_bound import with_bounded_gradient
from coqui_scl_plugin.consistency.term import ConsistencyTerm
from coqui_scl_plugin.coqui.averaging import average_after_backward
from coqui_scl_plugin.coqui.bad_recordings import BadRecordings
from coqui_scl_plugin.coqui.bad_steps import BadSteps
from coqui_scl_plugin.coqui.distributed import (
    copy_model_from_main,
    is_main_process,
    mean_losses,
    shuffle_anew,
)
from coqui_scl_plugin.coqui.finite_updates import inner_of
from coqui_scl_plugin.coqui.interrupted import end_by_signal
from coqui_scl_plugin.coqui.loss_shares import share_out
from coqui_scl_plugin.coqui.mixed_precision import skips_overflows
from coqui_scl_plugin.coqui.parts import VitsParts
from coqui_scl_plugin.coqui.progress import (
    Progress,
    ProgressRecorder,
    evaluate_trained_epoch,
    restore_best_loss,
    take_up,
)
from coqui_scl_plugin.coqui.random_numbers import seed_after_step, seed_epoch, seed_loading, seed_step
from coqui_scl_plugin.coqui.run_start import prepare_restore, prepare_run
from coqui_scl_plugin.coqui.vits_batch import listen, reconstruct_batch, reference_batch
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.freeze import Drift, DriftGuard
from coqui_scl_plugin.freeze.gradient_guard import GradientGuard
from coqui_scl_plugin.freeze.report import FreezeReport
from coqui_scl_plugin.monitoring.monitor import SimilarityMonitor
from coqui_scl_plugin.monitoring.publish import publish_similarity
from coqui_scl_plugin.monitoring.target import distance_of, take_target
from coqui_scl_plugin.utils import processes

_GENERATOR = 1
"""Index of the generator's optimizer; 0 is the discriminator's."""


class TrainingRun:
    """The additions to stock's training. Before `begin`, a step has the term, but no guard checks the encoders."""

    def __init__(self, parts: VitsParts) -> None:
        """Take the parts of the model to train."""
        self.parts = parts
        self.step = 0
        """The trainer's count of steps, from 0."""
        self.monitor: SimilarityMonitor | None = None
        """None before `begin`, and if the section is off."""
        self.bad_steps = BadSteps(parts.scl.max_bad_steps)
        self.bad_recordings = BadRecordings()
        self._loading = contextlib.ExitStack()
        """Open while the trainer loads a checkpoint."""
        self._gradient_guard = GradientGuard()
        self._gradient_check_due = False
        self._turn = 0
        self._watch: EncoderWatch | None = None
        self._trainer: Trainer | None = None
        self._progress: ProgressRecorder | None = None
        self._before: Progress | None = None
        """What the run that this one continues had done; None once it is taken up."""
        self._target: str | None = None

    def expect_restore(self, trainer: Trainer) -> None:
        """Judge the checkpoint that the trainer loads between this and `begin`, and carry rows of its tables.

        Raises:
            ConfigError: the trainer cannot load it. A run folder that holds nothing yet is removed.
        """
        prepare_restore(self.parts, trainer, self._loading)

    def begin(self, trainer: Trainer) -> None:
        """Check the run, embed its references, report what trains, and start to guard the encoders.

        Raises:
            PreflightError: a check failed. A run folder that holds nothing yet is removed.
        """
        self._loading.close()
        end_by_signal(trainer)
        self._before = Progress.taken_up_by(trainer)
        continued = take_up(trainer, self._before)
        self.step = trainer.total_steps_done
        report = prepare_run(self.parts, trainer)
        copy_model_from_main(self.parts.model, [*self.parts.frozen_encoders().values()])
        scl, consistency = self.parts.scl, self.parts.consistency
        folder = Path(trainer.output_path) if is_main_process(trainer) else None
        guard = DriftGuard(self.parts.frozen_encoders(), scl.freeze.on_drift, report.step)
        self._watch = EncoderWatch(self.parts, guard, trainer, report, folder)
        self._watch.guard_saving(lambda: self.step)
        self.bad_steps.begin(trainer)
        if consistency is not None:
            if consistency.gradient_share is not None and not trainer.continue_run:
                consistency.gradient_share.forget()  # a checkpoint to start from may hold that of another loss
            self.monitor = SimilarityMonitor(consistency, scl.evaluation, folder)
            self.monitor.forget_after(self.step)
        self._trainer, self._target = trainer, take_target(trainer.config)
        self._progress = ProgressRecorder(trainer, self._before)
        if continued and is_main_process(trainer):
            Console().print(continued, highlight=False, markup=False, soft_wrap=True)

    # --- an epoch -------------------------------------------------------------------------------------------------

    def start_loading(self, trainer: Trainer) -> None:
        """Seed the making of data loaders; in a continued run, first restore the best loss and evaluate what is due."""
        before, self._before = self._before, None
        seed_loading(trainer.config.training_seed)
        if before is None:
            return
        restore_best_loss(trainer)
        if before.lacks_evaluation and trainer.config.run_eval:
            evaluate_trained_epoch(trainer, before)
            if not trainer.start_with_eval:
                seed_loading(trainer.config.training_seed)

    def start_epoch(self, trainer: Trainer) -> None:
        """Seed the order of an epoch's data, and add the target by which Coqui chooses the best model."""
        shuffle_anew(trainer)
        seed_epoch(trainer.config.training_seed, trainer.epochs_done)
        if self._progress is not None:
            self._progress.start_epoch()
        self.announce_target()

    # --- a training step ------------------------------------------------------------------------------------------

    def start_step(self, trainer: Trainer) -> None:
        """Take the trainer's step, and set the learning rates of the rules."""
        self.step = trainer.total_steps_done
        seed_step(trainer.config.training_seed, self.step, trainer.args.rank or 0)
        if self._progress is not None:
            self._progress.start_step()
        self.bad_steps.start(trainer)
        self.parts.module_rules.scale_learning_rates(trainer.optimizer, self.step)
        if self.parts.consistency is not None:
            self.parts.consistency.loss.set_step(self.step)
        self._gradient_check_due |= self._is_checked()

    def enforce(self, optimizer_idx: int | None) -> None:
        """Enforce policies and rules before a training step, after all callbacks at its start."""
        self._turn = optimizer_idx or 0
        if self.parts.model.training and optimizer_idx == 0:
            self.parts.enforce(self.step, training=True)

    def add_term(
        self, batch: dict[str, Any], outputs: dict[str, Any], losses: dict[str, Any], optimizer_idx: int | None
    ) -> dict[str, Any]:
        """Return the losses; at the generator's turn, with the weighted term added.

        Logged: `loss_spk_encoder` (weighted, as stock calls it), `reference_cosine_ALIAS` (of generated speech and its
        reference), `calibrated_reference_cosine_ALIAS`, and for several encoders `loss_spk_encoder_ALIAS` (each member,
        unweighted). Where the loss does not take part in every step, `scl_listens` (1 or 0), and none of the others in
        a step without it; those of a step with it are without `window.every_n_steps` as a factor, so that Coqui's means
        of the losses add up to that of the total, and are those of an evaluation. With `gradient_share`, `scl_weight`
        and `scl_gradient_share`. Once there are some, `scl_bad_steps` and `scl_bad_recordings`: how many there were.
        """
        consistency, model, scl = self.parts.consistency, self.parts.model, self.parts.scl
        if joint := processes.several() and model.training:
            losses = share_out(losses, batch)
        if optimizer_idx is not None:
            self.bad_steps.note_losses(losses, batch["audio_unique_names"], optimizer_idx)
        if optimizer_idx == _GENERATOR:
            losses = {**losses, **self.bad_steps.logged(), **self.bad_recordings.logged()}
        if optimizer_idx != _GENERATOR or consistency is None:
            return losses
        factor = scl.factor_at(self.step) if model.training else 1
        if model.training and not scl.always_listens:
            losses = {**losses, "scl_listens": float(factor > 0)}
        if not factor:
            return losses
        generated, real = listen(model, batch, outputs, scl, self.step)
        heard = ResampledAudio(with_bounded_gradient(generated), model.config.audio.sample_rate)
        term = consistency(heard, real, self.step, joint=joint)
        trained = [parameter for parameter in consistency.parameters() if parameter.requires_grad]
        kept = keep_finite(term.loss, generated, trained)
        self.bad_steps.note_term(generated, term, kept, real.names, consistency.references.embeddings)
        weighted, measured = self._weigh(kept, generated, outputs, losses)
        if model.training:  # after weighing, whose own backward pass through the encoders proves nothing
            self._watch_gradient(generated, term)
        return {
            **losses,
            "loss": losses["loss"] + factor * weighted,
            "loss_spk_encoder": weighted,
            **measured,
            **{f"reference_cosine_{alias}": value for alias, value in term.reference_cosines.items()},
            **{f"calibrated_reference_cosine_{alias}": value for alias, value in term.calibrated.items()},
            **{f"loss_spk_encoder_{alias}": value for alias, value in term.members.items()},
        }

    def _weigh(
        self, term: FiniteTerm, generated: Tensor, outputs: dict[str, Any], losses: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted loss, and with `gradient_share` what to log about its weight."""
        scl, consistency = self.parts.scl, self.parts.consistency
        balancer = consistency.gradient_share if consistency is not None else None
        if balancer is None or consistency is None:
            return scl.weight_at(self.step) * term.loss, {}
        ramp = scl.ramp_at(self.step)
        if not (self.parts.model.training and generated.requires_grad):
            return ramp * balancer.weight * term.loss, {}
        (mel,) = torch.autograd.grad(losses["loss_mel"], outputs["model_outputs"], retain_graph=True)
        balanced = balancer.balance(term, mel, ramp=ramp, joint=processes.several())
        return balanced.loss, {"scl_weight": balanced.weight, "scl_gradient_share": balanced.share}

    def _watch_gradient(self, generated: Tensor, term: ConsistencyTerm) -> None:
        """Let the gradient guard watch the first step in which the loss takes part since a check was due."""
        expects = self._gradient_check_due and "gradient" not in self.parts.skipped_checks
        self._gradient_check_due = False
        self._gradient_guard.watch(generated, expect=expects and not bool(term.idle))

    def average(self, loss: Tensor, optimizers: Sequence[Any]) -> None:
        """Average the gradients of a turn over all processes, once its backward pass has ended."""
        if processes.several():
            average_after_backward(loss, optimizers[self._turn])

    def _is_checked(self) -> bool:
        """Tell whether the guards check this step."""
        return bool(self.step % self.parts.scl.freeze.check_every == 0)

    def end_step(self, trainer: Trainer) -> None:
        """Enforce the policies; every `freeze.check_every` steps, check the gradient and the encoders.

        Raises:
            BadStepError: `max_bad_steps` in a row were not finite.
            GradientError: the gradient did not arrive, or is not finite.
            DriftError: an encoder moved, and `freeze.on_drift` is `raise`.
            ProcessError: either happened in another process.
        """
        if self._progress is not None:
            self._progress.end_step()
        seed_after_step(trainer.config.training_seed, trainer.total_steps_done)
        self.parts.apply_policies()
        with processes.same_fate(together=self._is_checked()):
            self.bad_steps.end(trainer, self.step)
            if self.bad_steps.term_left_out:
                self._gradient_check_due |= self._gradient_guard.postpone()
            self._gradient_check_due |= self._gradient_guard.check(self.step, skips_overflows=skips_overflows(trainer))
            if self._is_checked() and self._watch is not None:
                self._watch.check(trainer.total_steps_done)

    def check_encoders(self, step: int) -> None:
        """Check that no encoder moved since the run began. Raises DriftError, or ProcessError from another process."""
        with processes.same_fate():
            if self._watch is not None:
                self._watch.check(step)

    # --- bad recordings -------------------------------------------------------------------------------------------

    def without_bad_recordings(
        self, batch: dict[str, Any], form: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return a batch as `form` makes it, without the recordings that cannot be used; empty if that leaves none.

        Raises:
            BadStepError: that leaves none, and other processes wait for this one.
        """
        sound, left_out = self.bad_recordings.leave_out(self.parts.model, batch, form)
        if not sound:
            self.bad_steps.note_empty(left_out)
            if not self.parts.model.training:
                self._count_as_worst(unmeasured=True)
        return sound

    # --- an evaluation --------------------------------------------------------------------------------------------

    def _count_as_worst(self, *, unmeasured: bool) -> None:
        """Let an evaluation without a single usable batch make no best model: Coqui would take its loss for 0."""
        means = None if self._trainer is None else self._trainer.keep_avg_eval
        if means is None or self._trainer is None:
            return
        key = f"avg_{self._trainer.config.target_loss or 'loss_0'}"
        if unmeasured and key not in means.avg_values:
            means.add_value(key, math.inf)
        elif not unmeasured and means.avg_values.get(key) == math.inf:
            del means.avg_values[key], means.iters[key]

    def add_similarity(
        self,
        batch: dict[str, Any],
        outputs: dict[str, Any] | None,
        losses: dict[str, Any] | None,
        optimizer_idx: int | None,
    ) -> dict[str, Any] | None:
        """Return the losses with the similarities of reconstructed whole recordings added.

        Logged for every encoder: `cross_utterance_ALIAS`, the mean cosine with other recordings of the speaker, and
        `calibrated_cross_utterance_ALIAS`.
        """
        if outputs is None or losses is None:
            return losses
        self._count_as_worst(unmeasured=False)
        losses = mean_losses(losses)
        if optimizer_idx != _GENERATOR or self.monitor is None:
            return losses
        model = self.parts.model
        generated = reconstruct_batch(model, batch, self.parts.scl.evaluation.max_seconds)
        return {**losses, **self.monitor.measure(generated, reference_batch(model, batch, outputs), self.step)}

    def report_similarity(self) -> None:
        """Publish the similarities of an evaluation to Coqui's means, console, TensorBoard and `scl_history.csv`."""
        if self.monitor is None or self._trainer is None or self._trainer.keep_avg_eval is None:
            return
        means = self.monitor.close(self._trainer.total_steps_done, self._trainer.epochs_done)
        for name, value in means.items():  # Coqui's own mean of batches leaves out the first
            self._trainer.keep_avg_eval.add_value(f"avg_{name}", value, 1)
        if self._target is not None:  # a model that was not measured is not the best one
            distance = distance_of(means, self._target, unknown=math.inf)
            self._trainer.keep_avg_eval.add_value(f"avg_{self._target}", distance, 1)
        if means:
            publish_similarity(self.monitor, self._trainer.dashboard_logger)

    def announce_target(self) -> None:
        """Add the target to the means of training, where Coqui requires it but does not use it."""
        if self._target is None or self.monitor is None or self._trainer is None:
            return
        if self._trainer.keep_avg_train is not None:
            last = self.monitor.last
            known = self.monitor.named(last.cross_utterance) if last is not None else {}
            distance = distance_of(known, self._target)
            self._trainer.keep_avg_train.add_value(f"avg_{self._target}", distance, 1)


class EncoderWatch:
    """The drift guard of a run, and the record of changes that did not end the run."""

    def __init__(
        self, parts: VitsParts, guard: DriftGuard, trainer: Trainer, report: FreezeReport, folder: Path | None
    ) -> None:
        """Take the guard and the report; `folder` is None except in the main process."""
        self._parts, self._guard, self._trainer = parts, guard, trainer
        self._report, self._folder = report, folder
        self._drifts: list[Drift] = []

    def check(self, step: int) -> None:
        """Check the encoders, and record in `freeze_report.json` a change that does not end the run.

        Raises:
            DriftError: an encoder moved, and `freeze.on_drift` is `raise`.
        """
        self._parts.apply_policies()
        found = self._guard.check(step, self._trainer.optimizer)
        self._drifts += found
        if found and self._folder is not None:
            self._report.write(self._folder, self._drifts)

    def guard_saving(self, step: Callable[[], int]) -> None:
        """Check before every checkpoint: Coqui reads an optimizer's state only to save it, before it writes the file.

        Args:
            step: Returns the step for messages.
        """

        def check(optimizer: torch.optim.Optimizer) -> None:
            self.check(step())

        inner_of(self._trainer.optimizer[_GENERATOR]).register_state_dict_pre_hook(check)
