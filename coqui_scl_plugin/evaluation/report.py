"""The report of an evaluation: one file of HTML that holds all it needs, its figures and its audio."""

import base64
import io
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import soundfile
from matplotlib.figure import Figure

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation import plots
from coqui_scl_plugin.evaluation.results import evaluations_of
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.atomic import replacing

MEASURES = {"secs": "SECS", "cross_utterance": "Cross-utterance", "scaled": "Scaled"}
"""Similarities, by their names in `results.json`."""
UNKNOWN = "–"
_MOST_SPEAKERS_HEARD = 10
_SECONDS_HEARD = 10

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """A figure in the page."""

    svg: str
    label: str
    """What it is, for those who do not see it."""
    caption: str
    wide: bool = False
    """Keeps its size and scrolls where the page is narrower."""


@dataclass(frozen=True)
class Course:
    """A training."""

    figure: Shown
    flagged: list[Mapping[str, Any]]
    """Rows in which something was found wrong."""


@dataclass(frozen=True)
class Player:
    """A recording to listen to."""

    title: str
    name: str
    text: str
    source: str | None
    """A `data:` address; None where there is nothing to hear."""
    problem: str | None
    """Why there is not, or what is wrong with it."""


def write(folder: Path, results: Document) -> Path:
    """Write `report.html` to `folder`, whole or not at all, and return its path."""
    path = folder / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(render(results), encoding="utf-8")
    return path


def render(results: Document) -> str:
    """The page, as HTML.

    Args:
        results: All of `results.json`. Recordings that are no longer where it says are named as missing.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("coqui_scl_plugin.evaluation", "."), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(fixed=fixed, plain=_plain)
    evaluations = evaluations_of(results)
    # in the order of the evaluations, which Jinja's own groupby would sort
    comparisons = itertools.groupby(results.get("comparisons", []), key=lambda row: row["evaluation"])
    names = (f"figure-{number}" for number in itertools.count(1))
    return environment.get_template("report.html.j2").render(
        results=results, evaluations=evaluations, comparisons=[(label, list(rows)) for label, rows in comparisons],
        measures=MEASURES, roles=plots.ROLES, unknown=UNKNOWN,
        notes=[(label, note) for label, evaluation in evaluations.items() for note in evaluation["warnings"]],
        encoders={alias: encoder for e in evaluations.values() for alias, encoder in e["encoders"].items()},
        matrices=list(_matrices(evaluations, names)), trade_offs=list(_trade_offs(evaluations, names)),
        histograms=list(_histograms(evaluations, names)), courses=list(_courses(evaluations, names)),
        speakers_heard=_players(evaluations),
    )  # fmt: skip


def fixed(value: float | None, digits: int = 3, sign: str = "") -> str:
    """A number with `digits` decimals; an en dash where it is not known.

    Args:
        value: What to show.
        digits: Decimals.
        sign: `+` also marks what is positive.

    >>> fixed(0.12345), fixed(-0.5, 1), fixed(0.5, 1, "+"), fixed(None)
    ('0.123', '−0.5', '+0.5', '–')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:{sign}z.{digits}f}".replace("-", "−")


def _plain(value: object) -> str:
    """Text as it is, anything else as JSON."""
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
                "each by speaker.",
                f"{label}, by {alias}. The diagonal is the speaker that was meant; a voice that is told apart is "
                "brightest there.",
                wide=True,
            )  # fmt: skip


def _trade_offs(evaluations: Mapping[str, Document], names: Iterator[str]) -> Iterator[Shown]:
    for label, evaluation in evaluations.items():
        aliases = list(evaluation["encoders"])
        if figure := plots.det_figure(evaluation["trials"], evaluation["real_trials"], aliases):
            yield _shown(
                figure, next(names),
                f"Detection error trade-off of {label}: rejected trials of one speaker against accepted trials of "
                f"different speakers, for {', '.join(aliases)}.",
                f"{label}. Solid, synthetic against real speech; dashed, real speech alone; the nearer to the lower "
                "left, the better the speakers are told apart. Both axes are those of normal deviates, and rates "
                "beyond their ends are drawn there.",
            )  # fmt: skip


