"""The speaker consistency term: waveforms in, loss out."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from coqui_scl_plugin.consistency.augment import Augmentation
from coqui_scl_plugin.consistency.encoder_bank import EncoderBank
from coqui_scl_plugin.consistency.gradient_share import GradientShare
from coqui_scl_plugin.consistency.joint_batch import join_batches, joint_value
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.errors import PreflightError
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.losses.ensemble import EnsembleLoss
from coqui_scl_plugin.losses.heard import Heard
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings
from coqui_scl_plugin.references.fill import embed_recordings
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.references.sources import ReferenceBatch, ReferenceSource
from coqui_scl_plugin.utils.on_device import on_device

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConsistencyTerm:
    """The loss of a batch, and the values to log. Mappings by alias hold the active encoders only."""

    loss: Tensor
    """Scalar, unweighted, with a gradient to the generated waveform."""
    reference_cosines: dict[str, Tensor]
    """Mean cosine of generated and reference embeddings, without a gradient, for each encoder that embedded them."""
    calibrated: dict[str, Tensor]
    """The same, calibrated, for each encoder whose calibration is known."""
    members: dict[str, Tensor]
    """Unweighted loss of each active encoder, without a gradient; empty unless the loss is named `ensemble`."""
    idle: Tensor
    """Whether the batch has nothing to teach, since it lacks speakers or all items are at the ceiling: scalar, bool."""
    finite_references: dict[str, Tensor]
    """Whether all that is compared with each generated item is finite, `[K]`, bool, for each active encoder."""
    finite_heard: dict[str, Tensor]
    """Whether all that each active encoder made of each generated item is finite, `[K]`, bool."""
    finite_prototypes: dict[str, Tensor]
    """Whether the centroids of all speakers are finite, scalar, bool, for each active encoder whose loss takes them."""


class SpeakerConsistency(nn.Module):
    """The loss with its encoders and references."""

    def __init__(
        self,
        loss: EnsembleLoss,
        encoders: EncoderBank,
        references: ReferenceSource,
        calibrations: Mapping[str, Calibration] | None = None,
        *,
        gradient_share: GradientShare | None = None,
        logs_members: bool = False,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Combine the parts.

        Args:
            loss: Loss with a member for each training encoder.
            encoders: Training and held-out encoders.
            references: Source of the real embeddings.
            calibrations: Calibrations by alias that the config gives.
            gradient_share: What weights the loss by its gradient. None: the config gives the weight.
            logs_members: Whether terms have the loss of each member, as for a loss that the config calls an ensemble.
            augmentation: What stands between generated speech and the encoders in training mode.
        """
        super().__init__()
        self.loss = loss
        self.encoders = encoders
        self.references = references
        self.calibrations = dict(calibrations or {})
        self.gradient_share = gradient_share
        self._logs_members = logs_members
        self._augmentation = augmentation
        self._warned_of_one_speaker = False
        self._calibrate()

    # --- real speech ----------------------------------------------------------------------------------------------

    @property
    def _lacks_calibrations(self) -> bool:
        """Whether the loss asks for the calibration of a training encoder that is not known yet."""
        aliases = self.encoders.training_aliases
        return any(alias not in self.calibrations and self.loss.wants_calibration(alias) for alias in aliases)

    @property
    def _embeds(self) -> bool:
        """Whether the loss compares embeddings with references, and not only feature maps of slices."""
        return any(map(self.loss.compares_embeddings, self.encoders.training_aliases))

    @property
    def needs_recordings(self) -> bool:
        """Whether `hold` must be called before training."""
        needed = self.references.needs_recordings and self._embeds
        return needed or self.loss.wants_prototypes or self._lacks_calibrations

    @property
    def uses_recordings(self) -> bool:
        """Whether a step is cheaper once `hold` was called, or impossible before."""
        return self.needs_recordings or (self.references.uses_recordings and self._embeds)

    def embed_references(self, recordings: Sequence[Recording], cache: ReferenceCache) -> None:
        """Embed the recordings of the data set, taking from the cache what it has, and hold the embeddings.

        Raises:
            ConfigError: a recording cannot be read, or the cache cannot be written.
            EncoderError: an embedding is not finite.
            PreflightError: see `hold`.
        """
        embeddings, _ = embed_recordings(self.encoders.segment_encoders, recordings, cache)
        self.hold(embeddings)

    def hold(self, embeddings: ReferenceEmbeddings) -> None:
        """Take the embedded data set, and measure the calibrations that are not known yet.

        Raises:
            PreflightError: the loss needs a calibration, but there is too little data or the encoder is unsuitable.
        """
        self.references.hold(embeddings)
        for alias in self.encoders.keys() - self.calibrations.keys():
            self._measure(alias, embeddings)
        self._calibrate()

    def _measure(self, alias: str, embeddings: ReferenceEmbeddings) -> None:
        measured = embeddings.calibration(alias)
        required = alias not in self.encoders.holdout_aliases and self.loss.wants_calibration(alias)
        if measured is not None and measured.ceiling > measured.floor:
            self.calibrations[alias] = measured
        elif required and measured is None:
            msg = (
                f"{self._calibration_key} measures the cosines of real speech, for which it needs two speakers to "
                f"train on, one of them with two recordings; the data has {embeddings.summary()}. Add recordings, set "
                f"floor and ceiling of each encoder in the config, or set {self._calibration_key} to false."
            )
            raise PreflightError(msg)
        elif required and measured is not None:
            msg = (
                f"The speaker encoder {alias!r} scores recordings of one speaker no higher (mean cosine "
                f"{measured.ceiling:.4f}) than those of different speakers ({measured.floor:.4f}): it cannot tell "
                "these speakers apart. Use another encoder, or check the speaker names of the data."
            )
            raise PreflightError(msg)

    @property
    def _calibration_key(self) -> str:
        return "scl.loss.params.calibrate" if self.loss.calibrate else "stop_at_ceiling"

    def _calibrate(self) -> None:
        if not self._lacks_calibrations:
            self.loss.set_calibrations(self.calibrations)

    # --- the term -------------------------------------------------------------------------------------------------

    def member_loss(
        self,
        alias: str,
        generated: Tensor | Heard,
        reference: Tensor | Heard,
        real: ReferenceBatch,
        step: int = 0,
        term: int | None = None,
    ) -> Tensor:
        """Return the loss of one encoder, from what `hear_generated` and `hear_real` return.

        Args:
            alias: Alias of the encoder.
            generated: What the encoder made of generated speech.
            reference: What it made of real speech.
            real: The real half of the batch.
            step: The training step.
            term: Index of one of several losses of the encoder, whose unweighted value is returned; None: their sum.
        """
        prototypes = self._prototypes([alias], real).get(alias)
        return self.loss.member_loss(alias, generated, reference, self._speaker_ids(real), prototypes, step, term)

    def _prototypes(self, aliases: Iterable[str], real: ReferenceBatch) -> dict[str, Tensor]:
        """Return the centroids of all speakers for each of the encoders whose losses ask for them."""
        embeddings, device = self.references.embeddings, real.segments.device
        return {a: embeddings.centroids(a, device) for a in aliases if self.loss.asks_for_prototypes(a)}

    def _finite_prototypes(self, aliases: Iterable[str], real: ReferenceBatch) -> dict[str, Tensor]:
        return {a: self.references.embeddings.finite_centroids(a, real.segments.device) for a in aliases}

    def _speaker_ids(self, real: ReferenceBatch) -> Tensor:
        known = self._known_ids(real)
        return real.speaker_ids if known is None else on_device(known, real.segments.device)

    def _known_ids(self, real: ReferenceBatch) -> Tensor | None:
        """Return the rows of the speakers in the prototypes, on the CPU; None if the loss takes no prototypes."""
        return self.references.embeddings.speaker_ids(real.speakers) if self.loss.wants_prototypes else None

    def hear_generated(self, alias: str, generated: ResampledAudio) -> Heard:
        """Embed generated speech by one encoder, take its feature maps, or both, as its loss asks; with a gradient."""
        encoder = self.encoders[alias]
        waveform = generated.at(encoder.sample_rate)
        if not self.loss.compares_features(alias):
            return Heard(encoder(waveform))
        if not self.loss.compares_embeddings(alias):
            return Heard(features=encoder.features(waveform))
        return Heard(*encoder.embed_with_features(waveform))

    def hear_real(self, alias: str, real: ReferenceBatch, step: int) -> Heard:
        """Return the references of one encoder, the feature maps of the real slices, or both; without a gradient."""
        encoder = self.encoders[alias]
        embeds, compares_features = self.loss.compares_embeddings(alias), self.loss.compares_features(alias)
        embedding = self.references.embed(alias, encoder, real, step) if embeds else None
        with torch.no_grad():
            features = encoder.features(real.segments.at(encoder.sample_rate)) if compares_features else None
        return Heard(embedding, features)

    def forward(
        self, generated: ResampledAudio, real: ReferenceBatch, step: int = 0, *, joint: bool = False
    ) -> ConsistencyTerm:
        """Compare generated speech with its references at a training step, in float32; augmented in training mode.

        With `joint`, all processes of a run compute the loss of their joint batch; see `join_batches`.
        """
        if self.training and self._augmentation is not None:
            generated, real = self._augmentation(generated, real, step)
        pairs = {
            alias: (self.hear_generated(alias, generated), self.hear_real(alias, real, step))
            for alias in self.loss.active(step)
        }
        heard = {alias: pair[0] for alias, pair in pairs.items()}
        references = {alias: pair[1] for alias, pair in pairs.items()}
        finite_heard, finite_references = _finite_items(heard), _finite_items(references)  # the own ones
        speaker_ids, speakers = self._speaker_ids(real), len(set(real.speakers))
        if joint:
            batch = join_batches(heard, references, real.speakers, self._known_ids(real), real.segments.device)
            heard, references = dict(batch.generated), dict(batch.reference)
            speaker_ids, speakers = batch.speaker_ids, batch.speakers
        self._warn_without_negatives(speakers)
        prototypes = self._prototypes(pairs, real)
        members = self.loss.member_losses(heard, references, speaker_ids, prototypes, step)
        finite_prototypes = self._finite_prototypes(prototypes, real)
        compared = _all_finite(heard, references, finite_prototypes)
        members = {alias: member.masked_fill(~compared[alias], torch.nan) for alias, member in members.items()}
        if joint:  # so that all processes choose the same member where the loss is the worst one
            members = {a: joint_value(m) if self.loss.compares_features(a) else m for a, m in members.items()}
        cosines = {
            alias: cosine_similarity(one.embedding, other.embedding).mean().detach()
            for alias, one, other in ((alias, heard[alias], references[alias]) for alias in pairs)
            if one.embedding is not None and other.embedding is not None
        }
        return ConsistencyTerm(
            loss=self.loss.join(members),
            reference_cosines=cosines,
            calibrated={a: self.calibrations[a].rescale(c) for a, c in cosines.items() if a in self.calibrations},
            members={alias: member.detach() for alias, member in members.items()} if self._logs_members else {},
            idle=self.loss.is_idle(members, heard, references, speakers),
            finite_references=finite_references,
            finite_heard=finite_heard,
            finite_prototypes=finite_prototypes,
        )

    def _warn_without_negatives(self, speakers: int) -> None:
        """Say once that a batch holds too few speakers, here, where counting them needs no result from a GPU."""
        if speakers < self.loss.min_batch_speakers and not self._warned_of_one_speaker:
            self._warned_of_one_speaker = True
            logger.warning("%s: a batch holds one speaker, so no negatives; such batches count as 0.", self.loss.name)


def _finite_items(heard: Mapping[str, Heard]) -> dict[str, Tensor]:
    return {alias: one.finite_items() for alias, one in heard.items()}


def _all_finite(
    heard: Mapping[str, Heard], references: Mapping[str, Heard], finite_prototypes: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return whether all that a member compares is finite, since a loss may hide NaN, as maxima and clamps do."""
    finite = {alias: [heard[alias].is_finite(), references[alias].is_finite()] for alias in heard}
    for alias, flag in finite_prototypes.items():
        finite[alias].append(flag)
    return {alias: torch.stack(flags).all() for alias, flags in finite.items()}
