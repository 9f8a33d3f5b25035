"""The similarities of an evaluation, in the console and in TensorBoard."""

import logging

from rich.console import Console
from rich.table import Table
from trainer.logging import BaseDashboardLogger

from coqui_scl_plugin.evaluation.plots import ROLES, history_figure
from coqui_scl_plugin.monitoring.monitor import SimilarityMonitor

logger = logging.getLogger(__name__)


def _table(monitor: SimilarityMonitor) -> Table:
    row, changes = monitor.rows[-1], monitor.changes()
    table = Table(title=f"Similarity of copies to their speakers at step {row.step}", title_justify="left")
    table.add_column("speaker encoder")
    for column in ("SECS", "scaled", f"since step {monitor.rows[0].step}"):
        table.add_column(column, justify="right")
    for alias, secs in row.secs.items():
        scaled = f"{row.scaled[alias]:.2f}" if alias in row.scaled else "-"
        table.add_row(f"{alias}, {ROLES[monitor.roles[alias]]}", f"{secs:.3f}", scaled, f"{changes[alias]:+.3f}")
    return table


def publish_similarity(monitor: SimilarityMonitor, dashboard: BaseDashboardLogger) -> None:
    """Print the latest evaluation and what gives reason for doubt; add scalars and the figure of the history."""
    row = monitor.rows[-1]
    Console().print(_table(monitor))
    if row.flags:
        logger.warning("At step %d: %s.", row.step, row.flags)
    scalars = {f"secs_{alias}": value for alias, value in row.secs.items()}
    scalars |= {f"scaled_{alias}": value for alias, value in row.scaled.items()}
    dashboard.add_scalars("SpeakerSimilarity", scalars, row.step)
    dashboard.add_figure(
        "SpeakerSimilarity/history", history_figure([r.flat() for r in monitor.rows], monitor.roles), row.step
    )
