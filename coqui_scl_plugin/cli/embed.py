"""`coqui-scl embed`: fill the reference cache, and read and write d-vector files."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.suggest import did_you_mean

if TYPE_CHECKING:
    from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
    from coqui_scl_plugin.references.embeddings import ReferenceEmbeddings


def embed(
    ctx: typer.Context,
    config_path: Annotated[str, typer.Option("--config_path", help="Config of the run: JSON or YAML.")],
    import_file: Annotated[
        Path | None, typer.Option("--import", help="Take embeddings from Coqui's speakers.pth or speakers.json.")
    ] = None,
    export_file: Annotated[
        Path | None, typer.Option("--export", help="Write the embeddings as such a file, for d_vector_file.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Alias of the encoder of --import and --export, where there are several.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Fill the reference cache: embed every recording of the config once; training does it too where it must.

    What is in the cache is not embedded again, unless its file changed. An interrupted run keeps what it has. At the
    end of the line, --coqpit.KEY VALUE overrides single values of the config.
    """
    from coqui_scl_plugin.config import read_config_file

    content = read_config_file(config_path)  # said before the imports of seconds and of hundreds of MB that follow
    from coqui_scl_plugin.coqui.d_vectors import check_d_vector_files
    from coqui_scl_plugin.coqui.run_config import usable_config, with_sections

    config = usable_config(with_sections(content), ctx.args)
    check_d_vector_files(import_file, export_file)
    if not config.scl.encoders:
        raise ConfigError("scl.encoders = []: there is no encoder to embed with; name at least one.")
    rows, seconds = _fill_cache(config, import_file, export_file, encoder)
    _show(rows, config.reference_cache, seconds, as_json=as_json)


def _fill_cache(
    config: "SclVitsConfig", import_file: Path | None, export_file: Path | None, alias: str | None
) -> tuple[list[dict[str, Any]], float]:
    """Embed the recordings of the config, and return one row an encoder, and the seconds that embedding took."""
    import torch

    from coqui_scl_plugin.consistency.build import build_consistency
    from coqui_scl_plugin.coqui.d_vectors import export_d_vectors, import_d_vectors
    from coqui_scl_plugin.coqui.samples import list_samples
    from coqui_scl_plugin.preflight.recordings import check_names
    from coqui_scl_plugin.references.cache import ReferenceCache
    from coqui_scl_plugin.references.fill import embed_recordings
    from coqui_scl_plugin.references.recordings import recordings_of

    train_samples, eval_samples = list_samples(config)
    check_names([*train_samples, *eval_samples])
    recordings = recordings_of(train_samples, eval_samples)
    encoders = build_consistency(config.scl).encoders
    chosen = _chosen(alias, list(encoders)) if import_file or export_file or alias else ""
    encoders.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    cache = ReferenceCache.load(config.reference_cache)
    if import_file is not None:
        count = import_d_vectors(import_file, cache, encoders[chosen], recordings)
        cache.save()
        sys.stderr.write(f"{count} embeddings of {chosen} taken from {import_file}.\n")
    started = time.perf_counter()
    embeddings, embedded = embed_recordings(encoders.segment_encoders, recordings, cache)
    seconds = time.perf_counter() - started
    if export_file is not None:
        export_d_vectors(export_file, recordings, embeddings.by_encoder[chosen])
    rows = [
        {"encoder": alias, "recordings": len(recordings), "embedded": count, **_calibration(embeddings, alias)}
        for alias, count in embedded.items()
    ]
    return rows, seconds


def _chosen(alias: str | None, known: list[str]) -> str:
    """Return the encoder that a d-vector file is of. Raises ConfigError where that is not clear."""
    if alias is None and len(known) == 1:
        return known[0]
    if alias is None:
        raise ConfigError(f"--encoder: say which encoder the d-vector file is of: {', '.join(known)}.")
    if alias not in known:
        raise ConfigError(f"--encoder {alias}: the config has no encoder of this alias. {did_you_mean(alias, known)}")
    return alias


def _calibration(embeddings: "ReferenceEmbeddings", alias: str) -> dict[str, float | None]:
    """Return floor and ceiling by name; None where the data is too small to measure them."""
    floor, ceiling = embeddings.calibration(alias) or (None, None)
    return {"floor": floor, "ceiling": ceiling}


def _show(rows: Sequence[dict[str, Any]], path: Path | None, seconds: float, *, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    if as_json:
        result = {"cache": str(path or ""), "seconds": seconds, "encoders": list(rows)}
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    table = Table("encoder", title=f"Embedded in {seconds:.1f} s, kept in {path or 'memory'}", title_justify="left")
    for column in ("recordings", "embedded now", "different speakers", "same speaker"):
        table.add_column(column, justify="right")
    for row in rows:
        cosines = ("-" if row[name] is None else f"{row[name]:.3f}" for name in ("floor", "ceiling"))
        table.add_row(row["encoder"], str(row["recordings"]), str(row["embedded"]), *cosines)
    Console().print(table)
