"""Judges other than speaker encoders: what each finds in a recording, and means of it over speakers."""

import functools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from tqdm import tqdm

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.audio_checks import normalise_loudness
from coqui_scl_plugin.evaluation.audio_file import read_audio
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SpokenRecording
from coqui_scl_plugin.evaluation.metrics import Interval, mean_over_speakers
from coqui_scl_plugin.evaluation.verification import Verification
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.shown import shorten

NAMES = {
    "dnsmos": "DNSMOS",
    "dnsmos_signal": "DNSMOS of the speech",
    "dnsmos_background": "DNSMOS of the background",
    "cer": "Character error rate",
}
"""Display names of the judges' measures, by their keys in `results.json`."""
COMPARED = {"dnsmos": 1, "cer": -1}
"""Measures in which evaluations are compared: 1 where a higher value is better, -1 where a lower one is."""

Opinion = dict[str, Any]
"""What judges find in one recording, as its entry in `results.json`; a measure is None if it cannot be judged."""


class Judge(Protocol):
    """Scores single recordings. An error for one of them, as a RuntimeError or a ValueError, is no opinion on it."""

    title: str
    """For the progress bar."""
    measures: tuple[str, ...]
    by_language: bool
    """Whether its measures are reported for each language as well."""
    identity: dict[str, Any]
    """Which model it is, as `results.json` records it."""
    packages: tuple[str, ...]
    """Installed packages on whose version its measures depend."""

    def opinion(self, recording: Recording, waveform: Tensor, rate: int) -> Opinion:
        """Judge a recording, whose waveform `[T]` at `rate` Hz may be empty or not finite."""


@dataclass(frozen=True)
class SpeakerJudgement:
    """Means over the recordings of one speaker; None if there is none with a value."""

    recordings: int
    """Synthetic recordings with a value."""
    synthetic: float | None
    real: float | None


@dataclass(frozen=True)
class Judgement:
    """One measure of an evaluation set. Means are over speakers, of each speaker's mean; intervals are of 95 %."""

    synthetic: Interval | None
    real: Interval | None
    """Of the speakers' real recordings."""
    speakers: dict[str, SpeakerJudgement]


@dataclass(frozen=True)
class Judged:
    """What the judges find in one evaluation set."""

    real: list[Opinion]
    synthetic: list[Opinion]
    measures: dict[str, Judgement]
    languages: dict[str, dict[str, Judgement]]
    """The same of the recordings in each language, by measure and language, for measures that differ by language."""
    identities: dict[str, dict[str, Any]]
    """The judge of each measure."""
    packages: tuple[str, ...]
    unread: frozenset[int] = frozenset()
    """Indices of the synthetic recordings whose files cannot be read, on which there is no opinion."""

    def warnings(self) -> list[str]:
        """Tell of how many synthetic recordings a measure is unknown, such as the error rate of those without text."""
        found = []
        for measure in COMPARED.keys() & self.measures.keys():
            unknown = {index for index, opinion in enumerate(self.synthetic) if opinion[measure] is None}
            if missing := len(unknown - self.unread):
                why = "their text is not known" if measure == "cer" else "they hold no signal"
                found.append(f"{NAMES[measure]}: {missing} of {len(self.synthetic)} recordings are left out: {why}.")
        return sorted(found)

    def all_of(self, measures: Collection[str]) -> Iterator[tuple[str, str | None, Judgement]]:
        """List measures: each of all languages (None), then, if there are several, of each language."""
        for measure in self.measures:
            if measure in measures:
                yield measure, None, self.measures[measure]
                if len(languages := self.languages.get(measure, {})) > 1:
                    yield from ((measure, language, own) for language, own in languages.items())


Memory = dict[tuple[str, Recording], Opinion]
"""Opinions by the judge's title and the recording."""


# --- recordings -------------------------------------------------------------------------------------------------------


def _heard(judge: Judge, recording: Recording, dbfs: float | None) -> Opinion:
    waveform, rate, _, is_read = read_audio(recording)
    if not is_read:
        return dict.fromkeys(judge.measures)
    if dbfs is not None and len(waveform):
        waveform = normalise_loudness(waveform, dbfs)
    try:
        return judge.opinion(recording, waveform, rate)
    except (ConfigError, RuntimeError, ValueError, MemoryError) as error:
        sys.stderr.write(f"{judge.title} has no opinion on {shorten(recording.path)}: {shorten(error)}\n")
        return dict.fromkeys(judge.measures)


def _opinions(
    judge: Judge, recordings: Sequence[Recording], dbfs: float | None, title: str, memory: Memory
) -> list[Opinion]:
    """Let a judge hear the recordings that it has not heard before, and return all opinions; shows a progress bar."""
    if new := [one for one in recordings if (judge.title, one) not in memory]:
        for recording in tqdm(new, desc=f"{title}, {judge.title}", unit="file", mininterval=1.0):
            memory[judge.title, recording] = _heard(judge, recording, dbfs)
    return [memory[judge.title, one] for one in recordings]


