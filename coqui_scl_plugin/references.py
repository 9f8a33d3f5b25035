"""What generated speech is compared with: embeddings of real speech, which never carry a gradient."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Embed = Callable[[Tensor], Tensor]
"""`[B, T]` waveforms to `[B, D]` embeddings."""


@dataclass(frozen=True)
class RealSpeech:
    """The real half of a batch."""

    segments: Tensor
    """`[B, T]`: the slices at the places that were generated."""
    utterances: list[Tensor]
    """B whole recordings, each `[T_i]`."""
    names: list[str]
    """B names, unique to each recording."""
    speakers: list[str]
    """B names of speakers."""

    @property
    def speaker_ids(self) -> Tensor:
        """`[B]`, whole numbers that tell the speakers of this batch apart."""
        order = sorted(set(self.speakers))
        return torch.tensor([order.index(speaker) for speaker in self.speakers], device=self.segments.device)


class SegmentReferences:
    """The real slice at the same place, embedded at every step."""

    def embed(self, alias: str, encoder: Embed, real: RealSpeech) -> Tensor:
        """`[B, D]`, one reference an item; `alias` tells encoders apart."""
        with torch.no_grad():
            return encoder(real.segments)


class UtteranceReferences:
    """The whole recording, embedded when it first comes up and kept in memory."""

    def __init__(self) -> None:
        """Start with nothing embedded."""
        self._kept: dict[tuple[str, str], Tensor] = {}

    def embed(self, alias: str, encoder: Embed, real: RealSpeech) -> Tensor:
        """`[B, D]`, one reference an item; `alias` tells encoders apart."""
        for name, utterance in zip(real.names, real.utterances, strict=True):
            if (alias, name) not in self._kept:
                self._kept[alias, name] = self._embed_one(encoder, utterance)
        return torch.stack([self._kept[alias, name] for name in real.names]).to(real.segments.device)

    @staticmethod
    def _embed_one(encoder: Embed, utterance: Tensor) -> Tensor:
        with torch.no_grad():
            return encoder(utterance.unsqueeze(0))[0].cpu()


References = SegmentReferences | UtteranceReferences

_SOURCES: dict[str, type[References]] = {"segment": SegmentReferences, "utterance": UtteranceReferences}


def build_references(source: str) -> References:
    """The references for a `reference.source` of the config."""
    return _SOURCES[source]()
