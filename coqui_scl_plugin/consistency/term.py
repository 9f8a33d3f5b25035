"""The speaker consistency term: waveforms in, loss out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from coqui_scl_plugin.consistency.augment import Augmentation
from coqui_scl_plugin.consistency.encoder_bank import EncoderBank
from coqui_scl_plugin.consistency.gradient_share import GradientShare
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.errors import PreflightError
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.losses.ensemble import EnsembleLoss
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings
from coqui_scl_plugin.references.fill import embed_recordings
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.references.sources import ReferenceBatch, ReferenceSource


@dataclass(frozen=True)
class ConsistencyTerm:
    """The loss of a batch, and the values to log. Mappings by alias hold the active encoders only."""

    loss: Tensor
    """Scalar, unweighted, with a gradient to the generated waveform."""
    reference_cosines: dict[str, Tensor]
    """Mean cosine of generated and reference embeddings, without a gradient."""
    calibrated: dict[str, Tensor]
    """The same, calibrated, for each encoder whose calibration is known."""
    members: dict[str, Tensor]
    """Unweighted loss of each active encoder, without a gradient; empty unless the loss is named `ensemble`."""


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
        self._calibrate()

    # --- real speech ----------------------------------------------------------------------------------------------

    @property
    def _lacks_calibrations(self) -> bool:
        """Whether the loss calibrates but the calibration of a training encoder is not known yet."""
        return self.loss.calibrate and not self.calibrations.keys() >= set(self.encoders.training_aliases)

    @property
    def needs_recordings(self) -> bool:
        """Whether `hold` must be called before training."""
        return self.references.needs_recordings or self.loss.wants_prototypes or self._lacks_calibrations

    @property
    def uses_recordings(self) -> bool:
        """Whether a step is cheaper once `hold` was called, or impossible before."""
        return self.needs_recordings or self.references.uses_recordings

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
        required = self.loss.calibrate and alias not in self.encoders.holdout_aliases
        if measured is not None and measured.ceiling > measured.floor:
            self.calibrations[alias] = measured
        elif required and measured is None:
            msg = (
                "calibrate measures the cosines of real speech, for which it needs two speakers to train on, one of "
                f"them with two recordings; the data has {embeddings.summary()}. Add recordings, set floor and ceiling "
                "of each encoder in the config, or set scl.loss.params.calibrate to false."
            )
            raise PreflightError(msg)
        elif required and measured is not None:
            msg = (
                f"The speaker encoder {alias!r} scores recordings of one speaker no higher (mean cosine "
                f"{measured.ceiling:.4f}) than those of different speakers ({measured.floor:.4f}): it cannot tell "
                "these speakers apart. Use another encoder, or check the speaker names of the data."
            )
            raise PreflightError(msg)

    def _calibrate(self) -> None:
        if self.loss.calibrate and not self._lacks_calibrations:
            self.loss.set_calibrations(self.calibrations)

    # --- the term -------------------------------------------------------------------------------------------------

    def can_teach(self, real: ReferenceBatch) -> bool:
        """Tell whether the batch has enough speakers for the loss."""
        return self.loss.wants_prototypes or len(set(real.speakers)) >= self.loss.min_speakers

    def member_loss(
        self, alias: str, generated: Tensor, reference: Tensor, real: ReferenceBatch, step: int = 0
    ) -> Tensor:
        """Return the unweighted loss of one encoder, from its `[B, D]` embeddings."""
        prototypes = self._prototypes(alias) if self.loss.wants_prototypes else None
        return self.loss.member_loss(alias, generated, reference, self._speaker_ids(real), prototypes, step)

    def _prototypes(self, alias: str) -> Tensor:
        return self.references.embeddings.centroids(alias)

    def _speaker_ids(self, real: ReferenceBatch) -> Tensor:
        if self.loss.wants_prototypes:
            return self.references.embeddings.speaker_ids(real.speakers)
        return real.speaker_ids

    def embed_pair(
        self, alias: str, generated: ResampledAudio, real: ReferenceBatch, step: int
    ) -> tuple[Tensor, Tensor]:
        """Embed generated speech, with a gradient, and its references, without one: each `[B, D]`."""
        encoder = self.encoders[alias]
        return encoder(generated.at(encoder.sample_rate)), self.references.embed(alias, encoder, real, step)

    def forward(self, generated: ResampledAudio, real: ReferenceBatch, step: int = 0) -> ConsistencyTerm:
        """Compare generated speech with its references at a training step, in float32; augmented in training mode."""
        if self.training and self._augmentation is not None:
            generated, real = self._augmentation(generated, real, step)
        pairs = {alias: self.embed_pair(alias, generated, real, step) for alias in self.loss.active(step)}
        members = self.loss.member_losses(
            {alias: embedded for alias, (embedded, _) in pairs.items()},
            {alias: reference for alias, (_, reference) in pairs.items()},
            self._speaker_ids(real),
            {alias: self._prototypes(alias) for alias in pairs} if self.loss.wants_prototypes else None,
            step,
        )
        cosines = {alias: cosine_similarity(*pair).mean().detach() for alias, pair in pairs.items()}
        return ConsistencyTerm(
            loss=self.loss.join(members),
            reference_cosines=cosines,
            calibrated={a: self.calibrations[a].rescale(c) for a, c in cosines.items() if a in self.calibrations},
            members={alias: member.detach() for alias, member in members.items()} if self._logs_members else {},
        )
