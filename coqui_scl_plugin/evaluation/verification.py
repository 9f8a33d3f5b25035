"""Speaker verification: encoders embed real and synthetic recordings, and score how similar their speakers are."""

import contextlib
import functools
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
from coqui_scl_plugin.evaluation.audio_file import announced_seconds, read_audio
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet
from coqui_scl_plugin.evaluation.metrics import Interval, mean_over_speakers
from coqui_scl_plugin.evaluation.trials import Compared, Matrix, Trials, error_rates
from coqui_scl_plugin.losses.calibration import Calibration, measure_calibration
from coqui_scl_plugin.references.fill import device_of, embed_waveforms, workers
from coqui_scl_plugin.references.recordings import Recording, by_file
from coqui_scl_plugin.utils.shown import shorten

MEASURES = ("secs", "cross_utterance", "calibrated_cross_utterance")
"""Similarities of `SpeakerScores` and `EncoderScores`."""


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


@dataclass(frozen=True)
class _Heard:
    """A recording as it was read, at the loudness asked for."""

    waveform: Tensor
    """`[T]`."""
    rate: int
    seconds: float
    problem: str | None
    is_read: bool

    @property
    def is_embeddable(self) -> bool:
        """Whether there are samples, all finite."""
        return len(self.waveform) > 0 and bool(self.waveform.isfinite().all())


def _hear(recording: Recording, dbfs: float | None) -> _Heard:
    """Read and check a recording, and bring it to a loudness of `dbfs` unless None."""
    waveform, rate, problem, is_read = read_audio(recording)
    if len(waveform) == 0:
        return _Heard(waveform, rate, 0.0, problem or "empty", is_read)
    problem = problem_of(waveform, rate) or problem
    if waveform.isfinite().all():
        if dbfs is None:
            problem = problem or excess_of(waveform)
        else:
            waveform = normalise_loudness(waveform, dbfs)
    return _Heard(waveform, rate, len(waveform) / rate, problem, is_read=True)


@torch.inference_mode()
def embed_together(
    recordings: Sequence[Recording], encoders: Mapping[str, SegmentEncoder], dbfs: float | None
) -> list[EmbeddedRecording]:
    """Load and embed recordings, at a loudness of `dbfs` unless None; what cannot be embedded has a problem."""
    heard = [_hear(recording, dbfs) for recording in recordings]
    embeddings: list[dict[str, Tensor]] = [{} for _ in heard]
    problems = [[one.problem] if one.problem else [] for one in heard]
    usable = [index for index, one in enumerate(heard) if one.is_embeddable]
    audio: dict[tuple[int, torch.device], ResampledAudio] = {}
    for alias, encoder in encoders.items():
        device = device_of(encoder)
        for index in usable:
            if (index, device) not in audio:
                waveform = heard[index].waveform.unsqueeze(0).to(device)
                audio[index, device] = ResampledAudio(waveform, heard[index].rate)
        found = _embeddings([audio[index, device] for index in usable], encoder)
        for index, embedding in zip(usable, found, strict=True):
            if isinstance(embedding, Tensor):
                embeddings[index][alias] = embedding
            else:
                problems[index].append(f"not embedded by {alias}: {embedding}")
    unknown = {alias: torch.full((e.encoder.embedding_dim,), torch.nan) for alias, e in encoders.items()}
    return [
        EmbeddedRecording(one.seconds, ", and ".join(why) or None, unknown | own, one.is_read)
        for one, why, own in zip(heard, problems, embeddings, strict=True)
    ]


def embed_recording(
    recording: Recording, encoders: Mapping[str, SegmentEncoder], dbfs: float | None
) -> EmbeddedRecording:
    """Do what `embed_together` does for one recording."""
    (embedded,) = embed_together([recording], encoders, dbfs)
    return embedded


_NO_EMBEDDING = (ConfigError, RuntimeError, ValueError, IndexError, MemoryError)


