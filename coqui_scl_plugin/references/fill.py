"""Fill the reference cache: embed every recording once with every encoder."""

import functools
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from coqui_scl_plugin.encoders.audio import resample
from coqui_scl_plugin.encoders.recurrent import recurrent_layers
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError, EncoderError
from coqui_scl_plugin.references.cache import ReferenceCache, encoder_key
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings
from coqui_scl_plugin.references.recordings import Recording, Stamp, by_file

_LENGTH_RATIO = 1.02
"""Ratio of neighbouring lengths on the grid: recordings of similar length are cut to one length, and share a batch.

A coarser grid would cut more, and other lengths than these would make the embeddings that users have cached useless.
"""
_BATCH_SECONDS = 60.0
_CONVOLUTIONS_SECONDS = 20.0
"""The same for encoders of convolutions on a CPU, where the activations of more speech do not fit into its caches."""
_FEWEST_PARTS = 16
"""Of recordings that share passes, so that no core is idle."""
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


def lengths_of(recordings: Iterable[Recording]) -> dict[str, float]:
    """Read the headers, and return the length of each recording in seconds, by name.

    Raises:
        ConfigError: a recording cannot be read, or is empty.
    """
    return {recording.name: recording.seconds for recording in recordings}


def plan_batches(
    recordings: Sequence[Recording], most_seconds: float = _BATCH_SECONDS, lengths: Mapping[str, float] | None = None
) -> list[Batch]:
    """Return batches of equal length, longest first; the same recordings give the same batches.

    Lengths are rounded down to a grid: at most 2 % of a recording is cut, and how much depends on that recording alone.

    Args:
        recordings: The recordings.
        most_seconds: Speech in a batch of several.
        lengths: What `lengths_of` returns for them; None reads the headers.
    """
    known = lengths_of(recordings) if lengths is None else lengths
    by_length: dict[float, list[Recording]] = defaultdict(list)
    for recording in recordings:
        by_length[_grid_seconds(known[recording.name])].append(recording)
    batches = []
    for seconds in sorted(by_length, reverse=True):
        same_length = sorted(by_length[seconds], key=lambda recording: recording.name)
        size = max(1, int(most_seconds / seconds))
        batches += [Batch(same_length[start : start + size], seconds) for start in range(0, len(same_length), size)]
    return batches


def _most_seconds(encoder: SegmentEncoder) -> float:
    """Return how much speech an encoder takes at once."""
    slow_if_large = device_of(encoder).type == "cpu" and not recurrent_layers(encoder)
    return _CONVOLUTIONS_SECONDS if slow_if_large else _BATCH_SECONDS


def _joined(batches: Sequence[Batch], most_seconds: float) -> list[list[Batch]]:
    """Put neighbouring batches together, up to so much speech."""
    joined: list[list[Batch]] = []
    room = 0.0
    for batch in batches:
        seconds = len(batch.recordings) * batch.seconds
        if not joined or seconds > room:
            joined.append([])
            room = most_seconds
        joined[-1].append(batch)
        room -= seconds
    return joined


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
def embed_batches(encoder: SegmentEncoder, batches: Sequence[Batch]) -> list[Embedded]:
    """Embed each recording of some batches, in one pass where the encoder can do that.

    Raises:
        ConfigError: a recording cannot be read.
    """
    device, rate = device_of(encoder), encoder.sample_rate
    recordings, stamps, waveforms, heard = list[Recording](), list[Stamp](), list[Tensor](), list[bool]()
    for batch in batches:
        for recording in batch.recordings:
            recordings.append(recording)
            stamps.append(recording.stamp)
            waveform, own_rate = recording.load()
            heard.append(bool(waveform.isfinite().all()))
            resampled = resample(waveform.unsqueeze(0).to(device), own_rate, rate)[0]
            waveforms.append(_cut(resampled, batch.seconds, rate))
    return list(map(Embedded, recordings, stamps, embed_waveforms(encoder, waveforms), heard))


def embed_batch(encoder: SegmentEncoder, batch: Batch) -> list[Embedded]:
    """Do what `embed_batches` does for one batch."""
    return embed_batches(encoder, [batch])


