"""Encoders, references and a loss put together: from waveforms to the speaker consistency term."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from coqui_scl_plugin.config import EncoderConfig, SclConfig, check_config
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError, EncoderError, HoldoutError, PreflightError
from coqui_scl_plugin.freeze import FreezePolicy
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.losses.ensemble import EnsembleLoss
from coqui_scl_plugin.plugins import parameters, registry
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings
from coqui_scl_plugin.references.sources import (
    CrossUtteranceSource,
    ReferenceBatch,
    ReferenceSource,
    SegmentSource,
    build_reference_source,
)
from coqui_scl_plugin.utils.fingerprint import fingerprint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConsistencyTerm:
    """The loss of a batch, and what to log beside it."""

    loss: Tensor
    """Scalar, unweighted, with a gradient to the generated waveform."""
    similarities: dict[str, Tensor]
    """Mean cosine of generated and reference embeddings by encoder, no gradient."""
    calibrated: dict[str, Tensor]
    """The same between the floor (0) and the ceiling (1) of each encoder for which they are known."""
    members: dict[str, Tensor]
    """Unweighted loss of each encoder, no gradient; empty unless the loss is an ensemble."""


def build_encoder_of(spec: EncoderConfig, path: str) -> SpeakerEncoder:
    """The encoder of a section, as it was loaded; `path` names the section in messages.

    Raises:
        ConfigError: its name, alias or parameters cannot be used.
        EncoderError: its weights cannot be loaded.
    """
    if hasattr(nn.ModuleDict, spec.label):
        raise ConfigError(f"{path}.alias = {spec.label!r}: torch reserves this name, choose another one.")
    cls = registry.installed().get("encoders", spec.name, f"{path}.name")
    encoder: SpeakerEncoder = parameters.build(cls, spec.params, f"{path}.params")
    if missing := [name for name in ("sample_rate", "embedding_dim", "min_samples") if not hasattr(encoder, name)]:
        raise EncoderError(f"{path}.name = {spec.name!r}: {cls.__name__} lacks the attribute {', '.join(missing)}.")
    return encoder


def _refuse_training_weights(config: SclConfig, encoders: Mapping[str, SegmentEncoder]) -> None:
    """A held-out encoder must not be a training one under another name. Raises HoldoutError."""
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


class SpeakerConsistency(nn.Module):
    """The loss with its encoders. Owns the policies that keep the encoders as they are."""

    def __init__(
        self,
        loss: nn.Module,
        encoders: Mapping[str, SegmentEncoder],
        policies: Mapping[str, FreezePolicy],
        references: ReferenceSource,
        holdout: tuple[str, ...] = (),
        levels: Mapping[str, Calibration] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            loss: Keeps the contract of `SpeakerConsistencyLoss`, or is an `EnsembleLoss` bound to the encoders.
            encoders: By alias, the held-out ones too.
            policies: By alias.
            references: Where the real embeddings come from.
            holdout: Aliases of encoders that only ever evaluate.
            levels: Floor and ceiling by alias, where they are known beforehand.
        """
        super().__init__()
        self.loss = loss
        self.encoders = nn.ModuleDict(encoders)
        self.policies = dict(policies)
        self.references = references
        self.holdout = holdout
        self.levels = dict(levels or {})
        self.apply_policies()
        self._calibrate()

    @classmethod
    def from_config(cls, config: SclConfig) -> Self:
        """Build everything that the section names.

        Leaves the random state as it was, so that a model is initialised alike with and without the loss.

        Raises:
            ConfigError: the section is not valid.
            EncoderError: the weights of an encoder cannot be loaded.
        """
        check_config(config)
        known = registry.installed()
        specs = [*config.encoders, *config.holdout]
        encoders: dict[str, SegmentEncoder] = {}
        with torch.random.fork_rng(devices=[]):
            for role in ("encoders", "holdout"):
                for index, spec in enumerate(cast(list[EncoderConfig], getattr(config, role))):
                    encoder = build_encoder_of(spec, f"scl.{role}.{index}")
                    encoders[spec.label] = SegmentEncoder(encoder, config.segment.min_seconds)
            loss = parameters.build(
                known.get("losses", config.loss.name, "scl.loss.name"), config.loss.params, "scl.loss.params"
            )
        _refuse_training_weights(config, encoders)
        if isinstance(loss, EnsembleLoss):
            loss.bind({spec.label: spec.weight for spec in config.encoders})
        return cls(
            loss,
            encoders,
            {spec.label: known.get("freeze_policies", spec.policy, "policy")() for spec in specs},
            build_reference_source(config.reference.source),
            holdout=tuple(spec.label for spec in config.holdout),
            levels={
                s.label: Calibration(s.floor, s.ceiling) for s in specs if s.floor is not None and s.ceiling is not None
            },
        )

    # --- the encoders ---------------------------------------------------------------------------------------------

    @property
    def training_aliases(self) -> list[str]:
        """The encoders that the loss compares with."""
        return [alias for alias in self.encoders if alias not in self.holdout]

    @property
    def segment_encoders(self) -> dict[str, SegmentEncoder]:
        """All encoders by alias."""
        return {alias: cast(SegmentEncoder, encoder) for alias, encoder in self.encoders.items()}

    @property
    def frozen_encoders(self) -> dict[str, nn.Module]:
        """The encoders that must not move: all but those whose policy lets them train."""
        return {alias: encoder for alias, encoder in self.encoders.items() if not self.policies[alias].trainable}

    @property
    def trained_encoders(self) -> dict[str, SegmentEncoder]:
        """The encoders whose policy lets them train."""
        return {alias: one for alias, one in self.segment_encoders.items() if self.policies[alias].trainable}

    def train(self, mode: bool = True) -> Self:
        """Switch the loss; the encoders follow their policies."""
        super().train(mode)
        self.apply_policies()
        return self

    def apply_policies(self) -> None:
        """Enforce each encoder's policy."""
        for alias, encoder in self.encoders.items():
            self.policies[alias].apply(encoder)

    # --- what real speech tells -----------------------------------------------------------------------------------

    @property
    def wants_prototypes(self) -> bool:
        """Whether the loss compares with every speaker of the data set."""
        return bool(getattr(self.loss, "wants_prototypes", False))

    @property
    def _calibrates(self) -> bool:
        return isinstance(self.loss, EnsembleLoss) and self.loss.calibrate

    @property
    def _wants_levels(self) -> bool:
        """Whether the loss needs the floor and ceiling of each encoder, and does not know them yet."""
        return self._calibrates and not self.levels.keys() >= set(self.training_aliases)

    @property
    def needs_recordings(self) -> bool:
        """Whether `hold` must be called before training."""
        return self.references.needs_recordings or self.wants_prototypes or self._wants_levels

    @property
    def uses_recordings(self) -> bool:
        """Whether a step is cheaper, or tells more, once `hold` was called."""
        return self.needs_recordings or not isinstance(self.references, SegmentSource)

    def hold(self, speech: ReferenceEmbeddings) -> None:
        """Take the embedded data set: references, prototypes, and the levels that are not known yet.

        Raises:
            PreflightError: the loss is to be calibrated, and the data is too small for it or the encoder unfit.
        """
        self.references.speech = speech
        for alias in self.encoders.keys() - self.levels.keys():
            self._measure(alias, speech)
        self._calibrate()
        alone = speech.with_one_recording()
        if alone and isinstance(self.references, CrossUtteranceSource):
            logger.warning(
                "reference.source = cross_utterance: %d of %d speakers have one recording to train on, with which they "
                "are compared (%s).", len(alone), len(speech.speakers), ", ".join(alone[:5]),
            )  # fmt: skip

    def _measure(self, alias: str, speech: ReferenceEmbeddings) -> None:
        measured, required = speech.levels(alias), self._calibrates and alias not in self.holdout
        if measured is not None and measured.ceiling > measured.floor:
            self.levels[alias] = measured
        elif required and measured is None:
            msg = (
                "calibrate measures where the cosines of real speech lie, for which it needs two speakers to train on, "
                f"and one of them with two recordings; the data has {speech.summary()}. Add recordings, set floor and "
                "ceiling of each encoder in the config, or set scl.loss.params.calibrate to false."
            )
            raise PreflightError(msg)
        elif required and measured is not None:
            msg = (
                f"The speaker encoder {alias!r} finds recordings of one speaker no more alike (mean cosine "
                f"{measured.ceiling:.4f}) than those of different speakers ({measured.floor:.4f}): it cannot tell "
                "these speakers apart. Take another encoder, or look at the speaker names of the data."
            )
            raise PreflightError(msg)

    def _calibrate(self) -> None:
        if isinstance(self.loss, EnsembleLoss) and self._calibrates and not self._wants_levels:
            self.loss.set_levels(self.levels)

    # --- the term -------------------------------------------------------------------------------------------------

    def set_step(self, step: int) -> None:
        """Tell the references, and a loss that asks for it, the training step."""
        self.references.step = step
        if (set_step := getattr(self.loss, "set_step", None)) is not None:
            set_step(step)

    def can_teach(self, real: ReferenceBatch) -> bool:
        """Whether the batch has the speakers that the loss needs."""
        return self.wants_prototypes or len(set(real.speakers)) >= getattr(self.loss, "min_speakers", 1)

    def member_loss(self, alias: str, generated: Tensor, reference: Tensor, real: ReferenceBatch) -> Tensor:
        """The unweighted loss as it compares `[B, D]` embeddings of this encoder alone."""
        loss = self.loss.members[alias] if isinstance(self.loss, EnsembleLoss) else self.loss
        prototypes = self.references.speech.centroids(alias) if self.wants_prototypes else None
        value: Tensor = loss(generated, reference, self._speaker_ids(real), prototypes)
        return value

    def _speaker_ids(self, real: ReferenceBatch) -> Tensor:
        return self.references.speech.speaker_ids(real.speakers) if self.wants_prototypes else real.speaker_ids

    def embed_pair(self, alias: str, generated: ResampledAudio, real: ReferenceBatch) -> tuple[Tensor, Tensor]:
        """Embeddings of generated speech, with its gradient, and of the references, without: each `[B, D]`."""
        encoder = self.segment_encoders[alias]
        return encoder(generated.at(encoder.sample_rate)), self.references.embed(alias, encoder, real)

    def forward(self, generated: ResampledAudio, real: ReferenceBatch) -> ConsistencyTerm:
        """Compare generated speech with real speech of the same B items, in float32."""
        active = self.loss.active() if isinstance(self.loss, EnsembleLoss) else self.training_aliases
        pairs = {alias: self.embed_pair(alias, generated, real) for alias in active}
        members: dict[str, Tensor] = {}
        if isinstance(self.loss, EnsembleLoss):
            members = self.loss.member_losses(
                {alias: pairs[alias][0] for alias in active},
                {alias: pairs[alias][1] for alias in active},
                self._speaker_ids(real),
                {alias: self.references.speech.centroids(alias) for alias in active} if self.wants_prototypes else None,
            )
            loss = self.loss.join(members)
        else:
            (alias,) = active
            loss = self.member_loss(alias, *pairs[alias], real)
        similarities = {alias: cosine_similarity(*pair).mean().detach() for alias, pair in pairs.items()}
        return ConsistencyTerm(
            loss=loss,
            similarities=similarities,
            calibrated={a: self.levels[a].rescale(value) for a, value in similarities.items() if a in self.levels},
            members={alias: member.detach() for alias, member in members.items()},
        )
