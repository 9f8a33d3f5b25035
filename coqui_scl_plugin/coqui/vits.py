"""`SclVits`: Coqui's Vits with the speaker consistency term and frozen encoders.

Coqui or its trainer calls each of these methods, which calls `super()` and delegates to `VitsParts` (what the model
has) or `TrainingRun` (what a run does). Nothing in Coqui is replaced.
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn
from torch.utils.data import DataLoader
from trainer import Trainer
from trainer.logging import BaseDashboardLogger
from TTS.tts.configs.vits_config import VitsConfig
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.parts import VitsParts
from coqui_scl_plugin.coqui.training_run import TrainingRun
from coqui_scl_plugin.coqui.usable_items import of_usable_items
from coqui_scl_plugin.coqui.vits_batch import keep_lengths
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.preflight.checks import check_skipped


class SclVits(Vits):
    """VITS whose generator also learns from frozen speaker encoders to sound like the right person.

    Stock's own speaker consistency loss is off. The encoders are loaded when training begins, so inference does not
    need them.
    """

    config: SclVitsConfig
    speaker_encoder_loss: SpeakerConsistency | None
    """The speaker consistency term; None before training, and if the section is off."""
    parts: VitsParts
    training_run: TrainingRun

    def __init__(self, config: VitsConfig, *args: Any, **kwargs: Any) -> None:
        """Build the model.

        Raises:
            ConfigError: the `scl` section cannot be used, a pattern in it matches no module, or its rules leave nothing
                to train.
        """
        config = SclVitsConfig.of(config)
        config.check_values()
        check_skipped(config.scl.preflight.skip, "scl.preflight.skip")
        config.model_args.use_speaker_encoder_as_loss = False
        super().__init__(config, *args, **kwargs)
        self.speaker_encoder_loss = None
        self.parts = VitsParts(self, config)
        self.training_run = TrainingRun(self.parts)
        self.register_load_state_dict_post_hook(VitsParts.forgive_encoder_keys)

    # --- what the trainer asks for --------------------------------------------------------------------------------

    def get_criterion(self) -> list[nn.Module]:
        """Return stock's criteria. The encoders load here, since the trainer then moves the model to its device."""
        self.parts.build_consistency()
        criteria: list[nn.Module] = super().get_criterion()
        return criteria

    def get_optimizer(self) -> list[torch.optim.Optimizer]:
        """Return stock's optimizers, without frozen encoders and divided by the rules for modules."""
        self.parts.build_consistency()
        optimizers: list[torch.optim.Optimizer] = super().get_optimizer()
        self.parts.divide(optimizers, self.training_run.step, training=self.training)
        return optimizers

    def train(self, mode: bool = True) -> Self:
        """Switch the mode; frozen encoders stay in eval mode, as do frozen modules unless their rule says otherwise."""
        super().train(mode)
        self.parts.follow_mode(self.training_run.step, training=mode)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return stock's state dict with the weights of the loss, if it has any, and without frozen encoders."""
        return self.parts.without_frozen_encoders(super().state_dict(*args, **kwargs))

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load a state dict, also with former keys. A frozen encoder keeps its weights, even if a run trained it."""
        state = self.parts.as_named_now(self.parts.without_frozen_encoders(self.parts.with_carried_rows(state_dict)))
        return super().load_state_dict(state, *args, **kwargs)

    # --- batches --------------------------------------------------------------------------------------------------

    def get_data_loader(self, *args: Any, **kwargs: Any) -> DataLoader[Any]:
        """Return stock's loader, which goes on where one recording cannot be loaded."""
        return of_usable_items(super().get_data_loader(*args, **kwargs))

    def format_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Format as stock, then leave out the recordings that cannot be used; empty if that leaves none."""
        return keep_lengths(self.training_run.without_bad_recordings(batch, super().format_batch))

    def format_batch_on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Compute stock's spectrograms, unless no recording of the batch can be used.

        Coqui keeps the filters that it makes first. An evaluation may come first, where a run is continued, and a
        training step cannot use tensors of inference mode.
        """
        with torch.inference_mode(mode=False), torch.no_grad():
            return super().format_batch_on_device(batch) if batch else batch

    # --- steps ----------------------------------------------------------------------------------------------------

    def train_step(
        self, batch: dict[str, Any], criterion: nn.Module, optimizer_idx: int | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take stock's step, and at the generator's turn add the speaker consistency term to the loss."""
        self.training_run.enforce(optimizer_idx)
        if not batch:  # the trainer then leaves out this optimizer's turn
            return {}, {}
        outputs, losses = super().train_step(batch, criterion, optimizer_idx)
        return outputs, self.training_run.add_term(batch, outputs, losses, optimizer_idx)

    def eval_step(
        self, batch: dict[str, Any], criterion: nn.Module, optimizer_idx: int | None = None
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Take stock's step, then measure the similarity of reconstructed whole recordings with every encoder."""
        if not batch:
            return None, None
        outputs, losses = super().eval_step(batch, criterion, optimizer_idx)
        return outputs, self.training_run.add_similarity(batch, outputs, losses, optimizer_idx)

    def train_log(self, batch: dict[str, Any], outputs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Log stock's plots, unless the step was left out."""
        if batch:
            super().train_log(batch, outputs, *args, **kwargs)

    def eval_log(self, batch: dict[str, Any], outputs: dict[str, Any], logger: BaseDashboardLogger, steps: int) -> None:
        """Log stock's plots, then publish the similarities of this evaluation and flag the run if they warrant it."""
        super().eval_log(batch, outputs, logger, steps)
        self.training_run.report_similarity()

    # --- callbacks ------------------------------------------------------------------------------------------------

    def on_init_start(self, trainer: Trainer) -> None:
        """Judge the checkpoint that the trainer is about to load, and carry rows of its tables if the config says so.

        Raises:
            ConfigError: the trainer cannot load it. A run folder that holds nothing yet is removed.
        """
        super().on_init_start(trainer)
        self.training_run.expect_restore(trainer)

    def on_init_end(self, trainer: Trainer) -> None:
        """Check before step 1 that the run will do what its config says, and start to guard the encoders.

        Raises:
            PreflightError: a check failed. A run folder that holds nothing yet is removed.
        """
        super().on_init_end(trainer)
        self.training_run.begin(trainer)

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Seed what Coqui draws while it makes a data loader."""
        super().on_epoch_start(trainer)
        self.training_run.start_loading(trainer)

    def on_train_epoch_start(self, trainer: Trainer) -> None:
        """Seed the order of the epoch's data, and add the target by which Coqui chooses the best model."""
        super().on_train_epoch_start(trainer)
        self.training_run.start_epoch(trainer)

    def on_train_step_start(self, trainer: Trainer) -> None:
        """Take the trainer's step, seed what it draws, and set the learning rates of the rules."""
        super().on_train_step_start(trainer)
        self.training_run.start_step(trainer)

    def before_backward_pass(self, loss_dict: dict[str, Any], optimizer: list[torch.optim.Optimizer]) -> None:
        """Have the gradients of several processes averaged at the end of the backward pass."""
        super().before_backward_pass(loss_dict, optimizer)
        self.training_run.average(loss_dict["loss"], optimizer)

    def on_train_step_end(self, trainer: Trainer) -> None:
        """Enforce the policies; every `freeze.check_every` steps, check that the gradient arrived and no encoder moved.

        Raises:
            BadStepError: `scl.max_bad_steps` in a row were not finite.
            GradientError: the gradient did not arrive.
            DriftError: an encoder moved, and `freeze.on_drift` is `raise`.
        """
        super().on_train_step_end(trainer)
        self.training_run.end_step(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Check that no encoder moved. Raises DriftError."""
        super().on_epoch_end(trainer)
        self.training_run.check_encoders(trainer.total_steps_done)
