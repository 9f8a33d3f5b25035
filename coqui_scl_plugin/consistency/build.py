"""Build the speaker consistency term of a section; the only place that does."""

from collections.abc import Mapping

import torch

from coqui_scl_plugin.config import ENSEMBLE, EncoderConfig, SclConfig
from coqui_scl_plugin.config.measured import forget_other_calibration, forget_recorded_hash, has_recorded_hash
from coqui_scl_plugin.consistency.augment import build_augmentation
from coqui_scl_plugin.consistency.encoder_bank import EncoderBank
from coqui_scl_plugin.consistency.gradient_share import GradientShare
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.encoders.build import build_encoder_of, check_weights_are_there
from coqui_scl_plugin.encoders.lean_plan import device_refusal_of_bfloat16
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError, EncoderError, HoldoutError
from coqui_scl_plugin.freeze import FreezePolicy
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.losses.ensemble import EnsembleLoss
from coqui_scl_plugin.losses.members import build_member
from coqui_scl_plugin.plugins import parameters, registry
from coqui_scl_plugin.plugins.optional import offers_features
from coqui_scl_plugin.references.sources import build_reference_source
from coqui_scl_plugin.utils.fingerprint import fingerprint


def build_consistency(config: SclConfig, *, accepts_changes: bool = False) -> SpeakerConsistency:
    """Build everything that a section names, once `config.check_config` has checked it.

    Preserves the random state, so that a model starts from the same weights with and without the loss. What a run
    recorded of an encoder is forgotten where another one is loaded in its place.

    Args:
        config: The section.
        accepts_changes: Whether an encoder's file may be another one than the run recorded.

    Raises:
        ConfigError: a constructor refuses its parameters, or an alias cannot be used.
        EncoderError: the weights of an encoder cannot be loaded.
        HoldoutError: a held-out encoder has the weights of a training encoder.
    """
    specs = [*config.encoders, *config.holdout]
    check_weights_are_there(specs)
    with torch.random.fork_rng(devices=[]):
        encoders = {
            spec.label: _build_encoder(
                spec, f"scl.{role}.{index}", config.segment.min_seconds, accepts_changes=accepts_changes
            )
            for role, own in (("encoders", config.encoders), ("holdout", config.holdout))
            for index, spec in enumerate(own)
        }
        loss = _build_loss(config)
    _refuse_without_features(config, loss, encoders)
    _refuse_training_weights(config, encoders)
    policies = {spec.label: _build_policy(spec) for spec in specs}
    bank = EncoderBank(encoders, policies, holdout=[spec.label for spec in config.holdout])
    _refuse_bfloat16(config, bank)
    return SpeakerConsistency(
        loss,
        bank,
        build_reference_source(config.reference.source),
        calibrations={
            s.label: Calibration(s.floor, s.ceiling) for s in specs if s.floor is not None and s.ceiling is not None
        },
        gradient_share=GradientShare(config.gradient_share) if config.gradient_share is not None else None,
        logs_members=config.loss.name == ENSEMBLE,
        augmentation=build_augmentation(config.augment),
    )


def _build_encoder(spec: EncoderConfig, path: str, min_seconds: float, *, accepts_changes: bool) -> SegmentEncoder:
    if hasattr(EncoderBank, spec.label):
        raise ConfigError(f"{path}.alias = {spec.label!r}: this name is reserved, choose another one.")
    forget_recorded_hash(spec, same_params_too=accepts_changes)
    try:
        encoder = build_encoder_of(spec, path)
    except EncoderError as error:
        if "SHA-256" in str(error) and has_recorded_hash(spec):
            raise EncoderError(
                f"{error} A run recorded this SHA-256 in {path}.params. To continue the run with the other encoder, "
                "--skip continued: its floor and ceiling are then measured again."
            ) from error
        raise
    forget_other_calibration(spec, getattr(encoder, "sha256", None))
    return SegmentEncoder(encoder, min_seconds, in_bfloat16=spec.dtype == "bfloat16")


def _build_loss(config: SclConfig) -> EnsembleLoss:
    """Build the loss over the training encoders; a loss for a single encoder becomes an ensemble of one."""
    params, path = dict(config.loss.params), "scl.loss.params"
    if config.loss.name == ENSEMBLE:
        params["member"] = build_member(params.get("member"), f"{path}.member")
        own = params.get("members") or {}
        params["members"] = {alias: build_member(own[alias], f"{path}.members.{alias}") for alias in own}
    else:
        params = {"member": build_member(config.loss.to_dict(), "scl.loss"), "calibrate": False}
    weights = {spec.label: spec.weight for spec in config.encoders}
    loss: EnsembleLoss = parameters.construct(EnsembleLoss, {**params, "encoders": weights}, path)
    return loss


def _refuse_without_features(config: SclConfig, loss: EnsembleLoss, encoders: Mapping[str, SegmentEncoder]) -> None:
    """Raise a ConfigError if an encoder whose loss compares feature maps has none, such as the LSTM of `coqui`."""
    for index, spec in enumerate(config.encoders):
        if loss.compares_features(spec.label) and not offers_features(encoders[spec.label].encoder):
            msg = (
                f"scl.encoders.{index} = {spec.label!r}: the loss compares feature maps, and this model of "
                f"{spec.name!r} has none. Use another model or encoder, or a loss that compares embeddings."
            )
            raise ConfigError(msg)


def _refuse_bfloat16(config: SclConfig, encoders: EncoderBank) -> None:
    """Raise a ConfigError if a training encoder is to compute in bfloat16 and it or this machine cannot."""
    for index, spec in enumerate(config.encoders):
        if spec.dtype != "bfloat16":
            continue
        if refusal := device_refusal_of_bfloat16() or encoders[spec.label].refusal_of_bfloat16:
            msg = f"scl.encoders.{index}.dtype = {spec.dtype!r}: {spec.label!r} cannot compute in it: {refusal}."
            raise ConfigError(f"{msg} Use 'float32'.")


def _build_policy(spec: EncoderConfig) -> FreezePolicy:
    policy: FreezePolicy = registry.installed().get("freeze_policies", spec.policy, "policy")()
    return policy


def _refuse_training_weights(config: SclConfig, encoders: Mapping[str, SegmentEncoder]) -> None:
    """Raise a HoldoutError if a held-out encoder has the weights of a training encoder."""
    if not config.holdout:
        return
    trained = {fingerprint(encoders[spec.label].encoder): spec.label for spec in config.encoders}
    for index, spec in enumerate(config.holdout):
        if twin := trained.get(fingerprint(encoders[spec.label].encoder)):
            msg = (
                f"scl.holdout.{index} ({spec.label!r}) has the weights of the training encoder {twin!r}: a held-out "
                "encoder must take no part in training. Choose another one."
            )
            raise HoldoutError(msg)
