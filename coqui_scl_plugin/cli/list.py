"""`coqui-scl list`."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.plugins.optional import evidence, offers_features
from coqui_scl_plugin.utils.shown import shown
from coqui_scl_plugin.utils.suggest import did_you_mean

if TYPE_CHECKING:
    from coqui_scl_plugin.plugins.registry import Entry


def list_registered(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="List these alone: losses, encoders or freeze_policies.")
    ] = None,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Explain this one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every loss, speaker encoder and freeze policy, with the distribution that registered it.

    With a kind and a name, such as losses angular_margin, explain one: its parameters with defaults and ranges, what it
    costs, and what it did in the ablation.
    """
    from coqui_scl_plugin.plugins import registry

    if kind is not None and kind not in registry.KINDS:
        raise ConfigError(f"{shown(kind)}: no kind has this name. {did_you_mean(kind, registry.KINDS)}")
    if kind is not None and name is not None:
        entries = registry.installed().entries(kind)
        if name not in entries:
            what = f"no {registry.KINDS[kind]} of this name is registered."
            raise ConfigError(f"{shown(name)}: {what} {did_you_mean(name, entries)}")
        _explain(kind, name, entries[name], as_json=as_json)
        return
    rows = [
        {"kind": one, "name": name, "distribution": entry.distribution, "summary": _summary(one, entry.cls)}
        for one in registry.KINDS
        if kind in (None, one)
        for name, entry in sorted(registry.installed().entries(one).items())
    ]
    _show(rows, as_json=as_json)


def _show(rows: list[dict[str, str]], *, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from coqui_scl_plugin.plugins import registry

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


def _explain(kind: str, name: str, entry: "Entry", *, as_json: bool) -> None:
    import inspect

    from coqui_scl_plugin.plugins import registry
    from coqui_scl_plugin.plugins.describe import parameters_of

    parameters = parameters_of(entry.cls)
    about = inspect.cleandoc(entry.cls.__doc__ or "")
    if as_json:
        report: dict[str, Any] = {
            "kind": kind, "name": name, "distribution": entry.distribution, "about": about,
            "parameters": [vars(parameter) for parameter in parameters], "evidence": evidence(entry.cls),
        }  # fmt: skip
        sys.stdout.write(json.dumps(report, indent=2, default=str) + "\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(f"{registry.KINDS[kind]} {name}, registered by {entry.distribution}\n\n{about}\n"))
    table = Table("parameter", "default", "values", "meaning")
    for one in parameters:
        default = "required" if one.is_required else json.dumps(one.default, default=str)
        table.add_row(*map(Text, (one.name, default, one.values, one.meaning)))
    console.print(table if parameters else "It has no parameters.")
    if said := evidence(entry.cls):
        console.print(Text(f"\n{said}"))
