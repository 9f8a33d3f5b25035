"""Speaker encoders listen to real and synthetic recordings, and say how alike they find the speakers."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.evaluation.audio_checks import normalise_loudness, problem_of
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet
from coqui_scl_plugin.evaluation.metrics import Interval, bootstrap_mean, equal_error_rate, min_dcf
from coqui_scl_plugin.losses.calibration import Calibration, measure_calibration
from coqui_scl_plugin.references.fill import device_of, workers
from coqui_scl_plugin.references.recordings import Recording

Matrix = NDArray[np.float64]
_MOST_TRIALS = 200_000


@dataclass(frozen=True)
class EmbeddedRecording:
    """A recording, as the encoders heard it."""

    seconds: float
    problem: str | None
    """Why it holds no speech, if so."""
    embeddings: dict[str, Tensor]
    """By alias, `[D]`; not finite where the encoder cannot say anything."""


@dataclass(frozen=True)
class Trials:
    """Pairs of recordings: is the second of the speaker whom the first is to sound like?"""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    scores: dict[str, Matrix]
    """By alias, `[N]` cosines."""


@dataclass(frozen=True)
class SpeakerScores:
    """One speaker by one encoder; None where there is nothing to compare with."""

    recordings: int
    secs: float | None
    cross_utterance: float | None
    scaled: float | None


@dataclass(frozen=True)
class EncoderScores:
    """All of one encoder. Means are over speakers, each the mean of theirs; intervals are of 95 %."""

    secs: Interval | None
    """Cosine of a synthetic recording and its own reference; where it has none, as `cross_utterance`."""
    cross_utterance: Interval | None
    """Mean cosine of a synthetic recording and the other real recordings of the speaker."""
    scaled: Interval | None
    """`cross_utterance` between the floor (0) and the ceiling (1), which are of different recordings as well."""
    eer: float | None
    """Equal error rate of the trials of synthetic against real speech, in percent."""
    min_dcf: float | None
    floor: float | None
    """Mean cosine of real recordings of different speakers."""
    ceiling: float | None
    """Mean cosine of different real recordings of one speaker."""
    real_eer: float | None
    """The same of real speech alone."""
    real_min_dcf: float | None
    speakers: dict[str, SpeakerScores]
    matrix: list[list[float | None]]
    """Mean cosine of the synthetic speech of each speaker (rows) and the real speech of each (columns)."""


@dataclass(frozen=True)
class Verification:
    """What came out for one `EvaluationSet`."""

    real: list[EmbeddedRecording]
    synthetic: list[EmbeddedRecording]
    verdicts: dict[str, EncoderScores]
    trials: Trials
    """Synthetic (first) against real (second), but for each one's own reference."""
    real_trials: Trials
    """Real against real."""


# --- listening --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def hear(recording: Recording, encoders: Mapping[str, SegmentEncoder], dbfs: float | None) -> EmbeddedRecording:
    """Load and embed one recording, at a level of `dbfs` if that is given. Raises ConfigError if it cannot be read."""
    waveform, rate = recording.load()
    if len(waveform) == 0:
        return EmbeddedRecording(
            0.0, "empty", {a: torch.full((e.encoder.embedding_dim,), torch.nan) for a, e in encoders.items()}
        )
    problem = problem_of(waveform, rate)
    if dbfs is not None:
        waveform = normalise_loudness(waveform, dbfs)
    at_rates: dict[torch.device, ResampledAudio] = {}
    embeddings = {}
    for alias, encoder in encoders.items():
        device = device_of(encoder)
        heard = at_rates.setdefault(device, ResampledAudio(waveform.unsqueeze(0).to(device), rate))
        embeddings[alias] = encoder(heard.at(encoder.sample_rate))[0].cpu()
    return EmbeddedRecording(len(waveform) / rate, problem, embeddings)


def hear_all(
    recordings: Sequence[Recording],
    encoders: Mapping[str, SegmentEncoder],
    dbfs: float | None,
    title: str,
    memory: dict[Path, EmbeddedRecording],
) -> list[EmbeddedRecording]:
    """`hear` all that are not in `memory`, which gets them, under a progress bar."""
    new = [recording for recording in recordings if recording.path not in memory]
    with workers(device_of(next(iter(encoders.values())))) as pool:
        heard = pool.map(lambda recording: hear(recording, encoders, dbfs), new)
        bar = tqdm(heard, total=len(new), desc=title, unit="file", mininterval=1.0, disable=not new)
        memory.update(zip((recording.path for recording in new), bar, strict=True))
    return [memory[recording.path] for recording in recordings]


def _embedded(heard: Sequence[EmbeddedRecording], alias: str) -> Tensor:
    return torch.stack([one.embeddings[alias] for one in heard]).double()


# --- trials -----------------------------------------------------------------------------------------------------------


def _sampled(pairs: list[tuple[int, int, bool]], seed: int) -> list[tuple[int, int, bool]]:
    """All trials of one speaker, and as many of different ones as keep the list readable, drawn by the seed."""
    same = [pair for pair in pairs if pair[2]]
    others = [pair for pair in pairs if not pair[2]]
    room = max(_MOST_TRIALS - len(same), len(same))
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


def _pairs(material: EvaluationSet, synthetic: Sequence[int], real: Sequence[int]) -> list[tuple[int, int, bool]]:
    return [
        (i, j, material.synthetic[i].speaker == material.real[j].speaker)
        for i in synthetic
        for j in real
        if material.synthetic[i].reference != material.real[j].name
    ]


