"""Console table, plot and `results.json` of the demo."""

import json
import shlex
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from coqui_scl_plugin.demo.arms import ARMS
from coqui_scl_plugin.demo.speech import SPEECH
from coqui_scl_plugin.evaluation.plots import ROLES
from coqui_scl_plugin.utils.atomic import replacing


def _rows(results: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield encoder, role and kind of speech of each row."""
    for role, encoders in results["encoders"].items():
        for encoder in encoders:
            for kind in SPEECH:
                yield encoder, ROLES[role], kind


def _mean_secs(results: dict[str, Any], arm: str, kind: str, encoder: str) -> float:
    return statistics.mean(results["arms"][arm]["secs"][kind][encoder])


def table(results: dict[str, Any]) -> Table:
    """Return a table of SECS of both arms, beside cosines of real speech, and of the time of a step."""
    shown = Table(title="SECS of held-out sentences", title_justify="left")
    shown.add_column("speaker encoder")
    for column in ("no SCL", "SCL", "change", "real, other", "real, same"):
        shown.add_column(column, justify="right")
    for encoder, role, kind in _rows(results):
        without, with_scl = (_mean_secs(results, arm, kind, encoder) for arm in ARMS)
        calibration = results["real_speech"][encoder]
        real = (f"{calibration[end]:.3f}" if end in calibration else "-" for end in ("floor", "ceiling"))
        if kind == next(iter(SPEECH)):
            shown.add_row(f"{encoder}, {role}", "", "", "", *real)
        shown.add_row(f"  {SPEECH[kind]}", f"{without:.3f}", f"{with_scl:.3f}", f"{with_scl - without:+.3f}", "", "")
    seconds = [results["arms"][arm]["seconds_per_step"] for arm in ARMS]
    shown.add_row("seconds per step", *(f"{s:.2f}" for s in seconds), f"{seconds[1] - seconds[0]:+.2f}", "", "")
    return shown


def show(console: Console, results: dict[str, Any], out: Path) -> None:
    """Print the table, whether an encoder moved, the files written, and how to evaluate both runs."""
    arm = results["arms"]["with_scl"]
    console.print(table(results))
    for encoder, before in arm["encoders_before"].items():
        after = arm["encoders_after"][encoder]
        found = "not a bit moved" if before == after else "it MOVED"
        console.print(f"{encoder} before: {before}, after: {after}: {found}.", highlight=False)
    console.print(
        "One seed and few steps: this shows that the machinery works, not how much the loss helps.", highlight=False
    )
    console.print(f"Written to {out}: results.json, demo.png, audio/, runs/", highlight=False, markup=False)
    command = shlex.join(["coqui-scl", "evaluate", *(results["arms"][arm]["run"] for arm in ARMS)])
    console.print(f"To evaluate both runs: {command}", highlight=False, markup=False, soft_wrap=True)


def write(out: Path, results: dict[str, Any]) -> None:
    """Write `results.json` and `demo.png`, each whole or not at all."""
    with replacing(out / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2), encoding="utf-8")
    figure = Figure(figsize=(14, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _plot_secs(left, results)
    _plot_training(right, results)
    with replacing(out / "demo.png") as temporary:
        figure.savefig(temporary, dpi=110)


def _plot_secs(axes: Axes, results: dict[str, Any]) -> None:
    rows = list(_rows(results))
    for shift, (arm, label) in zip((-0.2, 0.2), ARMS.items(), strict=True):
        heights = [_mean_secs(results, arm, kind, encoder) for encoder, _, kind in rows]
        hatch = "//" if arm == "with_scl" else None
        places = [x + shift for x in range(len(rows))]
        drawn = axes.bar(places, heights, width=0.4, label=label, hatch=hatch, edgecolor="black")
        box = {"facecolor": "white", "linewidth": 0, "pad": 1}
        axes.bar_label(drawn, fmt="%.2f", label_type="center", fontsize=8, bbox=box)
    for x, (encoder, _, _) in enumerate(rows):
        for end, style in (("floor", "k:"), ("ceiling", "k--")):
            if end in results["real_speech"][encoder]:
                value = results["real_speech"][encoder][end]
                axes.plot([x - 0.45, x + 0.45], [value, value], style, linewidth=1)
    axes.plot([], [], "k:", linewidth=1, label="real, other speaker")
    axes.plot([], [], "k--", linewidth=1, label="real, same speaker")
    names = [f"{encoder}\n({role})\n{SPEECH[kind]}" for encoder, role, kind in rows]
    axes.set(xticks=range(len(rows)), ylabel="SECS, held-out sentences", ylim=(0, 1.05))
    axes.set_xticklabels(names, fontsize=8)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=4, fontsize=8)


def _plot_training(axes: Axes, results: dict[str, Any]) -> None:
    for (arm, label), style in zip(ARMS.items(), ("-", "--"), strict=True):
        axes.plot(results["arms"][arm]["history"]["loss_mel"], style, label=f"mel loss {label}")
    axes.set(xlabel="step", ylabel="mel loss (× 45)")
    right, history = axes.twinx(), results["arms"]["with_scl"]["history"]
    for number, encoder in enumerate(results["encoders"]["training"]):
        cosine = history.get(f"reference_cosine_{encoder}", [])
        steps = [results["every_n_steps"] * index for index in range(len(cosine))]
        style = ("-", ":", "-.", "--")[number % 4]
        right.plot(steps, cosine, style, color="tab:green", linewidth=1, label=f"cosine in training, {encoder}")
    right.set(ylabel="cosine with the reference")
    lines = [*axes.get_lines(), *right.get_lines()]
    labels = [str(line.get_label()) for line in lines]
    axes.legend(lines, labels, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8)
