"""What a demo shows and writes."""

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

from coqui_scl_plugin.demo.arms import ARMS


def _mean_secs(results: dict[str, Any], arm: str, encoder: str) -> float:
    return statistics.mean(results["arms"][arm]["secs"][encoder])


def table(results: dict[str, Any]) -> Table:
    """SECS on held-out recordings for both runs, beside real speech of another and the same speaker; time of a step."""
    shown = Table(title="SECS of reconstructed held-out recordings", title_justify="left")
    shown.add_column("speaker encoder")
    for column in ("no SCL", "SCL", "change", "real, other", "real, same"):
        shown.add_column(column, justify="right")
    for role, encoder in results["encoders"].items():
        without, with_scl = (_mean_secs(results, arm, encoder) for arm in ARMS)
        levels = results["real_speech"][encoder]
        name = f"{encoder}, {'trained against' if role == 'training' else 'took no part'}"
        real = (f"{levels[level]:.3f}" if level in levels else "-" for level in ("floor", "ceiling"))
        shown.add_row(name, f"{without:.3f}", f"{with_scl:.3f}", f"{with_scl - without:+.3f}", *real)
    seconds = [results["arms"][arm]["seconds_per_step"] for arm in ARMS]
    shown.add_row("seconds per step", *(f"{s:.2f}" for s in seconds), f"{seconds[1] - seconds[0]:+.2f}", "", "")
    return shown


def show(console: Console, results: dict[str, Any], out: Path) -> None:
    """Print the table and what surrounds it."""
    arm, encoder = results["arms"]["with_scl"], results["encoders"]["training"]
    console.print(table(results))
    verdict = "it MOVED" if results["encoder_moved"] else "not a bit moved"
    console.print(
        f"{encoder} before: {arm['encoder_before']}, after: {arm['encoder_after']}: {verdict}.",
        highlight=False,
    )
    console.print(
        "One seed and few steps: this shows that the machinery works, not how much the loss helps.", highlight=False
    )
    console.print(f"Written to {out}: results.json, demo.png, audio/, runs/", highlight=False)


def write(out: Path, results: dict[str, Any]) -> None:
    """Write `results.json` and `demo.png`, each under a temporary name first."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json.tmp").write_text(json.dumps(results, indent=2), encoding="utf-8")
    (out / "results.json.tmp").replace(out / "results.json")
    _plot(results, out / "demo.tmp.png")
    (out / "demo.tmp.png").replace(out / "demo.png")


def _plot(results: dict[str, Any], path: Path) -> None:
    figure, (bars, course) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    roles = results["encoders"]
    names = [f"{roles['training']}\n(trained against)", f"{roles['held_out']}\n(took no part)"]
    for shift, (arm, label) in zip((-0.2, 0.2), ARMS.items(), strict=True):
        heights = [_mean_secs(results, arm, encoder) for encoder in roles.values()]
        hatch = "//" if arm == "with_scl" else None
        drawn = bars.bar([x + shift for x in range(2)], heights, width=0.4, label=label, hatch=hatch, edgecolor="black")
        bars.bar_label(drawn, fmt="%.3f", label_type="center", bbox={"facecolor": "white", "linewidth": 0})
    for x, encoder in enumerate(roles.values()):
        for level, style in (("floor", ":"), ("ceiling", "--")):
            if level in results["real_speech"][encoder]:
                value = results["real_speech"][encoder][level]
                bars.hlines(value, x - 0.45, x + 0.45, colors="black", linestyles=style, linewidth=1)
    bars.plot([], [], "k:", linewidth=1, label="real, other speaker")
    bars.plot([], [], "k--", linewidth=1, label="real, same speaker")
    bars.set(xticks=range(2), xticklabels=names, ylabel="SECS, held-out recordings", ylim=(0, 1.05))
    bars.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    for (arm, label), style in zip(ARMS.items(), ("-", "--"), strict=True):
        course.plot(results["arms"][arm]["history"]["loss_mel"], style, label=f"mel loss {label}")
    course.set(xlabel="step", ylabel="mel loss (× 45)")
    cosine = results["arms"]["with_scl"]["history"].get(f"secs_{roles['training']}", [])
    right = course.twinx()
    right.plot(cosine, color="tab:green", linewidth=1, label=f"cosine in training, {roles['training']}")
    right.set(ylabel="cosine of generated and reference")
    lines = [*course.get_lines(), *right.get_lines()]
    course.legend(
        lines, [str(line.get_label()) for line in lines], loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=1
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
