"""HTML report of an evaluation: one self-contained file, with its figures and audio."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure
from torch import Tensor

from coqui_scl_plugin.evaluation import judges, plots
from coqui_scl_plugin.evaluation.audio_file import read_audio, unusable_file
from coqui_scl_plugin.evaluation.audio_in_page import as_flac
from coqui_scl_plugin.evaluation.results import evaluations_of
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.atomic import replacing

MEASURES = {
    "secs": "SECS",
    "cross_utterance": "Cross-utterance",
    "calibrated_cross_utterance": "Calibrated cross-utterance",
}
"""Display names of similarities, by their keys in `results.json`."""
UNKNOWN = "–"
_MAX_SPEAKERS_PLAYED = 10
_MAX_SECONDS_PLAYED = 10

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """A figure on the page."""

    svg: str
    label: str
    """Description for readers who cannot see it."""
    caption: str
    wide: bool = False
    """Whether it keeps its size and scrolls if the page is narrower."""


@dataclass(frozen=True)
class Training:
    """Similarity during the training of a run."""

    figure: Shown
    flagged: list[Mapping[str, Any]]
    """Rows of the history with a flag."""


@dataclass(frozen=True)
class Player:
    """A recording to listen to."""

    title: str
    name: str
    text: str
    source: str | None
    """A `data:` URL; None if there is nothing to play."""
    problem: str | None
    """Reason why there is nothing to play, or a defect of the recording."""
    judged: str = ""
    """What judges found in it."""
    heard: str | None = None
    """What a speech recogniser heard; None if none listened."""


def write(folder: Path, results: Document) -> Path:
    """Write `report.html` to `folder`, whole or not at all, and return its path."""
    path = folder / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(render(results), encoding="utf-8")
    return path


def render(results: Document) -> str:
    """Render the page.

    Args:
        results: All of `results.json`. Recordings whose file no longer exists are listed as missing.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("coqui_scl_plugin.evaluation", "."), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(fixed=fixed, plain=_plain)
    evaluations = evaluations_of(results)
    # keeps the order of the evaluations; Jinja's own groupby would sort them
    comparisons = itertools.groupby(results.get("comparisons", []), key=lambda row: row["evaluation"])
    names = (f"figure-{number}" for number in itertools.count(1))
    return environment.get_template("report.html.j2").render(
        results=results, evaluations=evaluations, comparisons=[(label, list(rows)) for label, rows in comparisons],
        measures=MEASURES, roles=plots.ROLES, unknown=UNKNOWN,
        notes=[(label, note) for label, evaluation in evaluations.items() for note in evaluation["warnings"]],
        encoders={alias: encoder for e in evaluations.values() for alias, encoder in e["encoders"].items()},
        matrices=list(_matrices(evaluations, names)), trade_offs=list(_trade_offs(evaluations, names)),
        histograms=list(_histograms(evaluations, names)), trainings=list(_trainings(evaluations, names)),
        speakers=_players(evaluations), name_of=judges.name_of,
        judged={label: rows for label, e in evaluations.items() if (rows := judges.rows_of(e))},
    )  # fmt: skip


def fixed(value: float | None, digits: int = 3, sign: str = "") -> str:
    """Format a number with `digits` decimals; an unknown one is an en dash.

    Args:
        value: The number; None or not finite if unknown.
        digits: Number of decimals.
        sign: `+` also marks positive numbers.

    >>> fixed(0.12345), fixed(-0.5, 1), fixed(0.5, 1, "+"), fixed(None)
    ('0.123', '−0.5', '+0.5', '–')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:{sign}z.{digits}f}".replace("-", "−")


def _plain(value: object) -> str:
    """Return text unchanged, and anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- figures ----------------------------------------------------------------------------------------------------------


def _shown(figure: Figure, name: str, label: str, caption: str, *, wide: bool = False) -> Shown:
    return Shown(plots.as_svg(figure, name), label, caption, wide)


def _matrices(evaluations: Mapping[str, Document], names: Iterator[str]) -> Iterator[Shown]:
    for label, evaluation in evaluations.items():
        for alias, encoder in evaluation["encoders"].items():
            yield _shown(
                plots.matrix_figure(evaluation["speakers"], encoder["matrix"]), next(names),
                f"Matrix of mean cosines by {alias}: synthetic speech of {label} in rows, real speech in columns, "
                "by speaker.",
                f"{label}, by {alias}. The diagonal holds the intended speakers; a voice that is distinguishable from "
                "the others is brightest there.",
                wide=True,
            )  # fmt: skip


