"""The tables and figures of docs/ablation.md, from the scores of all runs."""

import functools
import itertools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.ablation.arms import Arm
from benchmarks.ablation.bench import ENCODERS
from benchmarks.ablation.outcome import Outcome, mean
from benchmarks.ablation.synthesis import WAYS
from benchmarks.markdown import LEFT, table
from coqui_scl_plugin.evaluation.metrics import Interval
from coqui_scl_plugin.utils.atomic import replacing

_NAMES = {"ge2e": "ge2e", "dvector": "d-vector", "campplus": "CAM++"}
_MEASURES = {
    "f0_median": ("median F0, semitones off", 2),
    "f0_spread": ("spread of F0, semitones off", 2),
    "unvoiced": ("unvoiced", 2),
    "spectrum": ("average spectrum, dB off", 2),
    "mel_loss": ("mel loss", 3),
    "dnsmos": ("DNSMOS", 2),
    "cer": ("character error rate", 2),
}
"""Titles and digits of what is measured beside similarity."""
_COLOURS = dict(zip(ENCODERS, ("#0072B2", "#D55E00", "#000000"), strict=True))
_MARKERS = dict(zip(ENCODERS, ("o", "s", "D"), strict=True))
_SIDES = {"f0_median": "median F0,\nsemitones off", "spectrum": "average spectrum,\ndB off"}

Row = list[str]


_table = functools.partial(table, others=LEFT)


# --- cells ------------------------------------------------------------------------------------------------------------


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "–"
    written = f"{statistics.mean(values):.{digits}f}"
    return f"{written} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else written


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _gain(gain: Interval, digits: int) -> str:
    mark = "**" if gain.excludes_zero() else ""
    return f"{mark}{gain.mean:+.{digits}f}{mark}"


def gain_cell(outcome: Outcome, arm: Arm, way: str, encoder: str) -> str:
    """Return an arm's gain by an encoder with its interval, each seed's if there are several, and † if trained on."""
    if (gain := outcome.gain(arm, way, encoder)) is None:
        return "–"
    bounds = "" if gain.low is None or gain.high is None else f" [{gain.low:+.3f}, {gain.high:+.3f}]"
    of_seeds = [mean(seed) for seed in outcome.gains_of_seeds(arm, way, encoder)]
    seeds = f" ({' '.join(f'{value:+.3f}' for value in of_seeds if value is not None)})" if len(of_seeds) > 1 else ""
    return f"{_gain(gain, 3)}{bounds}{seeds}{' †' if encoder in arm.encoders else ''}"


def measure_cell(outcome: Outcome, arm: Arm, way: str, measure: str) -> str:
    """Return a measure's mean over seeds, and in parentheses the difference from `none`; then how many are unknown."""
    levels, digits = outcome.levels(arm, way, measure), _MEASURES[measure][1]
    if not levels:
        return "–"
    gain = outcome.gain(arm, way, measure) if arm.name != "none" else None
    unknown = outcome.unknown(arm, way, measure)
    without = f", {unknown} unknown" if unknown else ""
    return f"{statistics.mean(levels):.{digits}f}{f' ({_gain(gain, digits)})' if gain else ''}{without}"


# --- tables -----------------------------------------------------------------------------------------------------------


def _grouped(outcome: Outcome, width: int, cells: Callable[[Arm], Row]) -> list[Row]:
    """Return a row for each arm, and above each group one with its name."""
    rows = []
    for group, arms in outcome.groups():
        rows.append([f"*{group}*", *[""] * (width + 1)])
        rows += [[f"`{arm.name}`", outcome.seeds(arm), *cells(arm)] for arm in arms]
    return rows


def arms_table(outcome: Outcome) -> str:
    """Return what each arm answers."""
    rows = [[group, f"`{arm.name}`", arm.question] for group, arms in outcome.groups() for arm in arms]
    return _table(["group", "arm", "what it adds to training"], rows)


