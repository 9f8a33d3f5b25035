"""`python -m benchmarks.speed.page`: the tables of docs/speed.md, from `benchmarks/results.json`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import table
from benchmarks.speed import results
from benchmarks.speed.figures import FIGURES, Column
from benchmarks.speed.targets import TARGETS
from coqui_scl_plugin.utils.atomic import replacing

DOCS = Path(__file__).parents[2] / "docs" / "speed"
ONE_THREAD = "{}, 1 thread"
"""Name of a figure that was measured with one thread, from that of the figure."""
_MADE_BY = "<!-- made by `python -m benchmarks.speed` -->\n"


def _number(value: float, column: Column) -> str:
    return f"{100 * value:.{column.digits}f} %" if column.percent else f"{value:,.{column.digits}f}"


def cell(value: Any, column: Column) -> str:
    """Return a value for a table: a number, or the median of several and their quartiles."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        median, low, high = (_number(value[key], column) for key in ("median", "low", "high"))
        return median if low == high else f"{median} ({low}–{high})"
    return _number(value, column)


def targets_table(figures: dict[str, Any]) -> str:
    """Return what was measured beside what it ought to be."""
    rows = []
    for target in TARGETS:
        column = Column("", target.digits, target.percent)
        value = target.value(figures)
        bound = ("at least " if target.at_least else "at most ") + _number(target.bound, column)
        met = "not measured" if value is None else "met" if target.is_met(value) else "**not met**"
        rows.append([target.what, "–" if value is None else _number(float(value), column), bound, met])
    return table(["figure", "measured", "target", ""], rows)


def figure_table(name: str, figures: dict[str, Any]) -> str:
    """Return the table of a figure, and a line that says how it was measured."""
    figure = FIGURES[name]
    records = [figures[key] for key in (name, ONE_THREAD.format(name)) if key in figures]
    several = len({record["threads"] for record in records}) > 1
    rows = []
    for record in records:
        first = [str(record["threads"])] if several else []
        cells = ([cell(row.get(key), column) for key, column in figure.columns.items()] for row in record["rows"])
        rows += [[row["case"], *first, *own] for row, own in zip(record["rows"], cells, strict=True)]
    titles = [figure.case, *(["threads"] if several else []), *(column.title for column in figure.columns.values())]
    return f"{table(titles, rows)}\n{_how(records)}\n"


def _how(records: Sequence[dict[str, Any]]) -> str:
    """Say how records were measured, in a line."""
    how = []
    for record in records:
        threads = f"{record['threads']} thread{'s' if record['threads'] > 1 else ''}"
        clock = "CPU time" if record["cpu_time"] else "wall time"
        when = f"revision {record['revision']} on {record['when'][:10]}"
        how.append(f"{threads} of a CPU with {record['cpu']}, {clock}, {when}")
    return f"*{'; '.join(dict.fromkeys(how))}.*" if how else ""


def write_page(figures: dict[str, Any], docs: Path = DOCS) -> None:
    """Write a table a file."""
    docs.mkdir(parents=True, exist_ok=True)
    parts = {"targets": targets_table(figures), **{name: figure_table(name, figures) for name in FIGURES}}
    for name, part in parts.items():
        with replacing(docs / f"{name}.md") as temporary:
            temporary.write_text(_MADE_BY + part, encoding="utf-8")


def main() -> None:
    """Write the tables."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    write_page(results.read())


if __name__ == "__main__":
    main()
