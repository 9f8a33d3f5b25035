"""`SclVits`: Coqui's Vits with the speaker consistency term, and with encoders that stay as they were.

With the rest of this folder and the demo, the only file that knows how Coqui's VITS and its trainer work inside.
Each method calls `super()`, and nothing of Coqui's is replaced.
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from trainer import Trainer
from trainer.logging import BaseDashboardLogger
from TTS.tts.configs.vits_config import VitsConfig
from TTS.tts.models.vits import Vits
from TTS.tts.utils.helpers import segment

from coqui_scl_plugin.config import check_config
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui import training_run
from coqui_scl_plugin.coqui.vits_audio import reconstruct
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig, rules_from_flags
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.errors import ConfigError, GradientError
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.freeze.module_rules import ModuleRules
from coqui_scl_plugin.preflight.checks import check_skipped
from coqui_scl_plugin.references.sources import ReferenceBatch

_OWN = "speaker_encoder_loss"  # stock's load_checkpoint leaves out every key that contains `speaker_encoder`
_STOCK_ENCODER = "speaker_encoder"


def _as_scl_config(config: VitsConfig) -> SclVitsConfig:
    if isinstance(config, SclVitsConfig):
        return config
    if isinstance(config, VitsConfig) and config.model == "scl_vits":  # `--coqpit.model scl_vits` on a stock config
        return SclVitsConfig.from_stock(config)
    raise ConfigError(
        f"SclVits needs an SclVitsConfig, got {type(config).__name__}: use SclVitsConfig.from_stock(config)."
    )


class SclVits(Vits):
    """VITS whose generator also hears from frozen speaker encoders whether it sounds like the right person.

    Stock's own speaker consistency loss is off. The encoders are loaded when training begins, so that inference
    needs none of them.
    """

    config: SclVitsConfig
    speaker_encoder_loss: SpeakerConsistency | None
    skipped_checks: tuple[str, ...]
    """Checks before step 1 that may fail."""
    module_rules: ModuleRules
    """What of the generator and the discriminator is frozen, and when."""
    _step = 0
    _trains = False
    """Whether optimizers were made, so that the rules hold."""
    _run: training_run.Run | None = None

    def __init__(self, config: VitsConfig, *args: Any, **kwargs: Any) -> None:
        """Build the model.

        Raises:
            ConfigError: the `scl` section cannot be used, a pattern in it matches no module, or its rules leave nothing
                to train.
        """
        config = _as_scl_config(config)
        check_config(config.scl)
        check_skipped(config.scl.preflight.skip, "scl.preflight.skip")
        config.model_args.use_speaker_encoder_as_loss = False
        super().__init__(config, *args, **kwargs)
        self.speaker_encoder_loss = None
        self.skipped_checks = tuple(config.scl.preflight.skip)  # kept, since --continue_path reads the config again
        rules_from_flags(config, dict(self.named_children()))
        # without a discriminator the model cannot train, and rules for it must not keep it from speaking
        rules = config.scl.freeze.modules if config.model_args.init_discriminator else []
        self.module_rules = ModuleRules(self, rules, "scl.freeze.modules", ignored=(_OWN, _STOCK_ENCODER))
        self.module_rules.refuse_to_freeze_all("discriminator", ["disc"])
        self.module_rules.refuse_to_freeze_all("generator", self.own_modules().keys() - {"disc"})
        self._waveform_gradient: Tensor | None = None
        self._expects_gradient = False
        self.register_load_state_dict_post_hook(self._forgive_encoder_keys)
        self._freeze_stock_encoder()

    # --- what is built for training -------------------------------------------------------------------------------

    def setup_speaker_consistency(self) -> None:
        """Load the encoders and build the loss, unless that is done or the section is off.

        Coqui's trainer gets here through `get_criterion`, before the model moves to its device.
        """
        if self.config.scl.enabled and self.speaker_encoder_loss is None:
            built = SpeakerConsistency.from_config(self.config.scl)
            self.speaker_encoder_loss = built.to(next(self.parameters()).device)

    def get_criterion(self) -> list[nn.Module]:
        """Stock's criteria."""
        self.setup_speaker_consistency()
        criteria: list[nn.Module] = super().get_criterion()
        return criteria

    def get_optimizer(self) -> list[torch.optim.Optimizer]:
        """Stock's optimizers, without a tensor of any frozen encoder, and as the rules of modules divide the rest."""
        self.setup_speaker_consistency()
        frozen = {id(p) for encoder in self.frozen_encoders().values() for p in encoder.parameters()}
        optimizers: list[torch.optim.Optimizer] = super().get_optimizer()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if id(p) not in frozen]
        self.module_rules.divide(optimizers)
        self._trains = True
        self.module_rules.apply(self._step, training=self.training)
        return optimizers

    # --- what keeps things as they are ----------------------------------------------------------------------------

    def own_modules(self) -> dict[str, nn.Module]:
        """The outermost modules of the generator and the discriminator, without speaker encoders."""
        return {name: module for name, module in self.named_children() if name not in (_OWN, _STOCK_ENCODER)}

    def stock_encoder(self) -> nn.Module | None:
        """The encoder that the speaker manager loads to compute d-vectors; it is no part of the loss."""
        return self._modules.get(_STOCK_ENCODER)

    def frozen_encoders(self) -> dict[str, nn.Module]:
        """All speaker encoders that must not move, by the name that messages call them."""
        encoders = self.speaker_encoder_loss.frozen_encoders if self.speaker_encoder_loss is not None else {}
        stock = self.stock_encoder()
        return encoders if stock is None else {**encoders, "stock": stock}

    def _freeze_stock_encoder(self) -> None:
        if (encoder := self.stock_encoder()) is not None:
            FrozenPolicy().apply(encoder)

    def _apply_policies(self) -> None:
        self._freeze_stock_encoder()
        if self.speaker_encoder_loss is not None:
            self.speaker_encoder_loss.apply_policies()

    def _enforce(self) -> None:
        """Rules and policies hold in this step, whatever anyone did since the last."""
        self._apply_policies()
        self.module_rules.apply(self._step, training=self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch the model; frozen encoders and, unless their rule says otherwise, frozen modules stay in eval mode."""
        super().train(mode)
        self._freeze_stock_encoder()
        if self._trains:
            self.module_rules.apply(self._step, training=mode)
        return self

    def _check_guard(self, step: int) -> None:
        if self._run is not None:
            self._apply_policies()
            self._run.check_guard(step)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The weights of a checkpoint: stock's keys, and those of a loss that has some. No frozen encoder.

        Raises:
            DriftError: an encoder moved since the run began, so that what would be saved is not sound.
        """
        self._check_guard(self._step)
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        return self._without_frozen_encoders(state)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load what `state_dict` gives. A frozen encoder keeps its own weights, also if an earlier run trained it."""
        return super().load_state_dict(self._without_frozen_encoders(state_dict), *args, **kwargs)

    def _without_frozen_encoders(self, state: Mapping[str, Any]) -> dict[str, Any]:
        frozen = self.speaker_encoder_loss.frozen_encoders if self.speaker_encoder_loss is not None else {}
        prefixes = tuple(f"{_OWN}.encoders.{alias}." for alias in frozen)
        return {key: value for key, value in state.items() if not key.startswith(prefixes)}

    @staticmethod
    def _forgive_encoder_keys(module: nn.Module, incompatible_keys: Any) -> None:
        missing = incompatible_keys.missing_keys
        missing[:] = [key for key in missing if not key.startswith(f"{_OWN}.encoders.")]

    # --- the term -------------------------------------------------------------------------------------------------

    def train_step(
        self, batch: dict[str, Any], criterion: nn.Module, optimizer_idx: int | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Stock's step; at the generator's turn the speaker consistency term is added to its loss.

        Logged: `loss_spk_encoder` (weighted, as stock calls it), `secs_ALIAS` (raw cosine of each encoder),
        `secs_calibrated_ALIAS` (the same between its floor, 0, and its ceiling, 1), and for an ensemble
        `loss_spk_encoder_ALIAS` (each member, unweighted). At evaluation the similarities are of whole recordings and
        of all encoders; see `eval_step`.
        """
        if self.training and optimizer_idx == 0:  # here, since callbacks come after `on_train_step_start` of the model
            self._enforce()
        outputs, losses = super().train_step(batch, criterion, optimizer_idx)
        if optimizer_idx == 1 and self.speaker_encoder_loss is not None:
            losses = self._with_speaker_consistency(self.speaker_encoder_loss, batch, outputs, losses)
        return outputs, losses

    def _with_speaker_consistency(
        self, consistency: SpeakerConsistency, batch: dict[str, Any], outputs: dict[str, Any], losses: dict[str, Any]
    ) -> dict[str, Any]:
        weight = self.config.scl.weight_at(self._step)
        if weight == 0.0 and self.training:
            return {**losses, "loss_spk_encoder": 0.0}
        generated, real = self._generated(batch, outputs), self._real_speech(batch, outputs)
        if self.training:
            self._watch_gradient(consistency, generated, real)
        heard = ResampledAudio(generated, self.config.audio.sample_rate)
        term = consistency(heard, real)
        weighted = weight * term.loss
        return {
            **losses,
            "loss": losses["loss"] + weighted,
            "loss_spk_encoder": weighted,
            **{f"secs_{alias}": value for alias, value in term.similarities.items()},
            **{f"secs_calibrated_{alias}": value for alias, value in term.calibrated.items()},
            **{f"loss_spk_encoder_{alias}": value for alias, value in term.members.items()},
        }

    # --- evaluation -----------------------------------------------------------------------------------------------

    def eval_step(
        self, batch: dict[str, Any], criterion: nn.Module, optimizer_idx: int | None = None
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Stock's step; every encoder, held-out ones too, hears whole recordings that the generator copied.

        Logged: `secs_ALIAS`, their mean cosine with other recordings of the speaker, and `secs_calibrated_ALIAS`.
        """
        outputs, losses = super().eval_step(batch, criterion, optimizer_idx)
        if optimizer_idx == 1 and losses is not None and self._run is not None and self._run.monitor is not None:
            heard = self._run.monitor.measure(self._copies(batch), self._real_speech(batch, outputs), self._step)
            losses = {**losses, **heard}
        return outputs, losses

    def voice_of(self, speaker: str) -> Tensor | None:
        """`[1, C, 1]`, the conditioning of a speaker; None for a model of one speaker. Raises KeyError."""
        speaker_id, d_vector = self._get_speaker_id_or_dvector(speaker)
        conditioning: Tensor | None = self._get_speaker_conditioning(
            {"speaker_ids": speaker_id, "d_vectors": d_vector}, "emb_g", normalize_embedding=False
        )
        return conditioning

    def _copies(self, batch: dict[str, Any]) -> list[Tensor]:
        """The recordings of a batch in the generator's voice of their speakers, each `[T_i]`."""
        conditioning = self._get_speaker_conditioning(batch, "emb_g", normalize_embedding=False)
        rate = self.args.encoder_sample_rate or self.config.audio.sample_rate
        frames = max(1, round(self.config.scl.evaluation.max_seconds * rate / self.config.audio.hop_length))
        return [
            reconstruct(
                self,
                batch["spec"][item : item + 1, :, : min(int(length), frames)],
                conditioning[[item]] if conditioning is not None else None,
            )
            for item, length in enumerate(batch["spec_lens"])
        ]

    def eval_log(self, batch: dict[str, Any], outputs: dict[str, Any], logger: BaseDashboardLogger, steps: int) -> None:
        """Stock's plots; then the similarities of this evaluation, and what they say of the run."""
        super().eval_log(batch, outputs, logger, steps)
        if self._run is not None:
            self._run.report_similarity()

    def on_train_epoch_start(self, trainer: Trainer) -> None:
        """Coqui looks for the target by which it chooses the best model among the means of training too."""
        super().on_train_epoch_start(trainer)
        if self._run is not None:
            self._run.announce_target()

    def generate_pair(self, batch: dict[str, Any]) -> tuple[Tensor, ReferenceBatch]:
        """What a training step would compare: the generated waveform `[B, T]` with its graph, and the real half."""
        conditioning = {key: batch[key] for key in ("d_vectors", "speaker_ids", "language_ids")}
        spoken = (batch[key] for key in ("tokens", "token_lens", "spec", "spec_lens", "waveform"))
        outputs = self.forward(*spoken, aux_input=conditioning)
        return self._generated(batch, outputs), self._real_speech(batch, outputs)

    def _generated(self, batch: dict[str, Any], outputs: dict[str, Any]) -> Tensor:
        """`[B, T]` float32, a view of its own so that its gradient is that of the term alone."""
        waveform = outputs["model_outputs"]
        if self.config.scl.segment.detach_posterior and torch.is_grad_enabled():
            waveform = self._decode_detached(batch, outputs)
        return waveform.float().squeeze(1)

    def _decode_detached(self, batch: dict[str, Any], outputs: dict[str, Any]) -> Tensor:
        """The same waveform, decoded again from latents that pass no gradient to the posterior encoder."""
        conditioning = self._get_speaker_conditioning(batch, "emb_g", normalize_embedding=False)
        factor = int(self.interpolate_factor) if self.args.encoder_sample_rate else 1
        start = outputs["slice_ids"] // factor
        latents = segment(outputs["z"].detach(), start, self.spec_segment_size, pad_short=True)
        latents, *_ = self.upsampling_z(latents, slice_ids=start)
        decoded: Tensor = self.waveform_decoder(latents, g=conditioning)
        return decoded

    def _real_speech(self, batch: dict[str, Any], outputs: dict[str, Any]) -> ReferenceBatch:
        waveforms = batch["waveform"].squeeze(1)
        lengths = (batch["waveform_rel_lens"] * waveforms.shape[1]).round().long().tolist()
        return ReferenceBatch(
            segments=ResampledAudio(outputs["waveform_seg"].squeeze(1), self.config.audio.sample_rate),
            utterances=[row[:length].float() for row, length in zip(waveforms, lengths, strict=True)],
            names=list(batch["audio_unique_names"]),
            speakers=list(batch["speaker_names"]),
        )

    # --- the proof, before step 1 and while training --------------------------------------------------------------

    def on_init_end(self, trainer: Trainer) -> None:
        """Check before step 1 that the run will do what its config says, and start to watch the encoders.

        Raises:
            PreflightError: it would not. The run folder, which holds nothing yet, is removed.
        """
        super().on_init_end(trainer)
        self._step = trainer.total_steps_done
        self._run = training_run.begin(self, trainer)

    def on_train_step_start(self, trainer: Trainer) -> None:
        """Tell the loss the step, and set the learning rates that the rules ask for."""
        super().on_train_step_start(trainer)
        self._step = trainer.total_steps_done
        self.module_rules.scale_learning_rates(trainer.optimizer, self._step)
        if self.speaker_encoder_loss is not None:
            self.speaker_encoder_loss.set_step(self._step)

    def _watch_gradient(self, consistency: SpeakerConsistency, generated: Tensor, real: ReferenceBatch) -> None:
        """On the steps of the guard, note the gradient that the term sends to the generated waveform."""
        due = self._step % self.config.scl.freeze.check_every == 0 and "gradient" not in self.skipped_checks
        self._expects_gradient = due and consistency.can_teach(real)
        self._waveform_gradient = None
        if self._expects_gradient and generated.requires_grad:
            generated.register_hook(self._note_gradient)

    def _note_gradient(self, gradient: Tensor) -> None:
        self._waveform_gradient = gradient.detach().norm()

    def on_train_step_end(self, trainer: Trainer) -> None:
        """Every `freeze.check_every` steps: the gradient arrived, and the encoders are what they were.

        Raises:
            GradientError: it did not arrive.
            DriftError: an encoder moved, and `freeze.on_drift` is `raise`.
        """
        super().on_train_step_end(trainer)
        self._apply_policies()
        if self._step % self.config.scl.freeze.check_every == 0:
            self._check_gradient()
            self._check_guard(trainer.total_steps_done)

    def _check_gradient(self) -> None:
        if self._expects_gradient and (self._waveform_gradient is None or not self._waveform_gradient > 0):
            msg = (
                f"At step {self._step} the speaker consistency loss sent no gradient to the generated waveform "
                f"(norm {self._waveform_gradient}). The run stops here, since it would learn nothing from the loss."
            )
            raise GradientError(msg)
        self._expects_gradient = False

    def on_epoch_end(self, trainer: Trainer) -> None:
        """The encoders are what they were. Raises DriftError."""
        super().on_epoch_end(trainer)
        self._check_guard(trainer.total_steps_done)