def gains_table(outcome: Outcome, way: str) -> str:
    """Return gains in calibrated similarity over `none` of the same seed, by encoder; that of `none` as it is."""

    def cells(arm: Arm) -> Row:
        if arm.name == "none":
            return [f"({_spread(outcome.levels(arm, way, encoder), 3)})" for encoder in ENCODERS]
        return [gain_cell(outcome, arm, way, encoder) for encoder in ENCODERS]

    columns = ["arm", "seeds", *(_NAMES[encoder] for encoder in ENCODERS)]
    return _table(columns, _grouped(outcome, len(ENCODERS), cells))


def error_table(outcome: Outcome, way: str) -> str:
    """Return equal error rates in percent against real speech, by encoder; † where the arm trained against it."""

    def cell(arm: Arm, encoder: str) -> str:
        return _spread(outcome.error_rates(arm, way, encoder), 1) + (" †" if encoder in arm.encoders else "")

    scores = outcome.start["ways"][way]["encoders"]
    rows = [
        ["real speech", "", *(f"{scores[encoder]['real_eer']:.1f}" for encoder in ENCODERS)],
        ["`start`", "", *(f"{scores[encoder]['eer']:.1f}" for encoder in ENCODERS)],
        *_grouped(outcome, len(ENCODERS), lambda arm: [cell(arm, encoder) for encoder in ENCODERS]),
    ]
    return _table(["arm", "seeds", *(_NAMES[encoder] for encoder in ENCODERS)], rows)


def measures_of(outcome: Outcome, way: str) -> list[str]:
    """Return what was measured of a way beside similarity, in any run."""
    judged = [outcome.start, *(run for runs in outcome.runs.values() for run in runs.values())]
    found = {measure for run in judged for measure in run["ways"][way]["measures"]}
    return [measure for measure in _MEASURES if measure in found]


def measures_table(outcome: Outcome, way: str) -> str:
    """Return the measures that are no similarity, with the ends of their scale in real speech and the start."""
    measures = measures_of(outcome, way)
    real, start = outcome.start["real"], outcome.start["ways"][way]["measures"]
    ends = [
        [f"real speech, {end} speaker{'s' * (end == 'other')}", ""]
        + [_number(real[end].get(measure, {}).get("mean"), _MEASURES[measure][1]) for measure in measures]
        for end in ("other", "same")
    ]
    begin = [_number(start.get(measure, {}).get("mean"), _MEASURES[measure][1]) for measure in measures]
    rows = _grouped(
        outcome, len(measures), lambda arm: [measure_cell(outcome, arm, way, measure) for measure in measures]
    )
    columns = ["arm", "seeds", *(_MEASURES[measure][0] for measure in measures)]
    return _table(columns, [*ends, ["`start`", "", *begin], *rows])


def costs_table(outcome: Outcome) -> str:
    """Return the weight, the gradient share, what the loss reports, and how far encoders moved."""

    def cells(arm: Arm) -> Row:
        shares = [share for share in outcome.training(arm, "gradient_share") if share is not None]
        reported = [value for run in outcome.training(arm, "reported_cosines") for value in run.values()]
        runs = [list(run.values()) for run in outcome.training(arm, "drift")]
        drifts = [drift for run in runs for drift in run]
        moved = max(sum(drift["moved"] for drift in run) for run in runs)
        return [
            f"{statistics.mean(outcome.training(arm, 'weight')):.2f}",
            f"{statistics.mean(shares):.2f}" if shares else "–",
            f"{statistics.mean(reported):.3f}" if reported else "–",
            f"{moved} of {sum(drift['tensors'] for drift in runs[0])}" if drifts else "–",
            f"{statistics.mean(drift['cosine_of_embeddings'] for drift in drifts):.3f}" if drifts else "–",
        ]

    columns = [
        "arm", "seeds", "weight", "share of the mel loss's gradient", "cosine that the loss reports at the end",
        "encoder tensors that moved", "cosine of its embeddings before and after",
    ]  # fmt: skip
    return _table(columns, _grouped(outcome, len(columns) - 2, cells))


# --- figures ----------------------------------------------------------------------------------------------------------


