"""Speaker verification: encoders embed real and synthetic recordings, and score how similar their speakers are."""

import functools
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.audio_checks import excess_of, normalise_loudness, problem_of
from coqui_scl_plugin.evaluation.audio_file import read_audio
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet
from coqui_scl_plugin.evaluation.metrics import Interval, equal_error_rate, mean_over_speakers, min_dcf
from coqui_scl_plugin.losses.calibration import Calibration, measure_calibration
from coqui_scl_plugin.references.fill import device_of, workers
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.shown import shorten

Matrix = NDArray[np.float64]
MEASURES = ("secs", "cross_utterance", "calibrated_cross_utterance")
"""Similarities of `SpeakerScores` and `EncoderScores`."""
_MAX_TRIALS = 200_000


@dataclass(frozen=True)
class EmbeddedRecording:
    """A recording, embedded by each encoder."""

    seconds: float
    problem: str | None
    """Reason why it cannot be speech; None if it can."""
    embeddings: dict[str, Tensor]
    """`[D]` by alias; not finite if the encoder has no embedding for the recording."""
    is_read: bool = True
    """Whether its file could be read."""

    @property
    def is_finite(self) -> bool:
        """Whether every encoder has an embedding for it."""
        return all(bool(embedding.isfinite().all()) for embedding in self.embeddings.values())


@dataclass(frozen=True)
class Trials:
    """Pairs of recordings: does the second belong to the speaker that the first should sound like?"""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    scores: dict[str, Matrix]
    """`[N]` cosines by alias."""


@dataclass(frozen=True)
class SpeakerScores:
    """Scores of one speaker by one encoder; None if there is nothing to compare with."""

    recordings: int
    secs: float | None
    cross_utterance: float | None
    calibrated_cross_utterance: float | None


@dataclass(frozen=True)
class EncoderScores:
    """Scores by one encoder. Means are over speakers, of each speaker's mean; intervals are 95 % intervals."""

    secs: Interval | None
    """Cosine of a synthetic recording and its own reference; `cross_utterance` for recordings without a reference."""
    cross_utterance: Interval | None
    """Mean cosine of a synthetic recording and the speaker's other real recordings."""
    calibrated_cross_utterance: Interval | None
    """`cross_utterance` rescaled to 0 at the floor and 1 at the ceiling, which are of different recordings as well."""
    eer: float | None
    """Equal error rate of the trials of synthetic against real speech, in percent."""
    min_dcf: float | None
    floor: float | None
    """Mean cosine of real recordings of different speakers."""
    ceiling: float | None
    """Mean cosine of different real recordings of one speaker."""
    real_eer: float | None
    """Equal error rate of real speech alone, in percent."""
    real_min_dcf: float | None
    speakers: dict[str, SpeakerScores]
    matrix: list[list[float | None]]
    """Mean cosine of the synthetic speech of each speaker (rows) and the real speech of each (columns)."""


@dataclass(frozen=True)
class Verification:
    """Outcome of verifying one `EvaluationSet`."""

    real: list[EmbeddedRecording]
    synthetic: list[EmbeddedRecording]
    scores: dict[str, EncoderScores]
    """Scores by alias."""
    trials: Trials
    """Synthetic (first) against real (second), except for each recording's own reference."""
    real_trials: Trials
    """Real against real."""


# --- embedding --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def embed_recording(
    recording: Recording, encoders: Mapping[str, SegmentEncoder], dbfs: float | None
) -> EmbeddedRecording:
    """Load and embed one recording, at a loudness of `dbfs` unless None; what cannot be embedded has a problem."""
    heard = read_audio(recording)
    waveform, rate, problem = heard.waveform, heard.rate, heard.problem
    unknown = {alias: torch.full((e.encoder.embedding_dim,), torch.nan) for alias, e in encoders.items()}
    if len(waveform) == 0:
        return EmbeddedRecording(0.0, problem or "empty", unknown, heard.is_read)
    seconds = len(waveform) / rate
    problem = problem_of(waveform, rate) or problem
    if not waveform.isfinite().all():
        return EmbeddedRecording(seconds, problem, unknown)
    if dbfs is None:
        problem = problem or excess_of(waveform)
    else:
        waveform = normalise_loudness(waveform, dbfs)
    embeddings, failures = _embeddings(waveform, rate, encoders)
    problems = [one for one in (problem, *failures) if one]
    return EmbeddedRecording(seconds, ", and ".join(problems) or None, unknown | embeddings)