def _cut(waveform: Tensor, seconds: float, rate: int) -> Tensor:
    """Cut `[T]` to the expected length; what is shorter, since its header was wrong, to its own on the grid."""
    samples = max(1, int(seconds * rate))
    if len(waveform) < samples:
        samples = max(1, int(_grid_seconds(len(waveform) / rate) * rate))
    return waveform[:samples]


def embed_waveforms(encoder: SegmentEncoder, waveforms: Sequence[Tensor]) -> list[Tensor]:
    """Embed `[T]` each, those of one length together, or all where the encoder can do that: `[D]` each, on the CPU."""
    if encoder.embeds_each:
        return list(encoder.embed_each(waveforms).cpu())
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, waveform in enumerate(waveforms):
        by_length[len(waveform)].append(index)
    embeddings: dict[int, Tensor] = {}
    for indices in by_length.values():
        together = encoder(torch.stack([waveforms[index] for index in indices])).cpu()
        embeddings |= zip(indices, together, strict=True)
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


def _work(
    cache: ReferenceCache,
    key: str,
    encoder: SegmentEncoder,
    recordings: Sequence[Recording],
    lengths: Callable[[], Mapping[str, float]] | None,
) -> tuple[list[list[Batch]], dict[str, list[Recording]]]:
    """Return the batches of what the cache lacks, in parts for one worker each, and what each recording stands for.

    A file of several names stands in the batches once, by the first of them. The parts are those of all recordings, so
    that an interrupted run goes on with the same ones, and gives the same bits.
    """
    files = by_file(sorted(recordings, key=lambda recording: recording.name))
    lacking = {names[0].name: [one for one in names if cache.get(key, one) is None] for names in files}
    most = _most_seconds(encoder)
    batches = plan_batches([names[0] for names in files], most, lengths() if lengths is not None else None)
    parts = [[batch] for batch in batches]
    if encoder.embeds_each:
        total = sum(len(batch.recordings) * batch.seconds for batch in batches)
        parts = _joined(batches, min(most, total / _FEWEST_PARTS))
    kept = [
        [Batch([r for r in batch.recordings if lacking[r.name]], batch.seconds) for batch in part] for part in parts
    ]
    return [some for part in kept if (some := [batch for batch in part if batch.recordings])], lacking


def fill_cache(
    cache: ReferenceCache,
    alias: str,
    encoder: SegmentEncoder,
    recordings: Sequence[Recording],
    lengths: Callable[[], Mapping[str, float]] | None = None,
) -> int:
    """Embed what the cache lacks, with a progress bar. Saves repeatedly, so that an interrupted run can resume.

    A file of several names, such as links, is embedded once.

    Args:
        cache: Receives the embeddings.
        alias: Name of the encoder, for the progress bar.
        encoder: Encoder in eval mode, on the device where it is to run.
        recordings: Recordings of any rate and length.
        lengths: Returns the length of each in seconds, by name, if it is asked for; None reads the headers.

    Returns:
        The number of recordings that got an embedding.

    Raises:
        ConfigError: a recording cannot be read.
        EncoderError: an embedding is not finite, or all 0; those that are sound are saved.
    """
    key, device = encoder_key(encoder), device_of(encoder)
    cache.keep_width(key, _width(encoder))
    if all(cache.get(key, recording) is not None for recording in recordings):
        return 0
    parts, lacking = _work(cache, key, encoder, recordings, lengths)
    count, saved, cost = sum(map(len, lacking.values())), time.monotonic(), 0.0
    bad: list[Embedded] = []
    try:
        with (
            workers(device) as pool,
            tqdm(total=count, desc=f"References by {alias}", unit="file", mininterval=1.0) as bar,
        ):
            for done in pool.map(lambda batches: embed_batches(encoder, batches), parts):
                for one in done:
                    names = lacking[one.recording.name]
                    bar.update(len(names))
                    if not one.is_usable:
                        bad += [one._replace(recording=named) for named in names]
                        continue
                    for named in names:
                        cache.put(key, named.name, one.stamp, one.embedding)
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
    lengths = functools.cache(lambda: lengths_of(recordings))
    for alias, encoder in encoders.items():
        key = encoder_key(encoder)  # before embedding, which changes an encoder that counts its calls
        computed[alias] = fill_cache(cache, alias, encoder, recordings, lengths)
        embeddings[alias] = _rows(cache, key, recordings)
    return ReferenceEmbeddings(recordings, embeddings), computed