def _bar(axes: Axes, gain: Interval | None, row: float, **style: Any) -> None:
    if gain is not None:
        low, high = (gain.mean if bound is None else bound for bound in (gain.low, gain.high))
        # a percentile interval may, by a rounding error, end beside the mean of equal values
        error = [[max(gain.mean - low, 0.0)], [max(high - gain.mean, 0.0)]]
        axes.errorbar(gain.mean, row, xerr=error, capsize=2.5, markersize=6, **style)


def _draw(axes: Axes, outcome: Outcome, way: str, arms: Sequence[Arm]) -> None:
    for row, arm in enumerate(arms):
        for shift, encoder in zip((-0.22, 0.0, 0.22), ENCODERS, strict=True):
            face = "white" if encoder in arm.encoders else _COLOURS[encoder]
            _bar(
                axes, outcome.gain(arm, way, encoder), row + shift, fmt=_MARKERS[encoder], color=_COLOURS[encoder],
                markerfacecolor=face,
            )  # fmt: skip


def plot(outcome: Outcome, way: str) -> Figure:
    """Gains of one way by arm and judge: by encoders, hollow where the arm trained against one, and by no network."""
    arms = [arm for _, group in outcome.groups() for arm in group if arm.name != "none"]
    figure = Figure(figsize=(11, 0.42 * len(arms) + 1.9), layout="constrained")
    sides = {side: title for side, title in _SIDES.items() if any(outcome.gain(arm, way, side) for arm in arms)}
    ratios = (3, *[1.2] * len(sides))
    panels = figure.subplots(1, len(ratios), sharey=True, width_ratios=ratios, squeeze=False)[0]
    _draw(panels[0], outcome, way, arms)
    for encoder in ENCODERS:
        panels[0].plot([], [], _MARKERS[encoder], color=_COLOURS[encoder], label=f"judged by {_NAMES[encoder]}")
    panels[0].plot([], [], "o", color="grey", markerfacecolor="white", label="hollow: trained against this judge")
    panels[0].set_xlabel("calibrated similarity minus that without the loss\n(1: from other speakers to the same)")
    for axes, (measure, title) in zip(panels[1:], sides.items(), strict=True):
        for row, arm in enumerate(arms):
            _bar(axes, outcome.gain(arm, way, measure), row, fmt="^", color="#009E73")
        axes.set_xlabel(f"{title}, minus without\n(left is better)")
    names = [f"{arm.name} ({outcome.seeds(arm)})" for arm in arms]
    panels[0].set(yticks=range(len(arms)), yticklabels=names, ylim=(len(arms) - 0.5, -0.5))
    for axes in panels:
        axes.axvline(0, color="black", linewidth=0.8)
        axes.grid(axis="x", alpha=0.3)
        for row, (before, after) in enumerate(itertools.pairwise(arms)):
            if before.group != after.group:
                axes.axhline(row + 0.5, color="grey", linewidth=0.6, linestyle=":")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


# --- the page ---------------------------------------------------------------------------------------------------------


def page_parts(outcome: Outcome) -> dict[str, str]:
    """Return the tables by the name of their file, without suffix."""
    parts = {"arms": arms_table(outcome), "costs": costs_table(outcome)}
    for way in WAYS:
        parts[way] = gains_table(outcome, way)
        parts[f"errors_{way}"] = error_table(outcome, way)
        parts[f"measures_{way}"] = measures_table(outcome, way)
    return parts


def write_page(outcome: Outcome, docs: Path) -> None:
    """Write the tables as Markdown, and the figures as SVG."""
    docs.mkdir(parents=True, exist_ok=True)
    for name, part in page_parts(outcome).items():
        with replacing(docs / f"{name}.md") as temporary:
            temporary.write_text(f"<!-- made by `python -m benchmarks.ablation` -->\n{part}", encoding="utf-8")
    for way in WAYS:
        with replacing(docs / f"{way}.svg") as temporary:
            plot(outcome, way).savefig(temporary, metadata={"Date": None})
