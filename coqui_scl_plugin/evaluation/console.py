"""Tables of results for the console."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coqui_scl_plugin.evaluation.judges import COMPARED, name_of, rows_of
from coqui_scl_plugin.evaluation.plots import ROLES
from coqui_scl_plugin.evaluation.results import evaluations_of
from coqui_scl_plugin.evaluation.verification import MEASURES

_MAX_NOTES = 100
"""Notes on an evaluation that the console shows."""


def _interval(value: Mapping[str, float | None] | None) -> str:
    if value is None:
        return "-"
    if value["low"] is None:
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(label: str, evaluation: Mapping[str, Any]) -> Table:
    title = f"{label}: synthetic speech of {len(evaluation['speakers'])} speakers"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("speaker encoder")
    for column in ("SECS", "cross-utterance", "calibrated", "EER %", "minDCF", "real EER %"):
        table.add_column(column, justify="right")
    for alias, scores in evaluation["encoders"].items():
        table.add_row(
            f"{alias}, {ROLES[scores['role']]}", *(_interval(scores[measure]) for measure in MEASURES),
            _number(scores["eer"], 2), _number(scores["min_dcf"], 3), _number(scores["real_eer"], 2),
        )  # fmt: skip
    return table


def _judges_table(label: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    table = Table(title=escape(f"{label}: quality and intelligibility"), title_justify="left")
    table.add_column("measure")
    for column in ("synthetic", "real"):
        table.add_column(column, justify="right")
    for name, found in rows:
        table.add_row(escape(name), _interval(found["synthetic"]), _interval(found["real"]))
    return table


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """Print the tables and warnings of each evaluation, and the differences between evaluations that matter most."""
    for label, evaluation in evaluations_of(results).items():
        console.print(_table(label, evaluation))
        if rows := rows_of(evaluation):
            console.print(_judges_table(label, rows))
        for warning in evaluation["warnings"][:_MAX_NOTES]:
            console.print(f"Note: {warning}", highlight=False, markup=False)
        if more := evaluation["warnings"][_MAX_NOTES:]:
            console.print(f"Note: {len(more)} more notes are in results.json and report.html.", highlight=False)
    for row in results.get("comparisons", []):
        judged = row["measure"] in COMPARED
        if judged or row["measure"] == "calibrated_cross_utterance":
            compared = f"{row['encoder']}, calibrated cross-utterance"
            if judged:
                compared = name_of(row["measure"], row["language"])
            found = "distinguishable from zero" if row["distinguishable"] else "not distinguishable from zero"
            console.print(
                f"{row['evaluation']} minus {row['baseline']}, {compared}: "
                f"{_interval(row['difference'])}, {found}.", highlight=False, markup=False,
            )  # fmt: skip