def _embeddings(
    waveform: Tensor, rate: int, encoders: Mapping[str, SegmentEncoder]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return finite embeddings of `[T]` by alias, and why there is none by other encoders."""
    on_devices: dict[torch.device, ResampledAudio] = {}
    embeddings, failures = dict[str, Tensor](), list[str]()
    for alias, encoder in encoders.items():
        device = device_of(encoder)
        try:
            audio = on_devices.setdefault(device, ResampledAudio(waveform.unsqueeze(0).to(device), rate))
            embedding = encoder(audio.at(encoder.sample_rate))[0].cpu()
        except (ConfigError, RuntimeError, ValueError, IndexError, MemoryError) as error:
            failures.append(f"not embedded by {alias}: {shorten(error).removesuffix('.')}")
            continue
        if embedding.isfinite().all():
            embeddings[alias] = embedding
        else:
            failures.append(f"not embedded by {alias}: its embedding is not finite")
    return embeddings, failures


def embed_recordings(
    recordings: Sequence[Recording],
    encoders: Mapping[str, SegmentEncoder],
    dbfs: float | None,
    title: str,
    memory: dict[Path, EmbeddedRecording],
) -> list[EmbeddedRecording]:
    """Embed the recordings that are not in `memory`, add them to it, and return all; shows a progress bar."""
    if new := [recording for recording in recordings if recording.path not in memory]:
        with workers(device_of(next(iter(encoders.values())))) as pool:
            embedded = pool.map(lambda recording: embed_recording(recording, encoders, dbfs), new)
            bar = tqdm(embedded, total=len(new), desc=title, unit="file", mininterval=1.0)
            memory.update(zip((recording.path for recording in new), bar, strict=True))
    return [memory[recording.path] for recording in recordings]


# --- trials -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Compared:
    """An evaluation set, and the indices of the recordings that take part in its comparisons."""

    recordings: EvaluationSet
    synthetic: list[int]
    real: list[int]

    def pairs(self) -> list[tuple[int, int, bool]]:
        """Pair each synthetic with each real recording but its reference; true for those of one speaker."""
        made, real = self.recordings.synthetic, self.recordings.real
        return [
            (i, j, made[i].speaker == real[j].speaker)
            for i in self.synthetic
            for j in self.real
            if made[i].reference != real[j].name
        ]

    def real_pairs(self) -> list[tuple[int, int, bool]]:
        """Pair each real recording with each other one; true for those of one speaker."""
        real = self.recordings.real
        return [(i, j, real[i].speaker == real[j].speaker) for i, j in itertools.combinations(self.real, 2)]


def _sampled(pairs: list[tuple[int, int, bool]], seed: int) -> list[tuple[int, int, bool]]:
    """Keep all same-speaker trials, and draw as many others as keep the list at a readable length."""
    same = [pair for pair in pairs if pair[2]]
    others = [pair for pair in pairs if not pair[2]]
    room = max(_MAX_TRIALS - len(same), len(same))
    if len(others) > room:
        others = random.Random(seed).sample(others, room)
    return sorted(same + others)


def _trials(
    pairs: list[tuple[int, int, bool]], first: Mapping[str, Tensor], second: Mapping[str, Tensor], seed: int
) -> Trials:
    chosen = _sampled(pairs, seed)
    rows, columns = [a for a, _, _ in chosen], [b for _, b, _ in chosen]
    scores = {alias: (first[alias][rows] * second[alias][columns]).sum(dim=-1).numpy() for alias in first}
    return Trials(np.array(rows, int), np.array(columns, int), np.array([s for *_, s in chosen], bool), scores)


def _error_rates(trials: Trials, alias: str) -> tuple[float | None, float | None]:
    """Return the equal error rate and the detection cost; None unless there are trials of both kinds."""
    if trials.same.all() or not trials.same.any():
        return None, None
    return equal_error_rate(trials.scores[alias], trials.same), min_dcf(trials.scores[alias], trials.same)


# --- scores by one encoder --------------------------------------------------------------------------------------------


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _similarities(compared: _Compared, cosines: Matrix) -> dict[int, tuple[float | None, float | None]]:
    """Return the cosine with its own reference and the mean with the speaker's others, by synthetic recording."""
    made, real = compared.recordings.synthetic, compared.recordings.real
    rows = {real[j].name: j for j in compared.real}
    found: dict[int, tuple[float | None, float | None]] = {}
    for i in compared.synthetic:
        own = rows.get(made[i].reference or "")
        of_speaker = [j for j in compared.real if real[j].speaker == made[i].speaker and j != own]
        cross = _mean(cosines[i, of_speaker].tolist())
        found[i] = (float(cosines[i, own]) if own is not None else cross, cross)
    return found


def _speaker_scores(compared: _Compared, cosines: Matrix, calibration: Calibration | None) -> dict[str, SpeakerScores]:
    similarities = _similarities(compared, cosines)
    scores = {}
    for speaker in compared.recordings.speakers:
        own = [pair for i, pair in similarities.items() if compared.recordings.synthetic[i].speaker == speaker]
        secs = _mean([secs for secs, _ in own if secs is not None])
        cross = _mean([cross for _, cross in own if cross is not None])
        calibrated = None
        if cross is not None and calibration is not None and calibration.ceiling > calibration.floor:
            calibrated = calibration.rescale(cross)
        scores[speaker] = SpeakerScores(len(own), secs, cross, calibrated)
    return scores


def _matrix(compared: _Compared, cosines: Matrix) -> list[list[float | None]]:
    """Return the mean cosines of all pairs of speakers, without those of recordings and their own references."""
    made, real, speakers = compared.recordings.synthetic, compared.recordings.real, compared.recordings.speakers
    cells: dict[tuple[str, str], list[float]] = {}
    for i, j, _ in compared.pairs():
        cells.setdefault((made[i].speaker, real[j].speaker), []).append(float(cosines[i, j]))
    return [[_mean(cells.get((row, column), [])) for column in speakers] for row in speakers]


# --- verification -----------------------------------------------------------------------------------------------------


def _encoder_scores(
    compared: _Compared,
    synthetic: Tensor,
    real: Tensor,
    rates: tuple[float | None, float | None, float | None, float | None],
    interval: Callable[[Sequence[float | None]], Interval | None],
) -> EncoderScores:
    """Score an evaluation set by one encoder.

    Args:
        compared: The evaluation set, with N synthetic and M real recordings.
        synthetic: `[N, D]`.
        real: `[M, D]`.
        rates: `eer`, `min_dcf`, `real_eer` and `real_min_dcf`.
        interval: Mean over speakers and its interval.
    """
    calibration = measure_calibration(real[compared.real], [compared.recordings.real[j].speaker for j in compared.real])
    cosines = (synthetic @ real.T).numpy()
    speakers = _speaker_scores(compared, cosines, calibration)
    eer, cost, real_eer, real_cost = rates
    return EncoderScores(
        secs=interval([one.secs for one in speakers.values()]),
        cross_utterance=interval([one.cross_utterance for one in speakers.values()]),
        calibrated_cross_utterance=interval([one.calibrated_cross_utterance for one in speakers.values()]),
        eer=eer, min_dcf=cost, real_eer=real_eer, real_min_dcf=real_cost,
        floor=calibration.floor if calibration else None, ceiling=calibration.ceiling if calibration else None,
        speakers=speakers, matrix=_matrix(compared, cosines),
    )  # fmt: skip


def _stacked(embedded: Sequence[EmbeddedRecording], encoders: Mapping[str, SegmentEncoder]) -> dict[str, Tensor]:
    """Return `[N, D]` by alias, in double precision."""
    return {alias: torch.stack([one.embeddings[alias] for one in embedded]).double() for alias in encoders}


def _refuse(evaluation_set: EvaluationSet, kind: str, first: EmbeddedRecording) -> NoReturn:
    """Raise ConfigError, for there is nothing to compare; `first` is the first recording of the kind."""
    recordings = evaluation_set.real if kind == "real" else evaluation_set.synthetic
    raise ConfigError(
        f"{evaluation_set.label}: none of the {len(recordings)} {kind} recordings can be evaluated. The first, "
        f"{shorten(recordings[0].path)}, is {first.problem}."
    )


def verify(
    evaluation_set: EvaluationSet,
    encoders: Mapping[str, SegmentEncoder],
    *,
    dbfs: float | None = None,
    seed: int = 0,
    resamples: int = 9999,
    memory: dict[Path, EmbeddedRecording] | None = None,
) -> Verification:
    """Compare synthetic with real speech by each encoder.

    A real recording with a problem is left out, and so is a synthetic one without a finite embedding. Synthetic
    silence and noise count with whatever the encoders find: leaving them out would flatter the model.

    Args:
        evaluation_set: The recordings.
        encoders: Encoders by alias, in eval mode.
        dbfs: Loudness to which each recording is brought first; None leaves it.
        seed: Seed of the bootstrap, and of the draw of trials if there are too many.
        resamples: Draws of the bootstrap.
        memory: Recordings that these encoders embedded before at this loudness, by file; new ones are added.

    Raises:
        ConfigError: all real or all synthetic recordings are without an embedding.
    """
    memory, label = {} if memory is None else memory, evaluation_set.label
    real = embed_recordings(evaluation_set.real, encoders, dbfs, f"{label}, real", memory)
    synthetic = embed_recordings(evaluation_set.synthetic, encoders, dbfs, f"{label}, synthetic", memory)
    compared = _Compared(
        evaluation_set,
        synthetic=[i for i, one in enumerate(synthetic) if one.is_finite],
        real=[j for j, one in enumerate(real) if one.problem is None and one.is_finite],
    )
    for kind, embedded in (("real", real), ("synthetic", synthetic)):
        if not any(one.is_finite for one in embedded):
            _refuse(evaluation_set, kind, embedded[0])
    of_real, of_synthetic = _stacked(real, encoders), _stacked(synthetic, encoders)
    trials = _trials(compared.pairs(), of_synthetic, of_real, seed)
    real_trials = _trials(compared.real_pairs(), of_real, of_real, seed)
    interval = functools.partial(mean_over_speakers, seed=seed, resamples=resamples)
    scores = {}
    for alias in encoders:
        rates = (*_error_rates(trials, alias), *_error_rates(real_trials, alias))
        scores[alias] = _encoder_scores(compared, of_synthetic[alias], of_real[alias], rates, interval)
    return Verification(real, synthetic, scores, trials, real_trials)
