"""The score of a listening test for the console."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coqui_scl_plugin.utils.shown import shorten

_ASKED = {"similarity": "is more like the person", "naturalness": "sounds more natural"}


def print_score(console: Console, scores: Mapping[str, Any]) -> None:
    """Print a table of each part, how listeners did in the catch trials, and what is left out."""
    first, second = (escape(shorten(scores["runs"][run])) for run in "AB")
    for part, found in scores["parts"].items():
        table = Table(title=f"How often {second} {_ASKED[part]}, rather than {first}", title_justify="left")
        table.add_column("answers of")
        for column in ("share", f"{100 * scores['confidence']:.0f} % interval", "answers", "p"):
            table.add_column(column, justify="right")
        for name, cells in _rows(found):
            table.add_row(name, *cells)
        console.print(table)
    for one in scores["listeners"]:
        catch = one["catch"]
        console.print(
            f"{shorten(one['listener'])}: {one['answered']} answers, catch trials {catch['right']} of "
            f"{catch['answered']} right.", highlight=False, markup=False,
        )  # fmt: skip
    for warning in scores["warnings"]:
        console.print(f"Note: {warning}", highlight=False, markup=False)


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "all", _cells(found["overall"])
    for kind in ("speakers", "listeners"):
        if (mean := found[f"over_{kind}"]) is not None and mean["low"] is not None:
            yield f"all, mean over {kind}", (*_percent(mean, mean["mean"]), "", "")
    for kind in ("speakers", "listeners"):
        for name, share in found[kind].items():
            yield f"  {kind[:-1]} {escape(shorten(name))}", _cells(share)


def _cells(share: Mapping[str, Any]) -> tuple[str, ...]:
    if share["share"] is None:
        return "-", "-", "0", "-"
    return *_percent(share, share["share"]), str(share["answers"]), f"{share['p_value']:.2g}"


def _percent(interval: Mapping[str, Any], value: float) -> tuple[str, str]:
    return f"{100 * value:.0f} %", f"[{100 * interval['low']:.0f}, {100 * interval['high']:.0f}] %"
