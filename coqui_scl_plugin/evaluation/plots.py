"""Figures of an evaluation. Each can be read without colour: by line style, marker, hatch or number as well."""

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray
from scipy.stats import norm

from coqui_scl_plugin.evaluation.metrics import error_rates

ROLES = {"training": "training", "holdout": "held-out", "unknown": "role unknown"}
"""Role of an encoder in the training of the evaluated model, in words."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, without the yellow, which is too faint for a line on white."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_ROLE_LINES: dict[str | None, str] = {"training": "-", "holdout": "--"}
# speakers' names are not mathematics, and text that stays text is set in whatever fonts the reader has
_STYLE: dict[Any, Any] = {"font.size": 11, "text.parse_math": False, "svg.fonttype": "none", "hatch.linewidth": 0.8}
_LEGEND_BELOW: dict[str, Any] = {"loc": "outside lower center", "frameon": False, "fontsize": 10}
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_DET_LIMITS, _DET_TICKS = (0.001, 0.95), (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95)
_BINS = 30
_MAX_SPEAKERS_WITH_NUMBERS = 15
_MAX_NAME_LETTERS = 18

ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)


def as_svg(figure: Figure, name: str) -> str:
    """Render a figure as an `<svg>` element for an HTML page; the same figure always gives the same text.

    Args:
        figure: The figure.
        name: Unique in the page. All ids start with it, so that those of several figures do not clash.
    """
    text = StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # the browser has glyphs that matplotlib's own font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        # the layout is that of the whole figure; trimming its margins must not compute it anew
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        figure.savefig(text, format="svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.05)
    root = ElementTree.fromstring(text.getvalue())  # noqa: S314 - matplotlib wrote it
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for element in root.iter():
        for key, value in element.items():
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key == f"{{{_XLINK}}}href" and value.startswith("#"):
                element.set(key, f"#{name}-{value[1:]}")
            else:
                element.set(key, value.replace("url(#", f"url(#{name}-"))
    return ElementTree.tostring(root, encoding="unicode")


# --- speakers ---------------------------------------------------------------------------------------------------------


def _short(name: str) -> str:
    if len(name) <= _MAX_NAME_LETTERS:
        return name
    half = _MAX_NAME_LETTERS // 2
    return f"{name[: half - 1]}…{name[-half:]}"


@matplotlib.rc_context(_STYLE)
def matrix_figure(speakers: Sequence[str], matrix: Sequence[Sequence[float | None]]) -> Figure:
    """Draw mean cosines of the synthetic speech of each speaker (rows) and the real speech of each (columns).

    Args:
        speakers: `[S]` names.
        matrix: `[S, S]` cosines; None if there is nothing to compare.
    """
    values = np.array(matrix, dtype=float).reshape(len(speakers), len(speakers))
    with_numbers = len(speakers) <= _MAX_SPEAKERS_WITH_NUMBERS
    side = max(2.2, len(speakers) * (0.4 if with_numbers else 0.105))
    names = [_short(name) for name in speakers]
    margin = 0.6 + 0.075 * max(map(len, names))
    figure = Figure(figsize=(side + margin + 0.9, side + margin), layout="compressed")
    axes = figure.add_subplot()
    shown = axes.imshow(values, cmap=matplotlib.colormaps["cividis"].with_extremes(bad="#dddddd"), interpolation="none")
    size = 9 if with_numbers else 6.5
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set(xlabel="real speech of", ylabel="synthetic speech of")
    figure.colorbar(shown, shrink=0.8, pad=0.02, label="mean cosine")
    if with_numbers:
        middle = np.mean(shown.get_clim())
        for (row, column), value in np.ndenumerate(values):
            text, colour = ("–", "black") if math.isnan(value) else (f"{value:.2f}", "white")
            axes.text(
                column, row, text, ha="center", va="center", fontsize=9,
                color="black" if value > middle else colour,
            )  # fmt: skip
    return figure


# --- trials -----------------------------------------------------------------------------------------------------------


def _cosines(trials: Mapping[str, Any], alias: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the cosines of trials of `results.json` by one encoder, and whether each is a same-speaker trial."""
    columns = trials["columns"]
    cosine, same = columns.index(alias), columns.index("same_speaker")
    return (
        np.array([row[cosine] for row in trials["rows"]], dtype=float),
        np.array([row[same] for row in trials["rows"]], dtype=bool),
    )


