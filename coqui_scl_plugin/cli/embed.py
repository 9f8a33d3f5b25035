"""`coqui-scl embed`: fill the reference cache, read and write d-vector files, and say what is there."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.d_vectors import SUFFIXES, export_d_vectors, import_d_vectors
from coqui_scl_plugin.coqui.run_config import list_samples, read_config, resolved_config
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.preflight.recordings import check_names
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings
from coqui_scl_plugin.references.fill import embed_recordings
from coqui_scl_plugin.references.recordings import recordings_of
from coqui_scl_plugin.utils.suggest import did_you_mean


@dataclass(frozen=True)
class Row:
    """One encoder's line of the result."""

    encoder: str
    recordings: int
    embedded: int
    """How many of them were not in the cache."""
    floor: float | None
    """Mean cosine of different speakers; None where the data is too small for it."""
    ceiling: float | None
    """Mean cosine of different recordings of one speaker."""


def _chosen(alias: str | None, consistency: SpeakerConsistency) -> str:
    """The encoder that a d-vector file is of. Raises ConfigError where that is not clear."""
    known = list(consistency.encoders)
    if alias is None and len(known) == 1:
        return known[0]
    if alias is None:
        raise ConfigError(f"--encoder: say which encoder the d-vector file is of: {', '.join(known)}.")
    if alias not in known:
        raise ConfigError(f"--encoder {alias}: the config has no encoder of this alias. {did_you_mean(alias, known)}")
    return alias


def _check_d_vector_files(import_file: Path | None, export_file: Path | None) -> None:
    for option, file in (("--import", import_file), ("--export", export_file)):
        if file is not None and file.suffix not in SUFFIXES:
            raise ConfigError(f"{option} {file}: must end in {' or '.join(SUFFIXES)}.")
    if import_file is not None and not import_file.is_file():
        raise ConfigError(f"--import {import_file}: there is no such file.")


def run_embed(
    config_path: str,
    overrides: Sequence[str],
    import_file: Path | None,
    export_file: Path | None,
    encoder: str | None,
    *,
    as_json: bool,
) -> None:
    """Do the whole job; the options are those of the command line.

    Raises:
        ConfigError: the config, an option, the data or a file cannot be used.
        EncoderError: an encoder cannot be loaded.
        PreflightError: two recordings have one name.
    """
    config = resolved_config(read_config(config_path), overrides)
    _check_d_vector_files(import_file, export_file)
    if not config.scl.encoders:
        raise ConfigError("scl.encoders = []: there is no encoder to embed with; name at least one.")
    train_samples, eval_samples = list_samples(config)
    check_names([*train_samples, *eval_samples])
    recordings = recordings_of(train_samples, eval_samples)
    consistency = SpeakerConsistency.from_config(config.scl)
    chosen = _chosen(encoder, consistency) if import_file or export_file or encoder else None
    consistency.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    cache = ReferenceCache.load(config.reference_cache)
    if import_file is not None and chosen is not None:
        count = import_d_vectors(import_file, cache, consistency.segment_encoders[chosen], recordings)
        cache.save()
        sys.stderr.write(f"{count} embeddings of {chosen} taken from {import_file}.\n")
    started = time.perf_counter()
    speech, embedded = embed_recordings(consistency.segment_encoders, recordings, cache)
    seconds = time.perf_counter() - started
    if export_file is not None and chosen is not None:
        export_d_vectors(export_file, recordings, speech.embeddings[chosen])
    rows = [_row(alias, len(recordings), count, speech) for alias, count in embedded.items()]
    if as_json:
        result = {"cache": str(cache.path or ""), "seconds": seconds, "encoders": [asdict(row) for row in rows]}
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        _print(rows, cache.path, seconds)


def _row(alias: str, recordings: int, embedded: int, speech: ReferenceEmbeddings) -> Row:
    levels = speech.levels(alias)
    return Row(
        alias, recordings, embedded, floor=levels.floor if levels else None, ceiling=levels.ceiling if levels else None
    )


def _print(rows: Sequence[Row], path: Path | None, seconds: float) -> None:
    table = Table("encoder", title=f"Embedded in {seconds:.1f} s, kept in {path or 'memory'}", title_justify="left")
    for column in ("recordings", "embedded now", "different speakers", "same speaker"):
        table.add_column(column, justify="right")
    for row in rows:
        levels = ("-" if level is None else f"{level:.3f}" for level in (row.floor, row.ceiling))
        table.add_row(row.encoder, str(row.recordings), str(row.embedded), *levels)
    Console().print(table)
