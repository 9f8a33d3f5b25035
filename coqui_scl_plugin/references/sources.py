"""Which real speech the items of a batch are compared with. References never carry a gradient."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings


@dataclass(frozen=True)
class ReferenceBatch:
    """The real half of a batch."""

    segments: ResampledAudio
    """`[B, T]`: the slices at the places that were generated."""
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
    """One reference for each item of a batch; one class for each `reference.source` of the config."""

    needs_recordings = False
    """Whether `speech` must be set before `embed`."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.speech = ReferenceEmbeddings()
        """The data set, embedded."""
        self.step = 0
        """The training step."""

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch) -> Tensor:
        """`[B, D]`, on the device of the segments; `alias` tells encoders apart."""
        raise NotImplementedError


class SegmentSource(ReferenceSource):
    """The real slice at the same place, embedded at every step."""

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch) -> Tensor:
        """`[B, D]`, on the device of the segments; `alias` tells encoders apart."""
        with torch.no_grad():
            return encoder(real.segments.at(encoder.sample_rate))


class UtteranceSource(ReferenceSource):
    """The whole recording. One that is not in `speech` is embedded when it first comes up, and kept."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        super().__init__()
        self._late: dict[tuple[str, str], Tensor] = {}

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch) -> Tensor:
        """`[B, D]`, on the device of the segments; `alias` tells encoders apart."""
        rows = [self._row(alias, encoder, real, item) for item in range(len(real.names))]
        return torch.stack(rows).to(real.segments.device)

    def _row(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch, item: int) -> Tensor:
        name = real.names[item]
        if name in self.speech.row:
            return self.speech.embeddings[alias][self.speech.row[name]]
        if (alias, name) not in self._late:
            utterance = ResampledAudio(real.utterances[item].unsqueeze(0), real.segments.sample_rate)
            with torch.no_grad():
                self._late[alias, name] = encoder(utterance.at(encoder.sample_rate))[0].cpu()
        return self._late[alias, name]


class CrossUtteranceSource(ReferenceSource):
    """Another recording of the same speaker, drawn by step and name; the same one where there is no other."""

    needs_recordings = True

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch) -> Tensor:
        """`[B, D]`, on the device of the segments; each encoder is given the same recordings."""
        rows = [self._draw(name, speaker) for name, speaker in zip(real.names, real.speakers, strict=True)]
        return self.speech.embeddings[alias][rows].to(real.segments.device)

    def _draw(self, name: str, speaker: str) -> int:
        return random.Random(f"{self.step} {name}").choice(self.speech.other_rows(name, speaker))


class CentroidSource(ReferenceSource):
    """The mean direction of the speaker's recordings."""

    needs_recordings = True

    def embed(self, alias: str, encoder: SegmentEncoder, real: ReferenceBatch) -> Tensor:
        """`[B, D]`, on the device of the segments; `alias` tells encoders apart."""
        return self.speech.centroids(alias)[self.speech.speaker_ids(real.speakers)].to(real.segments.device)


_SOURCES: dict[str, type[ReferenceSource]] = {
    "segment": SegmentSource,
    "utterance": UtteranceSource,
    "cross_utterance": CrossUtteranceSource,
    "centroid": CentroidSource,
}


def build_reference_source(source: str) -> ReferenceSource:
    """The references for a `reference.source` of the config."""
    return _SOURCES[source]()
