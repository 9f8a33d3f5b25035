"""The real speech that the items of a batch are compared with. References never carry a gradient."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings
from coqui_scl_plugin.utils.on_device import on_device

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferenceBatch:
    """The real half of a batch, which the generated half is compared with."""

    segments: ResampledAudio
    """The real slices at the places that were generated, `[B, T]`."""
    utterances: list[Tensor]
    """B whole recordings, each `[T_i]`, at the rate of the segments."""
    names: list[str]
    """Names of the B recordings, each unique in the data set."""
    speakers: list[str]
    """Names of the B speakers."""

    @property
    def speaker_ids(self) -> Tensor:
        """Integers that tell the speakers of this batch apart, `[B]`."""
        order = sorted(set(self.speakers))
        return on_device(torch.tensor([order.index(speaker) for speaker in self.speakers]), self.segments.device)

    def select(self, items: Sequence[int], segments: ResampledAudio) -> "ReferenceBatch":
        """Return the real half of some items, with real slices that belong to them."""
        return ReferenceBatch(
            segments=segments,
            utterances=[self.utterances[item] for item in items],
            names=[self.names[item] for item in items],
            speakers=[self.speakers[item] for item in items],
        )


class ReferenceSource:
    """Source of one reference for each item of a batch; each `reference.source` of the config has a subclass."""

    uses_recordings = True
    """Whether a step is cheaper once the data set is embedded."""
    needs_recordings = False
    """Whether `hold` must be called before `embed`."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.embeddings = ReferenceEmbeddings()
        """The embedded data set."""

    def hold(self, embeddings: ReferenceEmbeddings) -> None:
        """Take the embedded data set."""
        self.embeddings = embeddings

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch, step: int = 0) -> Tensor:
        """Return references `[B, D]` on the device of the segments.

        Args:
            alias: Alias of the encoder.
            encoder: Embeds what is not embedded yet.
            real: The real half of the batch.
            step: The training step.
        """
        raise NotImplementedError


class SegmentSource(ReferenceSource):
    """The real slice at the same place, embedded at every step."""

    uses_recordings = False

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch, step: int = 0) -> Tensor:
        """Embed the slices, `[B, D]`."""
        with torch.no_grad():
            return encoder(real.segments.at(encoder.sample_rate))


class UtteranceSource(ReferenceSource):
    """The whole recording. A recording that `embeddings` lacks is embedded on first use and kept."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        super().__init__()
        self._late: dict[tuple[str, str], Tensor] = {}

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch, step: int = 0) -> Tensor:
        """Look up the recordings, `[B, D]`."""
        rows = [self._row(alias, encoder, real, item) for item in range(len(real.names))]
        return on_device(torch.stack(rows), real.segments.device)

    def _row(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch, item: int) -> Tensor:
        name = real.names[item]
        if name in self.embeddings.row:
            return self.embeddings.by_encoder[alias][self.embeddings.row[name]]
        if (alias, name) not in self._late:
            utterance = ResampledAudio(real.utterances[item].unsqueeze(0), real.segments.sample_rate)
            with torch.no_grad():
                self._late[alias, name] = encoder(utterance.at(encoder.sample_rate))[0].cpu()
        return self._late[alias, name]


class CrossUtteranceSource(ReferenceSource):
    """Another recording of the same speaker, drawn by step and name, or the same one if there is no other."""

    needs_recordings = True

    def hold(self, embeddings: ReferenceEmbeddings) -> None:
        """Take the embedded data set, and warn about speakers with a single recording."""
        super().hold(embeddings)
        if alone := embeddings.with_one_recording():
            logger.warning(
                "reference.source = cross_utterance: %d of %d speakers have a single training recording and are "
                "compared with that one (%s).", len(alone), len(embeddings.speakers), ", ".join(alone[:5]),
            )  # fmt: skip

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch, step: int = 0) -> Tensor:
        """Look up the drawn recordings, `[B, D]`; all encoders get the same ones."""
        rows = [self._draw(name, speaker, step) for name, speaker in zip(real.names, real.speakers, strict=True)]
        return on_device(self.embeddings.by_encoder[alias][rows], real.segments.device)

    def _draw(self, name: str, speaker: str, step: int) -> int:
        return random.Random(f"{step} {name}").choice(self.embeddings.other_rows(name, speaker))


class CentroidSource(ReferenceSource):
    """The mean direction of the speaker's recordings."""

    needs_recordings = True

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch, step: int = 0) -> Tensor:
        """Look up the speakers' centroids, `[B, D]`."""
        rows = self.embeddings.speaker_ids(real.speakers)
        return on_device(self.embeddings.centroids(alias)[rows], real.segments.device)


_SOURCES: dict[str, type[ReferenceSource]] = {
    "segment": SegmentSource,
    "utterance": UtteranceSource,
    "cross_utterance": CrossUtteranceSource,
    "centroid": CentroidSource,
}


def build_reference_source(source: str) -> ReferenceSource:
    """Build the source that `reference.source` of a config names."""
    return _SOURCES[source]()