def _embeddings(audio: Sequence[ResampledAudio], encoder: SegmentEncoder) -> list[Tensor | str]:
    """Return the embedding of each recording, or why it has none; those that can share a pass do."""
    if len(audio) > 1:
        with contextlib.suppress(*_NO_EMBEDDING):  # which recording is the cause shows below
            together = embed_waveforms(encoder, [one.at(encoder.sample_rate)[0] for one in audio])
            if all(embedding.isfinite().all() for embedding in together):
                return list(together)
    return [_embedding(one, encoder) for one in audio]


def _embedding(audio: ResampledAudio, encoder: SegmentEncoder) -> Tensor | str:
    try:
        embedding: Tensor = encoder(audio.at(encoder.sample_rate))[0].cpu()
    except _NO_EMBEDDING as error:
        return shorten(error).removesuffix(".")
    return embedding if embedding.isfinite().all() else "its embedding is not finite"


_MOST_TOGETHER, _MOST_SECONDS, _FEWEST_PARTS = 16, 20.0, 16
"""Recordings and speech that one worker takes at a time, and the parts that it leaves for other workers."""


def _parts(files: Sequence[list[Recording]]) -> list[list[list[Recording]]]:
    """Share out files, longest first, so that those of one length come together and can share a pass.

    Args:
        files: The recordings of each file.
    """
    seconds = [announced_seconds(names[0].path) for names in files]
    size, parts, room = max(1, min(_MOST_TOGETHER, len(files) // _FEWEST_PARTS)), list[list[list[Recording]]](), 0.0
    for index in sorted(range(len(files)), key=seconds.__getitem__, reverse=True):
        room -= seconds[index]
        if not parts or room < 0 or len(parts[-1]) == size:
            parts.append([])
            room = _MOST_SECONDS - seconds[index]
        parts[-1].append(files[index])
    return parts


def embed_recordings(
    recordings: Sequence[Recording],
    encoders: Mapping[str, SegmentEncoder],
    dbfs: float | None,
    title: str,
    memory: dict[Path, EmbeddedRecording],
) -> list[EmbeddedRecording]:
    """Embed the recordings that are not in `memory`, add them to it, and return all; shows a progress bar.

    A file of several names, such as links, is embedded once.
    """
    if new := by_file([recording for recording in recordings if recording.path not in memory]):
        parts = _parts(new)
        with (
            workers(device_of(next(iter(encoders.values())))) as pool,
            tqdm(total=sum(map(len, new)), desc=title, unit="file", mininterval=1.0) as bar,
        ):
            firsts = ([names[0] for names in part] for part in parts)
            done = pool.map(lambda part: embed_together(part, encoders, dbfs), firsts)
            for part, embedded in zip(parts, done, strict=True):
                for (first, *more), one in zip(part, embedded, strict=True):
                    memory[first.path] = one
                    for other in more:  # what cannot be read is named by its own name
                        memory[other.path] = one if one.is_read else embed_recording(other, encoders, dbfs)
                    bar.update(1 + len(more))
    return [memory[recording.path] for recording in recordings]


# --- scores by one encoder --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sums:
    """Sums of cosines by one encoder: a sum of cosines with many is the cosine with the sum of their embeddings."""

    own: Matrix
    """`[N]` of each synthetic recording with its reference; 0 if it has none."""
    cross: Matrix
    """`[N]` of each synthetic recording with its speaker's other real recordings."""
    others: NDArray[np.int64]
    """`[N]`, how many these are."""
    matrix: Matrix
    """`[S, S]` of the synthetic speech of each speaker with the real speech of each, without own references."""
    pairs: NDArray[np.int64]
    """`[S, S]`, how many these are."""


def _sums(compared: Compared, synthetic: Tensor, real: Tensor) -> _Sums:
    """Sum the cosines of all pairs of `[N, D]` and `[M, D]`."""
    size, made, said, own = len(compared.speakers), compared.of_synthetic, compared.of_real, compared.own
    by_made, by_said = (
        rows.new_zeros(size, rows.shape[1]).index_add_(0, torch.from_numpy(places), rows)
        for rows, places in ((synthetic, made), (real, said))
    )
    counts = np.bincount(said, minlength=size)
    cosines = np.zeros(len(made))
    known = (own >= 0).nonzero()[0]
    cosines[known] = (synthetic[known] * real[own[known]]).sum(dim=-1).numpy()
    cross = (synthetic * by_said[made]).sum(dim=-1).numpy()
    others = counts[made]
    inside = known[said[own[known]] == made[known]]
    cross[inside] -= cosines[inside]
    others[inside] -= 1
    matrix, pairs = (by_made @ by_said.T).numpy(), np.outer(np.bincount(made, minlength=size), counts)
    np.subtract.at(matrix, (made[known], said[own[known]]), cosines[known])
    np.subtract.at(pairs, (made[known], said[own[known]]), 1)
    return _Sums(cosines, cross, others, matrix, pairs)


def _speaker_scores(compared: Compared, sums: _Sums, calibration: Calibration | None) -> dict[str, SpeakerScores]:
    made, size = compared.of_synthetic, len(compared.speakers)
    has_cross, has_own = sums.others > 0, compared.own >= 0
    cross = np.divide(sums.cross, sums.others, out=np.zeros(len(made)), where=has_cross)
    secs = np.where(has_own, sums.own, cross)
    recordings = np.bincount(made, minlength=size)
    means = [
        _means(np.bincount(made[known], values[known], size).astype(float), np.bincount(made[known], minlength=size))
        for values, known in ((secs, has_own | has_cross), (cross, has_cross))
    ]
    scores = {}
    for place, speaker in enumerate(compared.recordings.speakers):
        mean = means[1][place]
        calibrated = None
        if mean is not None and calibration is not None and calibration.ceiling > calibration.floor:
            calibrated = calibration.rescale(mean)
        scores[speaker] = SpeakerScores(int(recordings[place]), means[0][place], mean, calibrated)
    return scores


def _means(sums: Matrix, counts: NDArray[np.int64]) -> list[float | None]:
    """Divide sums by counts; None where there is nothing to count."""
    pairs = zip(sums.tolist(), counts.tolist(), strict=True)
    return [total / count if count else None for total, count in pairs]


# --- verification -----------------------------------------------------------------------------------------------------


def _encoder_scores(
    compared: Compared,
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
    sums = _sums(compared, synthetic[compared.synthetic], real[compared.real])
    speakers, size = _speaker_scores(compared, sums, calibration), len(compared.recordings.speakers)
    eer, cost, real_eer, real_cost = rates
    return EncoderScores(
        secs=interval([one.secs for one in speakers.values()]),
        cross_utterance=interval([one.cross_utterance for one in speakers.values()]),
        calibrated_cross_utterance=interval([one.calibrated_cross_utterance for one in speakers.values()]),
        eer=eer, min_dcf=cost, real_eer=real_eer, real_min_dcf=real_cost,
        floor=calibration.floor if calibration else None, ceiling=calibration.ceiling if calibration else None,
        speakers=speakers,
        matrix=list(map(_means, sums.matrix[:size, :size], sums.pairs[:size, :size])),
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
    compared = Compared(
        evaluation_set,
        synthetic=[i for i, one in enumerate(synthetic) if one.is_finite],
        real=[j for j, one in enumerate(real) if one.problem is None and one.is_finite],
    )
    for kind, embedded in (("real", real), ("synthetic", synthetic)):
        if not any(one.is_finite for one in embedded):
            _refuse(evaluation_set, kind, embedded[0])
    of_real, of_synthetic = _stacked(real, encoders), _stacked(synthetic, encoders)
    trials = compared.trials(of_synthetic, of_real, seed)
    real_trials = compared.real_trials(of_real, seed)
    interval = functools.partial(mean_over_speakers, seed=seed, resamples=resamples)
    scores = {}
    for alias in encoders:
        rates = (*error_rates(trials, alias), *error_rates(real_trials, alias))
        scores[alias] = _encoder_scores(compared, of_synthetic[alias], of_real[alias], rates, interval)
    return Verification(real, synthetic, scores, trials, real_trials)
