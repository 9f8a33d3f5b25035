"""Questions of a listening test, drawn by a seed: the sentences, the sides, the order, and the catch trials."""

import functools
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.audio_checks import median_pitch, problem_of
from coqui_scl_plugin.evaluation.audio_file import read_audio
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SyntheticRecording
from coqui_scl_plugin.references.recordings import Recording

Part = Literal["similarity", "naturalness"]
"""`similarity`: an ABX trial, which of two samples is the person in the reference. `naturalness`: a preference."""
Kind = Literal["A", "B", "right", "wrong"]
"""A sample of the first run, or of the second; in catch trials, the one to choose and the other."""
_PLEASANT_SECONDS = 10.0
"""Longer recordings are taken only where a speaker has no shorter one."""
_PITCH_RECORDINGS = 3


@dataclass(frozen=True)
class Clip:
    """A recording as listeners hear it."""

    path: Path
    degraded: bool = False
    """Whether it is made to sound bad, for a catch trial."""


@dataclass(frozen=True)
class Question:
    """Two samples, of which a listener chooses one."""

    part: Part
    speaker: str
    reference: Clip | None
    """Real speech of the speaker; None in the part `naturalness`."""
    samples: tuple[Clip, Clip]
    """In the order of the page."""
    kinds: tuple[Kind, Kind]


# --- sentences --------------------------------------------------------------------------------------------------------


def draw_sentences(
    first: Sequence[Recording], second: Sequence[Recording], count: int, seed: int, labels: tuple[str, str]
) -> list[Recording]:
    """Draw recordings that both runs held out, as many of each speaker as possible, sorted by name.

    Args:
        first: The recordings that the first run held out.
        second: Those of the second run.
        count: Number of sentences, at most.
        seed: Seed of the draw.
        labels: Names of the runs, for the message.

    Raises:
        ConfigError: the runs held out no recording in common.
    """
    known = {(recording.name, recording.speaker) for recording in second}
    common = [recording for recording in first if (recording.name, recording.speaker) in known]
    if not common:
        raise ConfigError(
            f"{labels[0]} and {labels[1]} held out no recording in common ({len(first)} and {len(second)} of their "
            "own): a listening test compares runs on the same sentences and speakers. Train both with the same "
            "datasets and the same split."
        )
    drawn = random.Random(seed)
    by_speaker = [_short_first(_shuffled(own, drawn)) for own in _by_speaker(common).values()]
    drawn.shuffle(by_speaker)
    return sorted(itertools.islice(_in_turns(by_speaker), count), key=lambda recording: recording.name)


def _by_speaker(recordings: Iterable[Recording]) -> dict[str, list[Recording]]:
    found: dict[str, list[Recording]] = {}
    for recording in sorted(recordings, key=lambda one: (one.speaker, one.name)):
        found.setdefault(recording.speaker, []).append(recording)
    return found


def _shuffled(recordings: Sequence[Recording], drawn: random.Random) -> list[Recording]:
    return drawn.sample(recordings, len(recordings))


def _short_first(recordings: Sequence[Recording]) -> Iterator[Recording]:
    """Yield recordings of a pleasant length, then the others, each in their order; reads headers as it goes."""
    others = []
    for recording in recordings:
        if _is_short(recording):
            yield recording
        else:
            others.append(recording)
    yield from others


@functools.cache  # soundfile's failure is not kept, and the reader after it is slow
def _is_short(recording: Recording) -> bool:
    try:
        return recording.seconds <= _PLEASANT_SECONDS
    except ConfigError:  # not readable; where it is listened to, that is found out
        return False


def _in_turns(iterators: Iterable[Iterator[Recording]]) -> Iterator[Recording]:
    """Yield one of each iterator, then the next one of each, until all are at their ends."""
    for turn in itertools.zip_longest(*iterators):
        yield from (one for one in turn if one is not None)


# --- questions --------------------------------------------------------------------------------------------------------


