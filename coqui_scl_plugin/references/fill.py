"""Fill the reference cache: embed every recording once with every encoder."""

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from coqui_scl_plugin.encoders.audio import resample
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError, EncoderError
from coqui_scl_plugin.references.cache import ReferenceCache, encoder_key
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings
from coqui_scl_plugin.references.recordings import Recording, Stamp

_LENGTH_RATIO = 1.02
"""Ratio of neighbouring lengths on the grid: recordings of similar length are cut to one length, and share a batch.

On a CPU this gains little: the 100 recordings of libri10, in 70 batches, took one core 4.3 s with `ge2e` and 43 s with
`dvector`, against 4.6 s and 48 s with each recording alone at its own length. The grid stays because a GPU is expected
to gain more from batches (not measured), and because embeddings that users have cached would change. They would change
little: with and without the cut, they have a mean cosine of 0.99996 (`ge2e`) and 0.9996 (`dvector`).
"""
_BATCH_SECONDS = 60.0
_HOPELESS = 32
"""If none of so many recordings has an embedding that can be used, the others are not tried."""
_MAX_NAMED = 20
_MAX_SAVE_SHARE = 0.05
"""Share of the time that saving may take while the cache is filled."""


@dataclass(frozen=True)
class Batch:
    """Recordings that are cut to one length and embedded together."""

    recordings: list[Recording]
    seconds: float


def _grid_seconds(seconds: float) -> float:
    """Return a length rounded down to the grid."""
    return float(_LENGTH_RATIO ** math.floor(math.log(seconds, _LENGTH_RATIO)))


def plan_batches(recordings: Sequence[Recording]) -> list[Batch]:
    """Return batches of equal length, longest first; the same recordings give the same batches.

    Lengths are rounded down to a grid: at most 2 % of a recording is cut, and how much depends on that recording alone.
    """
    by_length: dict[float, list[Recording]] = defaultdict(list)
    for recording in recordings:
        by_length[_grid_seconds(recording.seconds)].append(recording)
    batches = []
    for seconds in sorted(by_length, reverse=True):
        same_length = sorted(by_length[seconds], key=lambda recording: recording.name)
        size = max(1, int(_BATCH_SECONDS / seconds))
        batches += [Batch(same_length[start : start + size], seconds) for start in range(0, len(same_length), size)]
    return batches


def device_of(encoder: SegmentEncoder) -> torch.device:
    """Return the device of an encoder."""
    tensors = itertools.chain(encoder.parameters(), encoder.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


class Embedded(NamedTuple):
    """A recording, as one encoder embedded it."""

    recording: Recording
    stamp: Stamp
    """Of the file as it was read."""
    embedding: Tensor
    """`[D]`."""
    is_heard: bool
    """Whether all its samples are finite, so that an embedding that is not is the encoder's doing."""

    @property
    def is_usable(self) -> bool:
        """Whether the embedding is finite and has a direction."""
        return bool(self.embedding.isfinite().all() and self.embedding.any())


@torch.no_grad()
def embed_batch(encoder: SegmentEncoder, batch: Batch) -> list[Embedded]:
    """Embed each recording of a batch.

    Raises:
        ConfigError: a recording cannot be read.
    """
    device = device_of(encoder)
    samples = max(1, int(batch.seconds * encoder.sample_rate))
    stamps, waveforms, heard = [], [], []
    for recording in batch.recordings:
        stamps.append(recording.stamp)
        waveform, rate = recording.load()
        heard.append(bool(waveform.isfinite().all()))
        waveforms.append(resample(waveform.unsqueeze(0).to(device), rate, encoder.sample_rate)[:, :samples])
    embeddings = _embed_lengths(encoder, waveforms, samples)
    return list(map(Embedded, batch.recordings, stamps, embeddings, heard))


def _embed_lengths(encoder: SegmentEncoder, waveforms: Sequence[Tensor], samples: int) -> list[Tensor]:
    """Embed waveforms of the expected length together, and shorter ones, whose headers were wrong, one by one."""
    embeddings: dict[int, Tensor] = {}
    together = [index for index, waveform in enumerate(waveforms) if waveform.shape[1] == samples]
    if together:
        embeddings |= zip(together, encoder(torch.cat([waveforms[index] for index in together])).cpu(), strict=True)
    for index, waveform in enumerate(waveforms):
        if index not in embeddings:
            own = max(1, int(_grid_seconds(waveform.shape[1] / encoder.sample_rate) * encoder.sample_rate))
            embeddings[index] = encoder(waveform[:, :own])[0].cpu()
    return [embeddings[index] for index in range(len(waveforms))]


@contextmanager
def workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool that embeds batches.

    On a CPU, it runs one batch on each core, which is faster than all cores on one batch. Elsewhere it has two workers,
    so that one reads ahead.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads if device.type == "cpu" else 2)
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)  # an interrupted run ends now, not after the batches at work
        raise
    else:
        pool.shutdown()
    finally:
        torch.set_num_threads(threads)


