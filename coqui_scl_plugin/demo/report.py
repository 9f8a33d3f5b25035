"""Console table, plot and `results.json` of the demo."""

import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from coqui_scl_plugin.demo.arms import ARMS
from coqui_scl_plugin.evaluation.plots import ROLES
from coqui_scl_plugin.utils.atomic import replacing

_ROLES = {"training": ROLES["training"], "held_out": ROLES["holdout"]}


def _mean_secs(results: dict[str, Any], arm: str, encoder: str) -> float:
    return statistics.mean(results["arms"][arm]["secs"][encoder])


def table(results: dict[str, Any]) -> Table:
    """Return a table of SECS of both arms, beside cosines of real speech, and of the time of a step."""
    shown = Table(title="SECS of reconstructed held-out recordings", title_justify="left")
    shown.add_column("speaker encoder")
    for column in ("no SCL", "SCL", "change", "real, other", "real, same"):
        shown.add_column(column, justify="right")
    for role, encoder in results["encoders"].items():
        without, with_scl = (_mean_secs(results, arm, encoder) for arm in ARMS)
        calibration = results["real_speech"][encoder]
        real = (f"{calibration[end]:.3f}" if end in calibration else "-" for end in ("floor", "ceiling"))
        name = f"{encoder}, {_ROLES[role]}"
        shown.add_row(name, f"{without:.3f}", f"{with_scl:.3f}", f"{with_scl - without:+.3f}", *real)
    seconds = [results["arms"][arm]["seconds_per_step"] for arm in ARMS]
    shown.add_row("seconds per step", *(f"{s:.2f}" for s in seconds), f"{seconds[1] - seconds[0]:+.2f}", "", "")
    return shown


def show(console: Console, results: dict[str, Any], out: Path) -> None:
    """Print the table, whether the encoder moved, and the files written."""
    arm, encoder = results["arms"]["with_scl"], results["encoders"]["training"]
    console.print(table(results))
    found = "it MOVED" if results["encoder_moved"] else "not a bit moved"
    console.print(
        f"{encoder} before: {arm['encoder_before']}, after: {arm['encoder_after']}: {found}.", highlight=False
    )
    console.print(
        "One seed and few steps: this shows that the machinery works, not how much the loss helps.", highlight=False
    )
    console.print(f"Written to {out}: results.json, demo.png, audio/, runs/", highlight=False)


def write(out: Path, results: dict[str, Any]) -> None:
    """Write `results.json` and `demo.png`, each whole or not at all."""
    with replacing(out / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2), encoding="utf-8")
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _plot_secs(left, results)
    _plot_training(right, results)
    with replacing(out / "demo.png") as temporary:
        figure.savefig(temporary, dpi=110)


def _plot_secs(axes: Axes, results: dict[str, Any]) -> None:
    encoders = results["encoders"]
    for shift, (arm, label) in zip((-0.2, 0.2), ARMS.items(), strict=True):
        heights = [_mean_secs(results, arm, encoder) for encoder in encoders.values()]
        hatch = "//" if arm == "with_scl" else None
        drawn = axes.bar([x + shift for x in range(2)], heights, width=0.4, label=label, hatch=hatch, edgecolor="black")
        axes.bar_label(drawn, fmt="%.3f", label_type="center", bbox={"facecolor": "white", "linewidth": 0})
    for x, encoder in enumerate(encoders.values()):
        for end, style in (("floor", "k:"), ("ceiling", "k--")):
            if end in results["real_speech"][encoder]:
                value = results["real_speech"][encoder][end]
                axes.plot([x - 0.45, x + 0.45], [value, value], style, linewidth=1)
    axes.plot([], [], "k:", linewidth=1, label="real, other speaker")
    axes.plot([], [], "k--", linewidth=1, label="real, same speaker")
    names = [f"{encoder}\n({_ROLES[role]})" for role, encoder in encoders.items()]
    axes.set(xticks=range(2), xticklabels=names, ylabel="SECS, held-out recordings", ylim=(0, 1.05))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)


def _plot_training(axes: Axes, results: dict[str, Any]) -> None:
    for (arm, label), style in zip(ARMS.items(), ("-", "--"), strict=True):
        axes.plot(results["arms"][arm]["history"]["loss_mel"], style, label=f"mel loss {label}")
    axes.set(xlabel="step", ylabel="mel loss (× 45)")
    encoder = results["encoders"]["training"]
    cosine = results["arms"]["with_scl"]["history"].get(f"reference_cosine_{encoder}", [])
    right = axes.twinx()
    right.plot(cosine, color="tab:green", linewidth=1, label=f"cosine in training, {encoder}")
    right.set(ylabel="cosine with the reference")
    lines = [*axes.get_lines(), *right.get_lines()]
    labels = [str(line.get_label()) for line in lines]
    axes.legend(lines, labels, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=1)