@matplotlib.rc_context(_STYLE)
def det_figure(trials: Mapping[str, Any], real_trials: Mapping[str, Any], aliases: Sequence[str]) -> Figure | None:
    """Draw the detection error trade-off of each encoder, for synthetic against real and for real speech alone.

    Both axes are scaled to normal deviates, so that normally distributed cosines give straight lines. Rates beyond the
    ends of an axis are drawn at its ends.

    Args:
        trials: Trials of `results.json`, synthetic against real.
        real_trials: Trials of `results.json`, real against real.
        aliases: Encoders.

    Returns:
        None if no trials are of both kinds.
    """
    figure = Figure(figsize=(4.6, 5.2 + 0.22 * 2 * len(aliases)), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=_DET_LIMITS, ylim=_DET_LIMITS)
    for axis, set_scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        set_scale("function", functions=(norm.ppf, norm.cdf))
        axis.set_major_locator(FixedLocator(_DET_TICKS))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}"))
    for (kind, style, which), (place, alias) in itertools.product(
        (("synthetic and real", "-", trials), ("real alone", "--", real_trials)), enumerate(aliases)
    ):
        cosines, same = _cosines(which, alias)
        if same.all() or not same.any():
            continue
        rates = error_rates(cosines, same)
        axes.plot(
            np.clip(rates.false_alarm, *_DET_LIMITS), np.clip(rates.miss, *_DET_LIMITS), style,
            color=_COLOURS[place % len(_COLOURS)], marker=_MARKERS[place % len(_MARKERS)], markevery=0.2,
            markerfacecolor="white" if style == "--" else None, markersize=5, linewidth=1.6, clip_on=False,
            label=f"{alias}: {kind}",
        )  # fmt: skip
    if not axes.get_lines():
        return None
    axes.plot(_DET_LIMITS, _DET_LIMITS, ":", color="#555555", linewidth=1, label="equal rates", zorder=1)
    axes.set(xlabel="other speakers accepted, %", ylabel="same speaker rejected, %", box_aspect=1)
    axes.grid(color="#dddddd", linewidth=0.6)
    figure.legend(**_LEGEND_BELOW)
    return figure


@matplotlib.rc_context(_STYLE)
def histogram_figure(trials: Mapping[str, Any], real_trials: Mapping[str, Any], alias: str) -> Figure | None:
    """Draw same- and different-speaker cosines: hatched, synthetic against real; outlined, real speech alone.

    Args:
        trials: Trials of `results.json`, synthetic against real.
        real_trials: Trials of `results.json`, real against real.
        alias: Encoder.

    Returns:
        None if there is no trial.
    """
    of_synthetic, of_real = _cosines(trials, alias), _cosines(real_trials, alias)
    cosines = np.concatenate([of_synthetic[0], of_real[0]])
    if cosines.size == 0:
        return None
    edges = np.histogram_bin_edges(cosines, bins=_BINS).tolist()
    figure = Figure(figsize=(4.6, 4.1), layout="constrained")
    axes = figure.add_subplot()
    kinds = ((True, _COLOURS[0], "////", "-"), (False, _COLOURS[1], "....", "--"))
    for same, colour, hatch, style in kinds:
        who = "same speaker" if same else "other speakers"
        chosen = of_synthetic[0][of_synthetic[1] == same]
        axes.hist(
            chosen, edges, weights=_shares(chosen), histtype="stepfilled", facecolor="none", edgecolor=colour,
            hatch=hatch, label=f"{who}: synthetic and real",
        )  # fmt: skip
        chosen = of_real[0][of_real[1] == same]
        axes.hist(
            chosen, edges, weights=_shares(chosen), histtype="step", color="black", linestyle=style, linewidth=1.4,
            label=f"{who}: real alone",
        )  # fmt: skip
    axes.set(xlabel="cosine", ylabel="share of trials, %")
    figure.legend(**_LEGEND_BELOW)
    return figure