def _trade_offs(evaluations: Mapping[str, Document], names: Iterator[str]) -> Iterator[Shown]:
    for label, evaluation in evaluations.items():
        aliases = list(evaluation["encoders"])
        if figure := plots.det_figure(evaluation["trials"], evaluation["real_trials"], aliases):
            yield _shown(
                figure, next(names),
                f"Detection error trade-off of {label}: rejected same-speaker trials against accepted "
                f"different-speaker trials, by {', '.join(aliases)}.",
                f"{label}. Solid: synthetic against real speech. Dashed: real speech alone. The closer a curve is to "
                "the lower left corner, the better the speakers are told apart. Both axes are scaled to normal "
                "deviates; rates beyond the ends of an axis are drawn at its ends.",
            )  # fmt: skip


def _histograms(evaluations: Mapping[str, Document], names: Iterator[str]) -> Iterator[Shown]:
    for label, evaluation in evaluations.items():
        for alias in evaluation["encoders"]:
            if figure := plots.histogram_figure(evaluation["trials"], evaluation["real_trials"], alias):
                yield _shown(
                    figure, next(names),
                    f"Histogram of cosines by {alias}: same-speaker and different-speaker trials of {label}.",
                    f"{label}, by {alias}. Hatched: synthetic against real speech. Outlined: real speech alone.",
                )  # fmt: skip


def _trainings(evaluations: Mapping[str, Document], names: Iterator[str]) -> Iterator[Training]:
    for label, evaluation in evaluations.items():
        if history := evaluation["history"]:
            roles = {alias: encoder["role"] for alias, encoder in evaluation["encoders"].items()}
            shown = _shown(
                plots.history_figure(history, roles), next(names),
                f"Similarity of {label} by each encoder during training, by step.",
                f"{label}. Training encoders are solid, held-out encoders dashed. Where only the solid line rises, the "
                "model is pleasing the encoder, not a listener.",
            )  # fmt: skip
            yield Training(shown, [row for row in history if row.get("flags")])


# --- audio ------------------------------------------------------------------------------------------------------------


def _players(evaluations: Mapping[str, Document]) -> dict[str, list[Player]]:
    """Choose a real recording of each speaker, and a synthetic one of each evaluation, by speaker."""
    speakers = list(dict.fromkeys(speaker for e in evaluations.values() for speaker in e["speakers"]))
    return {speaker: _players_of(speaker, evaluations) for speaker in speakers[:_MAX_SPEAKERS_PLAYED]}


def _players_of(speaker: str, evaluations: Mapping[str, Document]) -> list[Player]:
    synthetic = {label: _of(speaker, e["recordings"]["synthetic"]) for label, e in evaluations.items()}
    real = [recording for e in evaluations.values() for recording in _of(speaker, e["recordings"]["real"])]
    reference = _common_reference(list(synthetic.values()))
    original = next((recording for recording in real if recording["name"] == reference), real[0] if real else None)
    made = {
        label: next((one for one in found if one["reference"] == reference), found[0] if found else None)
        for label, found in synthetic.items()
    }
    return [_player("Reference", original), *(_player(label, one) for label, one in made.items())]


def _of(speaker: str, recordings: Sequence[Document]) -> list[Document]:
    """Return the recordings of one speaker, those without a problem first."""
    return sorted((one for one in recordings if one["speaker"] == speaker), key=lambda one: one["problem"] is not None)


def _common_reference(synthetic: Sequence[Sequence[Document]]) -> str | None:
    """Return the reference that most evaluations share, the first of several; None if there is none."""
    references = [one["reference"] for found in synthetic for one in found if one["reference"] is not None]
    return max(dict.fromkeys(references), key=references.count, default=None)


def _player(title: str, recording: Document | None) -> Player:
    if recording is None:
        return Player(title, "", "", None, "no recording of this speaker")
    path, problem = Path(recording["path"]), recording["problem"]
    source = None
    if unusable_file(path):
        problem = problem or "the file no longer exists"
    else:
        heard = read_audio(Recording(recording["name"], path, recording["speaker"]))
        if heard.is_read:
            source = _as_source(heard.waveform, heard.rate)
        else:
            problem = problem or "the file can no longer be read"
    values = [(name, recording[measure]) for measure, name in judges.NAMES.items() if measure in recording]
    judged = "; ".join(f"{name} {fixed(value)}" for name, value in values)
    return Player(title, recording["name"], recording.get("text", ""), source, problem, judged, recording.get("heard"))


def _as_source(waveform: Tensor, rate: int) -> str | None:
    """Encode the beginning of `[T]` as a `data:` URL of FLAC, at its own rate; None if that is not possible."""
    encoded = as_flac(waveform[: _MAX_SECONDS_PLAYED * rate], rate)
    return None if encoded is None else f"data:audio/flac;base64,{encoded}"
