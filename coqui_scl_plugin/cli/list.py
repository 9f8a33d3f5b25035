"""`coqui-scl list`."""

import json
import sys
from typing import Annotated

import typer

from coqui_scl_plugin.plugins.optional import offers_features


def list_registered(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List every loss, speaker encoder and freeze policy, with the distribution that registered it."""
    from rich.console import Console
    from rich.table import Table

    from coqui_scl_plugin.plugins import registry

    rows = [
        {"kind": kind, "name": name, "distribution": entry.distribution, "summary": _summary(kind, entry.cls)}
        for kind in registry.KINDS
        for name, entry in sorted(registry.installed().entries(kind).items())
    ]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table("kind", "name", "registered by", "what it is")
    for row in rows:
        table.add_row(registry.KINDS[row["kind"]], row["name"], row["distribution"], row["summary"])
    Console().print(table)


def _summary(kind: str, cls: type) -> str:
    first = (cls.__doc__ or "").strip().partition("\n")[0]
    return f"{first} Has feature maps." if kind == "encoders" and offers_features(cls) else first
