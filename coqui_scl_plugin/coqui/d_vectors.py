"""Import of Coqui's d-vector files (`speakers.pth`, `speakers.json`) into the reference cache, and export from it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from TTS.tts.utils.managers import load_file, save_file

from coqui_scl_plugin.encoders.loading.files import UNREADABLE
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.references.cache import ReferenceCache, encoder_key
from coqui_scl_plugin.references.fill import Batch, check_usable, embed_batch
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.atomic import replacing

SUFFIXES = (".pth", ".json")
_CHECKED_RECORDINGS = 4
"""Number of recordings that are embedded again, to verify that this encoder made the file."""
_MIN_SAME_ENCODER_COSINE = 0.8
"""Lowest cosine between the two embeddings of a recording: about 0.95, since Coqui embeds ten slices of 2.5 s."""


def check_d_vector_files(import_file: Path | None, export_file: Path | None) -> None:
    """Check the names of the files that options give. Raises ConfigError."""
    for option, file in (("--import", import_file), ("--export", export_file)):
        if file is not None and file.suffix not in SUFFIXES:
            raise ConfigError(f"{option} {file}: must end in {' or '.join(SUFFIXES)}.")
    if import_file is not None and not import_file.is_file():
        raise ConfigError(f"--import {import_file}: there is no such file.")


def _read(path: Path) -> dict[str, Tensor]:
    """Read embeddings by the name of the recording. Raises ConfigError."""
    try:
        content: dict[str, Any] = load_file(path)
        return {name: torch.as_tensor(entry["embedding"]).float().flatten() for name, entry in content.items()}
    except (*UNREADABLE, json.JSONDecodeError) as error:
        msg = f"{path} is not a d-vector file of Coqui (speakers.pth or speakers.json): {type(error).__name__}: {error}"
        raise ConfigError(msg) from error


def import_d_vectors(
    path: Path, cache: ReferenceCache, encoder: SegmentEncoder, recordings: Sequence[Recording]
) -> int:
    """Take the embeddings of a d-vector file as those that `encoder` computes from the current recordings.

    A few recordings are embedded again, to verify that this encoder made the file.

    Args:
        path: File that ends in `.pth` or `.json`, keyed by Coqui's `audio_unique_name`.
        cache: Receives the embeddings, normalised to unit length.
        encoder: The encoder that made the file.
        recordings: Recordings of the data set; other entries of the file are ignored.

    Returns:
        The number of embeddings taken.

    Raises:
        ConfigError: the file cannot be read, has none of the recordings, or was made by another encoder.
    """
    d_vectors = _read(path)
    known = [recording for recording in recordings if recording.name in d_vectors]
    if not known:
        msg = (
            f"{path}: none of its {len(d_vectors)} keys (such as {next(iter(d_vectors), None)!r}) is the name of a "
            f"recording of the data set (such as {recordings[0].name!r}). Was it made with another dataset_name?"
        )
        raise ConfigError(msg)
    _check_encoder(path, d_vectors, encoder, known)
    key = encoder_key(encoder)
    for recording in known:
        cache.put(key, recording.name, recording.stamp, normalize(d_vectors[recording.name], dim=0))
    return len(known)


def _check_encoder(
    path: Path, d_vectors: dict[str, Tensor], encoder: SegmentEncoder, known: Sequence[Recording]
) -> None:
    dim = int(encoder.encoder.embedding_dim)
    for recording in known:
        vector = d_vectors[recording.name]
        if len(vector) != dim or not vector.isfinite().all() or not vector.any():
            msg = (
                f"{path}: {recording.name!r} has {len(vector)} numbers, expected {dim} finite ones that are not all 0."
            )
            raise ConfigError(msg)
    for recording in known[:: max(1, len(known) // _CHECKED_RECORDINGS)][:_CHECKED_RECORDINGS]:
        (ours,) = embed_batch(encoder, Batch([recording], recording.seconds))
        check_usable(type(encoder.encoder).__name__, [ours])
        cosine = float(torch.cosine_similarity(ours.embedding, d_vectors[recording.name], dim=0))
        if cosine < _MIN_SAME_ENCODER_COSINE:
            msg = (
                f"{path}: the embedding of {recording.name!r} has a cosine of {cosine:.2f} with the one that this "
                f"encoder computes, expected at least {_MIN_SAME_ENCODER_COSINE}: another encoder made the file."
            )
            raise ConfigError(msg)


def export_d_vectors(path: Path, recordings: Sequence[Recording], embeddings: Tensor) -> None:
    """Write a d-vector file, which `model_args.d_vector_file` can name.

    Args:
        path: File that ends in `.pth` or `.json`.
        recordings: N recordings.
        embeddings: Their embeddings, `[N, D]`.

    Raises:
        ConfigError: the file cannot be written.
    """
    content = {
        recording.name: {"name": recording.speaker, "embedding": embedding.tolist()}
        for recording, embedding in zip(recordings, embeddings, strict=True)
    }
    try:
        with replacing(path) as temporary:
            save_file(content, temporary)
    except OSError as error:
        raise ConfigError(f"The d-vector file {path} cannot be written: {error}.") from error
