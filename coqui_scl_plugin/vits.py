"""`SclVits`: Coqui's Vits with the speaker consistency term, and with encoders that stay as they were.

Apart from the demo, the only file that knows how Coqui's VITS and its trainer work inside. Each method calls
`super()`, and nothing of Coqui's is replaced.
"""

import contextlib
import logging
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from trainer import Trainer
from TTS.tts.configs.vits_config import VitsConfig
from TTS.tts.models.vits import Vits
from TTS.tts.utils.helpers import segment

from coqui_scl_plugin import preflight
from coqui_scl_plugin.config import check_config
from coqui_scl_plugin.consistency import SpeakerConsistency
from coqui_scl_plugin.encoders.frontends import AtRates
from coqui_scl_plugin.errors import ConfigError, GradientError, SclError
from coqui_scl_plugin.freeze import FreezeGuard, FrozenPolicy
from coqui_scl_plugin.module_table import module_rows, module_table
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.embed import embed_recordings
from coqui_scl_plugin.references.recordings import recordings_of
from coqui_scl_plugin.references.sources import RealSpeech
from coqui_scl_plugin.run_record import record_measurements, write_section
from coqui_scl_plugin.vits_config import SclVitsConfig

logger = logging.getLogger(__name__)

_OWN = "speaker_encoder_loss"  # stock's load_checkpoint leaves out every key that contains `speaker_encoder`
_STOCK_ENCODER = "speaker_encoder"
_PREFLIGHT_BATCH = 4


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)


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

    def __init__(self, config: VitsConfig, *args: Any, **kwargs: Any) -> None:
        """Build the model.

        Raises:
            ConfigError: the `scl` section cannot be used.
        """
        config = _as_scl_config(config)
        check_config(config.scl)
        config.model_args.use_speaker_encoder_as_loss = False
        super().__init__(config, *args, **kwargs)
        self.speaker_encoder_loss = None
        self._step = 0
        self._guard: FreezeGuard | None = None
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
        """Stock's optimizers, without a tensor of any frozen encoder."""
        self.setup_speaker_consistency()
        frozen = {id(p) for encoder in self._frozen_encoders().values() for p in encoder.parameters()}
        optimizers: list[torch.optim.Optimizer] = super().get_optimizer()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if id(p) not in frozen]
        return optimizers

    # --- what keeps the encoders as they are ----------------------------------------------------------------------

    def _stock_encoder(self) -> nn.Module | None:
        """The encoder that the speaker manager loads to compute d-vectors; it is no part of the loss."""
        return self._modules.get(_STOCK_ENCODER)

    def _freeze_stock_encoder(self) -> None:
        if (encoder := self._stock_encoder()) is not None:
            FrozenPolicy().apply(encoder)

    def _frozen_encoders(self) -> dict[str, nn.Module]:
        encoders = self.speaker_encoder_loss.frozen_encoders if self.speaker_encoder_loss is not None else {}
        stock = self._stock_encoder()
        return encoders if stock is None else {**encoders, "stock": stock}

    def train(self, mode: bool = True) -> Self:
        """Switch the model; frozen encoders stay in eval mode."""
        super().train(mode)
        self._freeze_stock_encoder()
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The weights of a checkpoint: stock's keys, and those of a loss that has some. No frozen encoder.

        Raises:
            DriftError: an encoder moved since the run began, so that what would be saved is not sound.
        """
        if self._guard is not None:
            self._guard.check(self._step)
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
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
        `loss_spk_encoder_ALIAS` (each member, unweighted).
        """
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
        heard = AtRates(generated, self.config.audio.sample_rate)
        term = consistency(heard, real, with_holdout=not self.training)
        weighted = weight * term.loss
        return {
            **losses,
            "loss": losses["loss"] + weighted,
            "loss_spk_encoder": weighted,
            **{f"secs_{alias}": value for alias, value in term.similarities.items()},
            **{f"secs_calibrated_{alias}": value for alias, value in term.calibrated.items()},
            **{f"loss_spk_encoder_{alias}": value for alias, value in term.members.items()},
        }

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

    def _real_speech(self, batch: dict[str, Any], outputs: dict[str, Any]) -> RealSpeech:
        waveforms = batch["waveform"].squeeze(1)
        lengths = (batch["waveform_rel_lens"] * waveforms.shape[1]).round().long().tolist()
        return RealSpeech(
            segments=AtRates(outputs["waveform_seg"].squeeze(1), self.config.audio.sample_rate),
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
        if self.speaker_encoder_loss is None:
            return
        try:
            self._check_setup(self.speaker_encoder_loss, trainer)
            self._embed_recordings(self.speaker_encoder_loss, trainer)
            gradients = self._check_gradients(self.speaker_encoder_loss, trainer)
        except (SclError, KeyboardInterrupt):
            _discard_empty_run(trainer)
            raise
        self._guard = FreezeGuard(self._frozen_encoders())
        if trainer.args.rank == 0:
            self._report(trainer, gradients)

    def _check_setup(self, consistency: SpeakerConsistency, trainer: Trainer) -> None:
        frozen = self._frozen_encoders()
        consistency.apply_policies()
        preflight.check_optimizers(frozen, trainer.optimizer)
        preflight.check_frozen(frozen)
        preflight.check_recordings(consistency, trainer.train_samples)
        if trainer.train_samples is not None:
            preflight.check_names([*trainer.train_samples, *(trainer.eval_samples or [])])
            speakers = [sample["speaker_name"] for sample in trainer.train_samples]
            preflight.check_speakers(consistency.loss, speakers, trainer.config.batch_size)

    def _embed_recordings(self, consistency: SpeakerConsistency, trainer: Trainer) -> None:
        """Let each encoder hear all real speech before training, from the cache where it has it."""
        if trainer.train_samples and consistency.uses_recordings:
            recordings = recordings_of(trainer.train_samples, trainer.eval_samples or [])
            cache = ReferenceCache.load(self.config.reference_cache)
            speech, _ = embed_recordings(consistency.prepared_encoders, recordings, cache)
            consistency.hold(speech)
        record_measurements(self.config.scl, consistency)
        if trainer.args.rank == 0:
            write_section(trainer.output_path / "config.json", self.config.scl)

    def _check_gradients(self, consistency: SpeakerConsistency, trainer: Trainer) -> dict[str, float]:
        with _random_state_kept(), torch.enable_grad():
            batch = self._preflight_batch(trainer)
            conditioning = {key: batch[key] for key in ("d_vectors", "speaker_ids", "language_ids")}
            spoken = (batch[key] for key in ("tokens", "token_lens", "spec", "spec_lens", "waveform"))
            outputs = self.forward(*spoken, aux_input=conditioning)
            generated = self._generated(batch, outputs)
            return preflight.check_gradient(consistency, generated, self._real_speech(batch, outputs))

    def _preflight_batch(self, trainer: Trainer) -> dict[str, Any]:
        """A small real batch, of different speakers where there are some."""
        if trainer.train_samples is None:  # the user brought a data loader
            loader = trainer.train_loader or self.get_data_loader(trainer.config, verbose=False)
            return trainer.format_batch(next(iter(loader)))
        by_speaker = {sample["speaker_name"]: sample for sample in reversed(trainer.train_samples)}
        samples = [dict(sample) for sample in list(by_speaker.values())[:_PREFLIGHT_BATCH]]
        loader = self.get_data_loader(trainer.config, is_eval=True, samples=samples, verbose=False)
        items = [loader.dataset[index] for index in range(len(loader.dataset))]
        return trainer.format_batch(loader.dataset.collate_fn(items))

    def _report(self, trainer: Trainer, gradients: dict[str, float]) -> None:
        modules = {name: m for name, m in self.named_children() if name not in (_OWN, _STOCK_ENCODER)}
        modules |= {f"speaker encoder {name}": encoder for name, encoder in self._frozen_encoders().items()}
        optimizers = dict(zip(("discriminator", "generator"), trainer.optimizer, strict=True))
        console = Console()
        console.print(module_table(module_rows(modules, optimizers)))
        reached = ", ".join(f"{alias} {norm:.2e}" for alias, norm in gradients.items())
        console.print(f"Speaker consistency: gradient norm at the generated waveform: {reached}", highlight=False)
        self._report_levels(trainer, console)

    def _report_levels(self, trainer: Trainer, console: Console) -> None:
        """Where real speech lies for each encoder, which is what the run's own similarities are to be read by."""
        levels = self.speaker_encoder_loss.levels if self.speaker_encoder_loss is not None else {}
        for alias, (floor, ceiling) in levels.items():
            console.print(
                f"Real speech by {alias}: mean cosine {floor:.3f} of different speakers, {ceiling:.3f} of the same.",
                highlight=False,
            )
            scalars = {f"floor_{alias}": floor, f"ceiling_{alias}": ceiling}
            trainer.dashboard_logger.add_scalars("SpeakerReferences", scalars, trainer.total_steps_done)

    def on_train_step_start(self, trainer: Trainer) -> None:
        """Tell the loss the step, and enforce the policies whatever a callback did."""
        super().on_train_step_start(trainer)
        self._step = trainer.total_steps_done
        self._freeze_stock_encoder()
        if self.speaker_encoder_loss is not None:
            self.speaker_encoder_loss.set_step(self._step)
            self.speaker_encoder_loss.apply_policies()

    def _watch_gradient(self, consistency: SpeakerConsistency, generated: Tensor, real: RealSpeech) -> None:
        """On the steps of the guard, note the gradient that the term sends to the generated waveform."""
        self._expects_gradient = consistency.can_teach(real) and self._step % self.config.scl.freeze.check_every == 0
        self._waveform_gradient = None
        if self._expects_gradient and generated.requires_grad:
            generated.register_hook(self._note_gradient)

    def _note_gradient(self, gradient: Tensor) -> None:
        self._waveform_gradient = gradient.detach().norm()

    def on_train_step_end(self, trainer: Trainer) -> None:
        """Every `freeze.check_every` steps: the gradient arrived, and the encoders are what they were.

        Raises:
            GradientError: it did not arrive.
            DriftError: an encoder moved.
        """
        super().on_train_step_end(trainer)
        if self._guard is not None and self._step % self.config.scl.freeze.check_every == 0:
            self._check_gradient()
            self._guard.check(trainer.total_steps_done)

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
        if self._guard is not None:
            self._guard.check(trainer.total_steps_done)


def _discard_empty_run(trainer: Trainer) -> None:
    """Remove the folder of a run that did not start; one that holds a model, or is continued, stays."""
    folder = Path(trainer.output_path)
    models = [*folder.glob("checkpoint_*.pth"), *folder.glob("best_model*.pth")]
    if trainer.args.rank == 0 and not trainer.continue_run and not models:
        trainer.dashboard_logger.finish()
        shutil.rmtree(folder, ignore_errors=True)
