"""Similarities of an evaluation, in the console and in TensorBoard."""

import logging
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.table import Table

from coqui_scl_plugin.monitoring.history import named_similarities
from coqui_scl_plugin.monitoring.monitor import SimilarityMonitor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


class Dashboard(Protocol):
    """Receiver of scalars and figures, such as the dashboard logger of Coqui's trainer."""

    def add_scalars(self, scope_name: str, scalars: dict[str, float], step: int) -> Any:
        """Add scalars of one step."""

    def add_figure(self, title: str, figure: "Figure", step: int) -> Any:
        """Add a figure of one step."""


def _table(monitor: SimilarityMonitor) -> Table:
    from coqui_scl_plugin.evaluation.plots import ROLES

    row, changes = monitor.rows[-1], monitor.changes()
    title = f"Similarity of reconstructed recordings to their speakers at step {row.step}"
    table = Table(title=title, title_justify="left")
    table.add_column("speaker encoder")
    for column in ("cross-utterance", "calibrated", f"since step {monitor.rows[0].step}"):
        table.add_column(column, justify="right")
    for alias, similarity in row.cross_utterance.items():
        calibrated = f"{row.calibrated[alias]:.2f}" if alias in row.calibrated else "-"
        change = f"{changes[alias]:+.3f}" if alias in changes else "-"
        table.add_row(f"{alias}, {ROLES[monitor.roles[alias]]}", f"{similarity:.3f}", calibrated, change)
    return table


def publish_similarity(monitor: SimilarityMonitor, dashboard: Dashboard) -> None:
    """Print the latest evaluation and its flags; add its scalars and the figure of the history to the dashboard."""
    from coqui_scl_plugin.evaluation.plots import history_figure  # with matplotlib, which no start of a run needs

    row = monitor.rows[-1]
    Console().print(_table(monitor))
    if row.flags:
        logger.warning("At step %d: %s.", row.step, row.flags)
    scalars = named_similarities(row.cross_utterance, row.calibrated)
    dashboard.add_scalars("SpeakerSimilarity", scalars, row.step)
    figure = history_figure([one.flat() for one in monitor.rows], monitor.roles)
    dashboard.add_figure("SpeakerSimilarity/history", figure, row.step)
