"""Fill the reference cache: every recording through every encoder, once."""

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from coqui_scl_plugin.encoders.audio import resample
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError, EncoderError
from coqui_scl_plugin.references.cache import ReferenceCache, encoder_key
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings
from coqui_scl_plugin.references.recordings import Recording, Stamp

_STEP = 1.02  # ratio of neighbouring lengths: at most this much of the end of a recording is left out
_BATCH_SECONDS = 60.0
_SAVE_SHARE = 0.05  # of the time goes into saving what is there so far, at most


@dataclass(frozen=True)
class Batch:
    """Recordings that are embedded together, cut to one length."""

    recordings: list[Recording]
    seconds: float


def _cut(seconds: float) -> float:
    """A length, rounded down to a grid of powers of 1.02."""
    return float(_STEP ** math.floor(math.log(seconds, _STEP)))


def plan_batches(recordings: Sequence[Recording]) -> list[Batch]:
    """Batches of equal length, longest first; the same recordings give the same batches.

    Lengths are rounded down to a grid, so that what a recording is cut to, by 2 % at most, depends on itself alone.
    """
    by_length: dict[float, list[Recording]] = defaultdict(list)
    for recording in recordings:
        by_length[_cut(recording.seconds)].append(recording)
    batches = []
    for seconds in sorted(by_length, reverse=True):
        alike = sorted(by_length[seconds], key=lambda recording: recording.name)
        size = max(1, int(_BATCH_SECONDS / seconds))
        batches += [Batch(alike[start : start + size], seconds) for start in range(0, len(alike), size)]
    return batches


def device_of(encoder: SegmentEncoder) -> torch.device:
    """Where an encoder is."""
    tensors = itertools.chain(encoder.parameters(), encoder.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


@torch.no_grad()
def embed_batch(encoder: SegmentEncoder, batch: Batch) -> list[tuple[str, Stamp, Tensor]]:
    """Name, stamp and embedding `[D]` of each recording of a batch.

    Raises:
        ConfigError: a recording cannot be read.
        EncoderError: an embedding is not finite.
    """
    device = device_of(encoder)
    samples = max(1, int(batch.seconds * encoder.sample_rate))
    stamps, waveforms = [], []
    for recording in batch.recordings:
        stamps.append(recording.stamp)
        waveform, rate = recording.load()
        waveforms.append(resample(waveform.unsqueeze(0).to(device), rate, encoder.sample_rate)[:, :samples])
    embeddings = _embed_lengths(encoder, waveforms, samples)
    for recording, embedding in zip(batch.recordings, embeddings, strict=True):
        if not embedding.isfinite().all():
            msg = f"The embedding of {recording.path} is not finite. Listen to the file: repair it or leave it out."
            raise EncoderError(msg)
    names = [recording.name for recording in batch.recordings]
    return list(zip(names, stamps, embeddings, strict=True))


def _embed_lengths(encoder: SegmentEncoder, waveforms: Sequence[Tensor], samples: int) -> list[Tensor]:
    """Those of the expected length together; alone those that are shorter, since their files' headers were wrong."""
    embeddings: dict[int, Tensor] = {}
    together = [index for index, waveform in enumerate(waveforms) if waveform.shape[1] == samples]
    if together:
        embeddings |= zip(together, encoder(torch.cat([waveforms[index] for index in together])).cpu(), strict=True)
    for index, waveform in enumerate(waveforms):
        if index not in embeddings:
            own = max(1, int(_cut(waveform.shape[1] / encoder.sample_rate) * encoder.sample_rate))
            embeddings[index] = encoder(waveform[:, :own])[0].cpu()
    return [embeddings[index] for index in range(len(waveforms))]


@contextmanager
def workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """On a CPU one batch a core, which is faster than all cores on one batch; elsewhere one more, to read ahead."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads if device.type == "cpu" else 2)
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def fill_cache(cache: ReferenceCache, alias: str, encoder: SegmentEncoder, recordings: Sequence[Recording]) -> int:
    """Embed what the cache lacks, under a progress bar; what is done is saved as it comes, also when interrupted.

    Args:
        cache: Gets the embeddings.
        alias: The name of the encoder, for the progress bar.
        encoder: In eval mode, on the device where it is to run.
        recordings: Of any rate and length.

    Returns:
        How many were embedded.

    Raises:
        ConfigError: a recording cannot be read.
        EncoderError: an embedding is not finite.
    """
    key, device = encoder_key(encoder), device_of(encoder)
    if all(cache.get(key, recording) is not None for recording in recordings):
        return 0
    missing = [
        Batch(lacking, batch.seconds)
        for batch in plan_batches(recordings)
        if (lacking := [r for r in batch.recordings if cache.get(key, r) is None])
    ]
    count, saved, cost = sum(len(batch.recordings) for batch in missing), time.monotonic(), 0.0
    try:
        with (
            workers(device) as pool,
            tqdm(total=count, desc=f"References by {alias}", unit="file", mininterval=1.0) as bar,
        ):
            for done in pool.map(lambda batch: embed_batch(encoder, batch), missing):
                for name, stamp, embedding in done:
                    cache.put(key, name, stamp, embedding)
                bar.update(len(done))
                if time.monotonic() - saved > cost / _SAVE_SHARE:
                    started = time.monotonic()
                    cache.save()
                    saved, cost = time.monotonic(), time.monotonic() - started
    finally:
        cache.save()
    return count


def _rows(cache: ReferenceCache, key: str, recordings: Sequence[Recording]) -> Tensor:
    """`[N, D]`, in the order of the recordings."""
    rows = []
    for recording in recordings:
        if (row := cache.get(key, recording)) is None:
            raise ConfigError(f"The recording {recording.path} changed while it was embedded: start again.")
        rows.append(row)
    return torch.stack(rows)


def embed_recordings(
    encoders: Mapping[str, SegmentEncoder], recordings: Sequence[Recording], cache: ReferenceCache
) -> tuple[ReferenceEmbeddings, dict[str, int]]:
    """All recordings by all encoders, from the cache where it has them.

    Args:
        encoders: By alias.
        recordings: Of the data set.
        cache: Gets what it lacks.

    Returns:
        The embeddings, and by alias how many were not in the cache.

    Raises:
        ConfigError: a recording cannot be read, or changed meanwhile; or the cache cannot be written.
        EncoderError: an embedding is not finite.
    """
    computed, embeddings = {}, {}
    for alias, encoder in encoders.items():
        key = encoder_key(encoder)  # before it hears anything: some encoders keep count
        computed[alias] = fill_cache(cache, alias, encoder, recordings)
        embeddings[alias] = _rows(cache, key, recordings)
    return ReferenceEmbeddings(recordings, embeddings), computed