# --- means ------------------------------------------------------------------------------------------------------------


def _by_speaker(
    recordings: Sequence[Recording], opinions: Sequence[Opinion], measure: str, language: str | None
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for recording, opinion in zip(recordings, opinions, strict=True):
        matches = language is None or (isinstance(recording, SpokenRecording) and recording.language == language)
        if matches and opinion[measure] is not None:
            found.setdefault(recording.speaker, []).append(opinion[measure])
    return found


def _judgement(
    evaluation_set: EvaluationSet,
    opinions: tuple[Sequence[Opinion], Sequence[Opinion]],
    measure: str,
    language: str | None,
    interval: Callable[[Sequence[float | None]], Interval | None],
) -> Judgement:
    """Average a measure over the recordings of one language, or of all.

    Args:
        evaluation_set: The recordings.
        opinions: What was found in the real and in the synthetic ones.
        measure: Key of the opinions.
        language: Language of the recordings; None takes all.
        interval: Mean over speakers and its interval.
    """
    real = _by_speaker(evaluation_set.real, opinions[0], measure, language)
    synthetic = _by_speaker(evaluation_set.synthetic, opinions[1], measure, language)
    speakers = {}
    for speaker in evaluation_set.speakers:
        if language is None or speaker in synthetic:
            made, own = synthetic.get(speaker, []), real.get(speaker, [])
            means = (sum(values) / len(values) if values else None for values in (made, own))
            speakers[speaker] = SpeakerJudgement(len(made), *means)
    return Judgement(
        interval([one.synthetic for one in speakers.values()]), interval([one.real for one in speakers.values()]),
        speakers,
    )  # fmt: skip


def judge(
    evaluation_set: EvaluationSet,
    verification: Verification,
    judges: Sequence[Judge],
    *,
    dbfs: float | None,
    seed: int,
    resamples: int,
    memory: Memory,
) -> Judged:
    """Let judges hear the recordings of an evaluation set.

    A real recording without speech is left out, as verification leaves it out; synthetic ones are all judged.

    Args:
        evaluation_set: The recordings.
        verification: What speaker verification found in the same recordings.
        judges: The judges, each with measures of its own.
        dbfs: Loudness to which each recording is brought first; None leaves it.
        seed: Seed of the bootstrap.
        resamples: Draws of the bootstrap.
        memory: What these judges found before at this loudness; new recordings are added.
    """
    real: list[Opinion] = [{} for _ in evaluation_set.real]
    synthetic: list[Opinion] = [{} for _ in evaluation_set.synthetic]
    speech = [index for index, one in enumerate(verification.real) if one.problem is None]
    label = evaluation_set.label
    for one in judges:
        heard = _opinions(one, [evaluation_set.real[index] for index in speech], dbfs, f"{label}, real", memory)
        by_index = dict(zip(speech, heard, strict=True))
        for index, opinion in enumerate(real):
            opinion |= by_index.get(index, dict.fromkeys(one.measures))
        made = _opinions(one, evaluation_set.synthetic, dbfs, f"{label}, synthetic", memory)
        for opinion, found in zip(synthetic, made, strict=True):
            opinion |= found
    interval = functools.partial(mean_over_speakers, seed=seed, resamples=resamples)
    judgement = functools.partial(_judgement, evaluation_set, (real, synthetic), interval=interval)
    spoken = sorted({recording.language for recording in evaluation_set.synthetic if recording.language})
    return Judged(
        real,
        synthetic,
        measures={measure: judgement(measure, None) for one in judges for measure in one.measures},
        languages={
            measure: {language: judgement(measure, language) for language in spoken}
            for one in judges if one.by_language
            for measure in one.measures
        },
        identities={measure: one.identity for one in judges for measure in one.measures},
        packages=tuple(package for one in judges for package in one.packages),
        unread=frozenset(index for index, one in enumerate(verification.synthetic) if not one.is_read),
    )  # fmt: skip


# --- words ------------------------------------------------------------------------------------------------------------


def name_of(measure: str, language: str | None) -> str:
    """Return the display name of a measure, of one language or of all.

    >>> name_of("cer", "fr"), name_of("dnsmos", None)
    ('Character error rate, fr', 'DNSMOS')
    """
    return f"{NAMES[measure]}, {language}" if language else NAMES[measure]


def rows_of(evaluation: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return names and values of the measures in an evaluation of `results.json`, by language if there are several."""
    rows = []
    for measure, found in evaluation.get("judges", {}).items():
        rows.append((name_of(measure, None), found))
        if len(languages := found.get("languages", {})) > 1:
            rows += [(name_of(measure, language), {**found, **own}) for language, own in languages.items()]
    return rows
