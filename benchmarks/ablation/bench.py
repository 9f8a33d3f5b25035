"""The judges of the ablation that are networks, as they were published: speaker encoders, DNSMOS, and a recogniser."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.evaluation.evaluation_set import first_of_each_speaker
from coqui_scl_plugin.evaluation.quality import QualityJudge
from coqui_scl_plugin.evaluation.recognition import RecognitionJudge
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.references.recordings import Recording

ENCODERS = ("ge2e", "dvector", "campplus")
"""Two LSTMs and a convolutional network."""
QUALITY_SECONDS = 9.01  # the window of DNSMOS

BySpeaker = dict[str, float | None]
"""A measure by speaker; None where it cannot be measured."""


@dataclass(frozen=True)
class Bench:
    """Judges that are loaded once for all models."""

    encoders: Mapping[str, SegmentEncoder]
    quality: QualityJudge
    recogniser: RecognitionJudge | None

    @classmethod
    @functools.cache
    def of_this_process(cls, asr: str | None) -> Self:
        """Return the same bench on every call in a process; its recogniser is `asr`, if there is one.

        Raises:
            ConfigError: speechmos is not installed, or the recogniser cannot be loaded.
        """
        encoders = {name: SegmentEncoder(build_encoder(name)) for name in ENCODERS}
        for encoder in encoders.values():
            FrozenPolicy().apply(encoder)
        return cls(encoders, QualityJudge(), RecognitionJudge(asr) if asr else None)

    def quality_of(self, recordings: Sequence[Recording]) -> BySpeaker:
        """Return the DNSMOS of the first recording of each speaker, 1 to 5: one window, half a CPU second."""
        return mean_by_speaker(
            (one.speaker, self.quality.opinion(one, *_one_window(*one.load()))["dnsmos"])
            for one in first_of_each_speaker(recordings, 1)
        )

    def errors_of(self, recordings: Sequence[Recording]) -> BySpeaker:
        """Return the character error rates in recordings whose text is known; may exceed 1. Needs a recogniser."""
        assert self.recogniser is not None  # noqa: S101  # callers ask
        return mean_by_speaker((one.speaker, self.recogniser.opinion(one, *one.load())["cer"]) for one in recordings)


def _one_window(waveform: Tensor, rate: int) -> tuple[Tensor, int]:
    """Repeat or cut `[T]` to DNSMOS's window, of which speechmos would otherwise score one a second."""
    length = int(QUALITY_SECONDS * rate)
    repeats = math.ceil(length / len(waveform)) if len(waveform) else 1
    return waveform.repeat(repeats)[:length], rate


def mean_by_speaker(values: Iterable[tuple[str, float | None]]) -> BySpeaker:
    """Return the mean of each speaker's known values, None where none is known."""
    found: dict[str, list[float]] = {}
    for speaker, value in values:
        found.setdefault(speaker, []).extend([] if value is None else [value])
    return {speaker: sum(own) / len(own) if own else None for speaker, own in found.items()}