def draw_questions(first: EvaluationSet, second: EvaluationSet, catch: int, seed: int) -> list[Question]:
    """Draw both parts of the test, each with the same pairs of samples and with its own order, sides and catch trials.

    In each part, the samples of each run come first in half of the questions.

    Args:
        first: Speech of the first run.
        second: Speech of the second run; samples with the same reference are a pair.
        catch: Number of catch trials in both parts together. One on similarity needs two speakers.
        seed: Seed of all draws.

    Raises:
        ConfigError: a speaker has no real speech that can be listened to.
    """
    drawn = random.Random(seed)
    other = {recording.reference: recording for recording in second.synthetic}
    pairs = [(one, other[one.reference]) for one in first.synthetic if one.reference in other]
    speakers = {made.speaker for made, _ in pairs}
    real = _RealSpeech([recording for recording in first.real if recording.speaker in speakers], drawn)
    similarity = _similarity_catch(real, catch // 2, drawn)
    naturalness = _naturalness_catch(real, catch - len(similarity), drawn)
    similarity += _sided([_similarity(*pair, real) for pair in pairs], drawn)
    naturalness += _sided([_naturalness(*pair) for pair in pairs], drawn)
    for part in (similarity, naturalness):
        drawn.shuffle(part)
    return similarity + naturalness


def _sided(questions: Sequence[Question], drawn: random.Random) -> list[Question]:
    """Exchange the samples of half of the questions; an odd one falls to either half."""
    start = drawn.randrange(2)
    sides = drawn.sample([(start + index) % 2 for index in range(len(questions))], len(questions))
    return [_exchanged(one) if side else one for one, side in zip(questions, sides, strict=True)]


def _exchanged(question: Question) -> Question:
    (one, other), (kind, other_kind) = question.samples, question.kinds
    return Question(question.part, question.speaker, question.reference, (other, one), (other_kind, kind))


def _similarity(one: SyntheticRecording, other: SyntheticRecording, real: "_RealSpeech") -> Question:
    reference = real.of(one.speaker, other_than=one.reference)
    samples = (Clip(one.path), Clip(other.path))
    return Question("similarity", one.speaker, Clip(reference.path), samples, ("A", "B"))


def _naturalness(one: SyntheticRecording, other: SyntheticRecording) -> Question:
    return Question("naturalness", one.speaker, None, (Clip(one.path), Clip(other.path)), ("A", "B"))


# --- catch trials -----------------------------------------------------------------------------------------------------


class _RealSpeech:
    """Recordings of real speech that can be listened to, drawn by speaker; damaged ones are passed over."""

    def __init__(self, recordings: Sequence[Recording], drawn: random.Random) -> None:
        self._drawn = drawn
        self._usable: dict[Path, bool] = {}
        self._recordings = {speaker: [*_short_first(own)] for speaker, own in _by_speaker(recordings).items()}

    @property
    def speakers(self) -> list[str]:
        return [*self._recordings]

    def _is_usable(self, recording: Recording) -> bool:
        if recording.path not in self._usable:
            heard = read_audio(recording)
            sound = heard.problem is None and problem_of(heard.waveform, heard.rate) is None
            self._usable[recording.path] = sound
        return self._usable[recording.path]

    def _drawn_order(self, speaker: str) -> list[Recording]:
        """Return the speaker's recordings in random order, those of a pleasant length first."""
        return [*_short_first(_shuffled(self._recordings[speaker], self._drawn))]

    def several(self, speaker: str, count: int) -> list[Recording]:
        """Draw `count` recordings, or fewer if the speaker has no more."""
        return list(itertools.islice(filter(self._is_usable, self._drawn_order(speaker)), count))

    def of(self, speaker: str, other_than: str | None = None) -> Recording:
        """Draw a recording, another one than that with a name if there is one. Raises ConfigError if there is none."""
        found = self.several(speaker, 2)
        if not found:
            raise ConfigError(
                f"The speaker {speaker!r} has no real recording that can be listened to: each is damaged, silent or "
                "missing. `coqui-scl evaluate` says what is wrong with each."
            )
        return next((one for one in found if one.name != other_than), found[0])

    def pitch(self, speaker: str) -> float | None:
        """Return the median pitch of the speaker in semitones above 1 Hz; None if it is not known."""
        found = [read_audio(recording) for recording in self.several(speaker, _PITCH_RECORDINGS)]
        pitches = [pitch for heard in found if (pitch := median_pitch(heard.waveform, heard.rate))]
        return 12 * math.log2(sorted(pitches)[len(pitches) // 2]) if pitches else None


def _similarity_catch(real: _RealSpeech, count: int, drawn: random.Random) -> list[Question]:
    """Ask which of two real recordings is the person in a third one; the other voice is the least alike in pitch."""
    pitches = {speaker: pitch for speaker in real.speakers if (pitch := real.pitch(speaker)) is not None}
    asked = [speaker for speaker in pitches if len(real.several(speaker, 2)) == 2]
    if len(pitches) < 2 or not asked:
        return []
    questions = []
    for speaker in itertools.islice(itertools.cycle(drawn.sample(asked, len(asked))), count):
        reference, right = real.several(speaker, 2)
        wrong = real.of(_farthest(speaker, pitches))
        samples = (Clip(right.path), Clip(wrong.path))
        questions.append(Question("similarity", speaker, Clip(reference.path), samples, ("right", "wrong")))
    return _sided(questions, drawn)


def _farthest(speaker: str, pitches: Mapping[str, float]) -> str:
    others = (other for other in pitches if other != speaker)
    return max(others, key=lambda other: abs(pitches[other] - pitches[speaker]))


def _naturalness_catch(real: _RealSpeech, count: int, drawn: random.Random) -> list[Question]:
    """Ask which of two copies of a real recording sounds more natural, one of them degraded."""
    questions = []
    for speaker in itertools.islice(itertools.cycle(drawn.sample(real.speakers, len(real.speakers))), count):
        path = real.of(speaker).path
        samples = (Clip(path), Clip(path, degraded=True))
        questions.append(Question("naturalness", speaker, None, samples, ("right", "wrong")))
    return _sided(questions, drawn)