def _shares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a weight for each value, so that they add up to 100 percent."""
    return np.full(len(values), 100 / max(len(values), 1))


# --- training ---------------------------------------------------------------------------------------------------------


@matplotlib.rc_context(_STYLE)
def history_figure(rows: Sequence[Mapping[str, Any]], roles: Mapping[str, str]) -> Figure:
    """Draw the similarity by each encoder during training.

    The figure shows calibrated cross-utterance similarity, between lines at the floor (0) and the ceiling (1), or plain
    cosines if no calibrated one is known. A training encoder is solid, a held-out one dashed, any other dash-dotted.

    Args:
        rows: Rows of `scl_history.csv`: `step`, `cross_utterance_ALIAS`, `calibrated_cross_utterance_ALIAS` and
            `flags`, as numbers or as text; what is not known is None or empty.
        roles: Roles of encoders by alias: `training`, `holdout` or `unknown`.
    """
    figure = Figure(figsize=(4.6, 3.9 + 0.2 * len(roles)), layout="constrained")
    axes = figure.add_subplot()
    steps = [float(row["step"]) for row in rows]
    lines = _curves(rows, "calibrated_cross_utterance_", roles)
    calibrated = any(np.isfinite(values).any() for values in lines.values())
    if not calibrated:
        lines = _curves(rows, "cross_utterance_", roles)
    for place, (alias, values) in enumerate(lines.items()):
        role = roles.get(alias)
        axes.plot(
            steps, values, _ROLE_LINES.get(role, "-."), color=_COLOURS[place % len(_COLOURS)],
            marker=_MARKERS[place % len(_MARKERS)], markersize=5, markevery=max(1, len(steps) // 12),
            label=f"{alias}, {ROLES[role]}" if role in ROLES else alias,
        )  # fmt: skip
    if calibrated:
        _mark_calibration(axes)
    if flagged := [step for step, row in zip(steps, rows, strict=True) if row.get("flags")]:
        top = axes.get_xaxis_transform()
        axes.vlines(flagged, 0, 1, transform=top, color="black", linewidth=0.6, alpha=0.5)
        axes.plot(flagged, [1] * len(flagged), "kv", markersize=9, transform=top, clip_on=False, label="flagged")
    axes.set(xlabel="step", ylabel="calibrated cross-utterance" if calibrated else "cross-utterance (cosine)")
    axes.grid(color="#e5e5e5", linewidth=0.6)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(**_LEGEND_BELOW)
    return figure


def _mark_calibration(axes: Axes) -> None:
    """Draw lines at the floor and the ceiling of calibrated similarities."""
    for value, name, height in ((0, "floor: other speakers", "top"), (1, "ceiling: same speaker", "bottom")):
        axes.axhline(value, color="#555555", linestyle=":", linewidth=1.2)
        axes.annotate(
            name, (1, value), (-4, -3 if height == "top" else 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va=height, fontsize=9, color="#333333",
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5},
        )  # fmt: skip
    axes.margins(y=0.14)


def _curves(rows: Sequence[Mapping[str, Any]], prefix: str, roles: Mapping[str, str]) -> dict[str, list[float]]:
    """Return one value per row, NaN if unknown, by alias; encoders with a role come first."""
    columns = dict.fromkeys(key for row in rows for key in row if key.startswith(prefix))
    found = [column.removeprefix(prefix) for column in columns]
    aliases = [*(alias for alias in roles if alias in found), *(alias for alias in found if alias not in roles)]
    return {alias: [_number(row.get(prefix + alias)) for row in rows] for alias in aliases}


def _number(value: float | str | None) -> float:
    return math.nan if value is None or value == "" else float(value)