def _real_pairs(material: EvaluationSet, real: Sequence[int]) -> list[tuple[int, int, bool]]:
    return [
        (i, j, material.real[i].speaker == material.real[j].speaker)
        for position, i in enumerate(real)
        for j in real[position + 1 :]
    ]


def _rates(trials: Trials, alias: str) -> tuple[float | None, float | None]:
    if trials.same.all() or not trials.same.any():
        return None, None
    return equal_error_rate(trials.scores[alias], trials.same), min_dcf(trials.scores[alias], trials.same)


# --- one encoder ------------------------------------------------------------------------------------------------------


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _similarities(
    material: EvaluationSet, cosines: Matrix, synthetic: Sequence[int], real: Sequence[int]
) -> dict[int, tuple[float | None, float | None]]:
    """By synthetic recording, its cosine to its own reference, and the mean of those to the speaker's others."""
    rows = {material.real[j].name: j for j in real}
    found: dict[int, tuple[float | None, float | None]] = {}
    for i in synthetic:
        own = rows.get(material.synthetic[i].reference or "")
        of_speaker = [j for j in real if material.real[j].speaker == material.synthetic[i].speaker and j != own]
        cross = _mean(cosines[i, of_speaker].tolist())
        found[i] = (float(cosines[i, own]) if own is not None else cross, cross)
    return found


def _speaker_verdicts(
    material: EvaluationSet, similarities: Mapping[int, tuple[float | None, float | None]], levels: Calibration | None
) -> dict[str, SpeakerScores]:
    verdicts = {}
    for speaker in material.speakers:
        own = [pair for i, pair in similarities.items() if material.synthetic[i].speaker == speaker]
        secs = _mean([secs for secs, _ in own if secs is not None])
        cross = _mean([cross for _, cross in own if cross is not None])
        scaled = None
        if cross is not None and levels is not None and levels.ceiling > levels.floor:
            scaled = levels.rescale(cross)
        verdicts[speaker] = SpeakerScores(len(own), secs, cross, scaled)
    return verdicts


def _over_speakers(values: Sequence[float | None], seed: int, resamples: int) -> Interval | None:
    known = [value for value in values if value is not None]
    return bootstrap_mean(known, seed=seed, resamples=resamples) if known else None


def _matrix(
    material: EvaluationSet, cosines: Matrix, synthetic: Sequence[int], real: Sequence[int]
) -> list[list[float | None]]:
    """Without the cosines of recordings and their own references."""
    pairs = _pairs(material, synthetic, real)
    cells: dict[tuple[str, str], list[float]] = {}
    for i, j, _ in pairs:
        cells.setdefault((material.synthetic[i].speaker, material.real[j].speaker), []).append(float(cosines[i, j]))
    return [[_mean(cells.get((row, column), [])) for column in material.speakers] for row in material.speakers]


def judge(
    material: EvaluationSet,
    encoders: Mapping[str, SegmentEncoder],
    *,
    dbfs: float | None = None,
    seed: int = 0,
    resamples: int = 9999,
    memory: dict[Path, EmbeddedRecording] | None = None,
) -> Verification:
    """Let each encoder compare the synthetic with the real speech.

    A real recording without speech is left out, and so is a synthetic one of which an encoder can say nothing; a
    synthetic one that is silence or noise counts as what the encoders find.

    Args:
        material: What to judge.
        encoders: By alias, in eval mode.
        dbfs: Level to which each recording is brought before; None leaves it.
        seed: Of the bootstrap, and of the trials where there are too many.
        resamples: Of the bootstrap.
        memory: What these encoders heard already at this level, by file; gets what they hear now.

    Raises:
        ConfigError: a recording cannot be read.
    """
    memory = {} if memory is None else memory
    heard_real = hear_all(material.real, encoders, dbfs, f"{material.label}, real", memory)
    heard_synthetic = hear_all(material.synthetic, encoders, dbfs, f"{material.label}, synthetic", memory)
    real = [j for j, one in enumerate(heard_real) if one.problem is None and _says_something(one)]
    synthetic = [i for i, one in enumerate(heard_synthetic) if _says_something(one)]
    of_real = {alias: _embedded(heard_real, alias) for alias in encoders}
    of_synthetic = {alias: _embedded(heard_synthetic, alias) for alias in encoders}
    trials = _trials(_pairs(material, synthetic, real), of_synthetic, of_real, seed)
    real_trials = _trials(_real_pairs(material, real), of_real, of_real, seed)
    verdicts = {}
    for alias in encoders:
        cosines = (of_synthetic[alias] @ of_real[alias].T).numpy()
        levels = measure_calibration(of_real[alias][real], [material.real[j].speaker for j in real])
        speakers = _speaker_verdicts(material, _similarities(material, cosines, synthetic, real), levels)
        eer, cost = _rates(trials, alias)
        real_eer, real_cost = _rates(real_trials, alias)
        verdicts[alias] = EncoderScores(
            secs=_over_speakers([v.secs for v in speakers.values()], seed, resamples),
            cross_utterance=_over_speakers([v.cross_utterance for v in speakers.values()], seed, resamples),
            scaled=_over_speakers([v.scaled for v in speakers.values()], seed, resamples),
            eer=eer, min_dcf=cost, real_eer=real_eer, real_min_dcf=real_cost,
            floor=levels.floor if levels else None, ceiling=levels.ceiling if levels else None,
            speakers=speakers, matrix=_matrix(material, cosines, synthetic, real),
        )  # fmt: skip
    return Verification(heard_real, heard_synthetic, verdicts, trials, real_trials)


def _says_something(heard: EmbeddedRecording) -> bool:
    return all(bool(embedding.isfinite().all()) for embedding in heard.embeddings.values())