def _histograms(evaluations: Mapping[str, Document], names: Iterator[str]) -> Iterator[Shown]:
    for label, evaluation in evaluations.items():
        for alias in evaluation["encoders"]:
            if figure := plots.histogram_figure(evaluation["trials"], evaluation["real_trials"], alias):
                yield _shown(
                    figure, next(names),
                    f"Histogram of cosines by {alias}: trials of one speaker and of different speakers in {label}.",
                    f"{label}, by {alias}. Hatched, synthetic against real speech; outlined, real speech alone.",
                )  # fmt: skip


def _courses(evaluations: Mapping[str, Document], names: Iterator[str]) -> Iterator[Course]:
    for label, evaluation in evaluations.items():
        if history := evaluation["history"]:
            roles = {alias: encoder["role"] for alias, encoder in evaluation["encoders"].items()}
            shown = _shown(
                plots.history_figure(history, roles), next(names),
                f"Similarity of {label} by each encoder while it trained, against the step.",
                f"{label}. An encoder that was trained against is solid, one that took no part dashed. Where only the "
                "solid line rises, the model pleases the encoder and not a listener.",
            )  # fmt: skip
            yield Course(shown, [row for row in history if row.get("flags")])


# --- audio ------------------------------------------------------------------------------------------------------------


def _players(evaluations: Mapping[str, Document]) -> dict[str, list[Player]]:
    """By speaker, a real recording, and of each evaluation a synthetic one."""
    speakers = list(dict.fromkeys(speaker for e in evaluations.values() for speaker in e["speakers"]))
    return {speaker: _players_of(speaker, evaluations) for speaker in speakers[:_MOST_SPEAKERS_HEARD]}


def _players_of(speaker: str, evaluations: Mapping[str, Document]) -> list[Player]:
    synthetic = {label: _of(speaker, e["recordings"]["synthetic"]) for label, e in evaluations.items()}
    real = [recording for e in evaluations.values() for recording in _of(speaker, e["recordings"]["real"])]
    reference = _common_reference(list(synthetic.values()))
    original = next((recording for recording in real if recording["name"] == reference), real[0] if real else None)
    copies = {
        label: next((one for one in found if one["reference"] == reference), found[0] if found else None)
        for label, found in synthetic.items()
    }
    return [_player("Reference", original), *(_player(label, copy) for label, copy in copies.items())]


def _of(speaker: str, recordings: Sequence[Document]) -> list[Document]:
    """Those of one speaker, the ones without a problem first."""
    return sorted((one for one in recordings if one["speaker"] == speaker), key=lambda one: one["problem"] is not None)


def _common_reference(synthetic: Sequence[Sequence[Document]]) -> str | None:
    """Of the references that the recordings of each evaluation copy, the first that most of them have."""
    references = [one["reference"] for found in synthetic for one in found if one["reference"] is not None]
    return max(dict.fromkeys(references), key=references.count, default=None)


def _player(title: str, recording: Document | None) -> Player:
    if recording is None:
        return Player(title, "", "", None, "there is none of this speaker")
    path, problem = Path(recording["path"]), recording["problem"]
    source = None
    if not path.is_file():
        problem = "not there any more"
    else:
        try:
            source = _as_source(Recording(recording["name"], path, recording["speaker"]))
        except ConfigError:
            problem = "cannot be read any more"
    return Player(title, recording["name"], recording.get("text", ""), source, problem)


def _as_source(recording: Recording) -> str | None:
    """The beginning of a recording as a `data:` address of FLAC, at its own rate; None where it is empty."""
    waveform, rate = recording.load()
    if len(waveform) == 0:
        return None
    encoded = io.BytesIO()
    soundfile.write(encoded, waveform[: _SECONDS_HEARD * rate].numpy(), rate, format="FLAC")
    return f"data:audio/flac;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"
