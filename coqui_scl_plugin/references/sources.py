"""The real speech that the items of a batch are compared with. References never carry a gradient."""

import logging
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferenceBatch:
    """The real half of a batch, with which the generated half is compared."""

    segments: ResampledAudio
    """`[B, T]`: the real slices at the places that were generated."""
    utterances: list[Tensor]
    """B whole recordings, each `[T_i]`, at the rate of the segments."""
    names: list[str]
    """B names, unique to each recording."""
    speakers: list[str]
    """B names of speakers."""

    @property
    def speaker_ids(self) -> Tensor:
        """`[B]`, whole numbers that tell the speakers of this batch apart."""
        order = sorted(set(self.speakers))
        return torch.tensor([order.index(speaker) for speaker in self.speakers], device=self.segments.device)


class ReferenceSource:
    """One reference for each item of a batch; a class for each `reference.source` of the config."""

    uses_recordings = True
    """Whether a step is cheaper once the data set was embedded."""
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
        """Return `[B, D]` on the device of the segments; `alias` tells encoders apart, `step` is that of training."""
        raise NotImplementedError


class SegmentSource(ReferenceSource):
    """The real slice at the same place, embedded at every step."""

    uses_recordings = False

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch, step: int = 0) -> Tensor:
        """Embed the slices: `[B, D]`."""
        with torch.no_grad():
            return encoder(real.segments.at(encoder.sample_rate))


class UtteranceSource(ReferenceSource):
    """The whole recording. One that is not in `embeddings` is embedded when it first comes up, and kept."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        super().__init__()
        self._late: dict[tuple[str, str], Tensor] = {}

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch, step: int = 0) -> Tensor:
        """Look the recordings up: `[B, D]`."""
        rows = [self._row(alias, encoder, real, item) for item in range(len(real.names))]
        return torch.stack(rows).to(real.segments.device)

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
    """Another recording of the same speaker, drawn by step and name; the same one where there is no other."""

    needs_recordings = True

    def hold(self, embeddings: ReferenceEmbeddings) -> None:
        """Take the embedded data set, and warn of speakers with a single recording."""
        super().hold(embeddings)
        if alone := embeddings.with_one_recording():
            logger.warning(
                "reference.source = cross_utterance: %d of %d speakers have one recording to train on, so they are "
                "compared with that one (%s).", len(alone), len(embeddings.speakers), ", ".join(alone[:5]),
            )  # fmt: skip

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch, step: int = 0) -> Tensor:
        """Look the drawn recordings up: `[B, D]`; each encoder gets the same ones."""
        rows = [self._draw(name, speaker, step) for name, speaker in zip(real.names, real.speakers, strict=True)]
        return self.embeddings.by_encoder[alias][rows].to(real.segments.device)

    def _draw(self, name: str, speaker: str, step: int) -> int:
        return random.Random(f"{step} {name}").choice(self.embeddings.other_rows(name, speaker))


class CentroidSource(ReferenceSource):
    """The mean direction of the speaker's recordings."""

    needs_recordings = True

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch, step: int = 0) -> Tensor:
        """Look the speakers' centroids up: `[B, D]`."""
        rows = self.embeddings.speaker_ids(real.speakers)
        return self.embeddings.centroids(alias)[rows].to(real.segments.device)


_SOURCES: dict[str, type[ReferenceSource]] = {
    "segment": SegmentSource,
    "utterance": UtteranceSource,
    "cross_utterance": CrossUtteranceSource,
    "centroid": CentroidSource,
}


def build_reference_source(source: str) -> ReferenceSource:
    """Build the reference source of a `reference.source` of the config."""
    return _SOURCES[source]()