def fill_cache(cache: ReferenceCache, alias: str, encoder: SegmentEncoder, recordings: Sequence[Recording]) -> int:
    """Embed what the cache lacks, with a progress bar. Saves repeatedly, so that an interrupted run can resume.

    Args:
        cache: Receives the embeddings.
        alias: Name of the encoder, for the progress bar.
        encoder: Encoder in eval mode, on the device where it is to run.
        recordings: Recordings of any rate and length.

    Returns:
        The number of recordings that were embedded.

    Raises:
        ConfigError: a recording cannot be read.
        EncoderError: an embedding is not finite, or all 0; those that are sound are saved.
    """
    key, device = encoder_key(encoder), device_of(encoder)
    cache.keep_width(key, _width(encoder))
    if all(cache.get(key, recording) is not None for recording in recordings):
        return 0
    missing = [
        Batch(lacking, batch.seconds)
        for batch in plan_batches(recordings)
        if (lacking := [r for r in batch.recordings if cache.get(key, r) is None])
    ]
    count, saved, cost = sum(len(batch.recordings) for batch in missing), time.monotonic(), 0.0
    bad: list[Embedded] = []
    try:
        with (
            workers(device) as pool,
            tqdm(total=count, desc=f"References by {alias}", unit="file", mininterval=1.0) as bar,
        ):
            for done in pool.map(lambda batch: embed_batch(encoder, batch), missing):
                for one in done:
                    if one.is_usable:
                        cache.put(key, one.recording.name, one.stamp, one.embedding)
                    else:
                        bad.append(one)
                bar.update(len(done))
                if len(bad) == bar.n >= _HOPELESS:
                    break
                if time.monotonic() - saved > cost / _MAX_SAVE_SHARE:
                    started = time.monotonic()
                    cache.save()
                    saved, cost = time.monotonic(), time.monotonic() - started
    finally:
        cache.save()
    check_usable(alias, bad)
    return count


def _width(encoder: SegmentEncoder) -> int | None:
    """Return the width of an encoder's embeddings; None if it does not say."""
    width = getattr(encoder.encoder, "embedding_dim", None)
    return width if isinstance(width, int) else None


def check_usable(alias: str, embedded: Sequence[Embedded]) -> None:
    """Refuse recordings without a usable embedding, and say whether the files or the encoder are the cause.

    Raises:
        EncoderError: there are some; it names them all.
    """
    bad, parts = [one for one in embedded if not one.is_usable], []
    if files := [one.recording for one in bad if not one.is_heard]:
        parts.append(
            f"{_listed(files)} hold samples that are not finite, so that no encoder can embed them. Listen to these "
            "files: repair or remove them."
        )
    if own := [one.recording for one in bad if one.is_heard]:
        parts.append(
            f"The samples of {_listed(own)} are finite, but the encoder {alias!r} makes an embedding of them that is "
            "not finite or all 0. If they are speech, take another encoder or other weights of it; else remove them."
        )
    if parts:
        raise EncoderError(" ".join(parts))


def _listed(recordings: Sequence[Recording]) -> str:
    paths, more = [str(recording.path) for recording in recordings[:_MAX_NAMED]], len(recordings) - _MAX_NAMED
    return ", ".join(paths) + (f" and {more} more" if more > 0 else "")


def _rows(cache: ReferenceCache, key: str, recordings: Sequence[Recording]) -> Tensor:
    """Return the embeddings of the recordings, in their order: `[N, D]`."""
    rows = []
    for recording in recordings:
        if (row := cache.get(key, recording)) is None:
            raise ConfigError(f"The recording {recording.path} changed while it was embedded: start again.")
        rows.append(row)
    return torch.stack(rows)


def embed_recordings(
    encoders: Mapping[str, SegmentEncoder], recordings: Sequence[Recording], cache: ReferenceCache
) -> tuple[ReferenceEmbeddings, dict[str, int]]:
    """Embed all recordings with all encoders, taking from the cache what it has.

    Args:
        encoders: Encoders by alias.
        recordings: Recordings of the data set.
        cache: Receives what it lacks.

    Returns:
        The embeddings, and by alias the number of recordings that were not in the cache.

    Raises:
        ConfigError: a recording cannot be read or changed meanwhile, or the cache cannot be written.
        EncoderError: an embedding is not finite, or all 0; those that are sound are saved.
    """
    computed, embeddings = {}, {}
    for alias, encoder in encoders.items():
        key = encoder_key(encoder)  # before embedding, which changes an encoder that counts its calls
        computed[alias] = fill_cache(cache, alias, encoder, recordings)
        embeddings[alias] = _rows(cache, key, recordings)
    return ReferenceEmbeddings(recordings, embeddings), computed
