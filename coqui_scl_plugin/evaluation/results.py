"""Results of evaluations, as `results.json` holds them: plain data, from which the report is made."""

import importlib.metadata
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from coqui_scl_plugin.evaluation.encoders import EncoderIdentity, Role
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SpokenRecording, SyntheticRecording
from coqui_scl_plugin.evaluation.judges import COMPARED, Judged, Opinion, name_of
from coqui_scl_plugin.evaluation.metrics import C_FALSE_ALARM, C_MISS, CONFIDENCE, P_TARGET, bootstrap_mean
from coqui_scl_plugin.evaluation.trials import Trials
from coqui_scl_plugin.evaluation.verification import MEASURES, EmbeddedRecording, Verification
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.shown import shorten

_PACKAGES = ("coqui-scl-plugin", "coqui-tts", "torch", "torchaudio", "scikit-learn", "scipy", "numpy")


@dataclass(frozen=True)
class Evaluation:
    """An `EvaluationSet`, its verification, and what other judges find in it."""

    evaluation_set: EvaluationSet
    verification: Verification
    roles: dict[str, Role]
    """Role of each encoder in the training of the evaluated model, by alias."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the run's `scl_history.csv`."""
    judged: Judged | None = None
    """None if only speaker encoders score the recordings."""

    def to_dict(self, encoders: Mapping[str, EncoderIdentity]) -> dict[str, Any]:
        """Return the entry of `results.json`; of trials, all cosines are finite."""
        real, synthetic = self.evaluation_set.real, self.evaluation_set.synthetic
        opinions: tuple[list[Opinion], list[Opinion]] = ([{}] * len(real), [{}] * len(synthetic))
        if self.judged is not None:
            opinions = (self.judged.real, self.judged.synthetic)
        found = {
            "label": self.evaluation_set.label,
            "source": self.evaluation_set.source,
            "speakers": self.evaluation_set.speakers,
            "encoders": {
                alias: {"role": self.roles[alias], **asdict(encoders[alias]), **_as_json(asdict(scores))}
                for alias, scores in self.verification.scores.items()
            },
            **({} if self.judged is None else {"judges": _judges(self.judged)}),
            "warnings": warnings(self),
            "left_out": [asdict(one) for one in self.evaluation_set.left_out],
            "history": self.history,
            "recordings": {
                "real": [_recording(*one) for one in zip(real, self.verification.real, opinions[0], strict=True)],
                "synthetic": [
                    _recording(*one) for one in zip(synthetic, self.verification.synthetic, opinions[1], strict=True)
                ],
            },
        }
        return {
            **_strict(found),
            "trials": _trials(self.verification.trials, synthetic, real),
            "real_trials": _trials(self.verification.real_trials, real, real),
        }


def _as_json(value: Any) -> Any:
    """Replace intervals by mappings."""
    if hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    return value


_encode = json.JSONEncoder(allow_nan=False).encode


def as_text(value: Any, indent: str = "") -> str:
    """Return results as readable JSON: a line for each value of an object, and one for each row of a table.

    Of 200,000 trials, this takes two thirds of the time of `json.dumps` with an indent, and half the space.

    Raises:
        ValueError: a number is not finite.

    >>> print(as_text({"trials": {"columns": ["first", "same"], "rows": [["a", True], ["b", False]]}}))
    {
      "trials": {
        "columns": ["first", "same"],
        "rows": [
          ["a", true],
          ["b", false]
        ]
      }
    }
    """
    deeper = f"{indent}  "
    if isinstance(value, dict) and value:
        parts, (begin, end) = [f"{_encode(key)}: {as_text(one, deeper)}" for key, one in value.items()], "{}"
    elif isinstance(value, list) and value and isinstance(value[0], list):
        parts, (begin, end) = [_encode(row) for row in value], "[]"
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        parts, (begin, end) = [as_text(one, deeper) for one in value], "[]"
    else:
        return _encode(value)
    return f"{begin}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{end}"


def _strict(value: Any) -> Any:
    """Replace numbers that JSON does not know, NaN and infinity, by None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    return [_strict(item) for item in value] if isinstance(value, list | tuple) else value


def _judges(judged: Judged) -> dict[str, Any]:
    found = {}
    for measure, judgement in judged.measures.items():
        found[measure] = {**judged.identities[measure], **_as_json(asdict(judgement))}
        if (by_language := judged.languages.get(measure)) is not None:
            found[measure]["languages"] = {name: _as_json(asdict(own)) for name, own in by_language.items()}
    return found


def _recording(recording: Recording, embedded: EmbeddedRecording, opinion: Opinion) -> dict[str, Any]:
    own = (
        {"reference": recording.reference, "text": recording.text} if isinstance(recording, SyntheticRecording) else {}
    )
    return {
        "name": recording.name, "path": str(recording.path), "speaker": recording.speaker, **own,
        "seconds": round(embedded.seconds, 3), "problem": embedded.problem, **opinion,
    }  # fmt: skip


def _trials(trials: Trials, first: Sequence[Recording], second: Sequence[Recording]) -> dict[str, Any]:
    scores = [trials.scores[alias].round(6).tolist() for alias in trials.scores]
    pairs = zip(trials.first.tolist(), trials.second.tolist(), trials.same.tolist(), *scores, strict=True)
    return {
        "columns": ["first", "second", "same_speaker", *trials.scores],
        "rows": [[first[a].name, second[b].name, same, *cosines] for a, b, same, *cosines in pairs],
    }


def _problem(kind: str, recording: Recording, embedded: EmbeddedRecording) -> str:
    """Say what is wrong with a recording, where it is listed, and whether it counts."""
    where = f" ({recording.where})" if isinstance(recording, SpokenRecording) and recording.where else ""
    counts = kind == "synthetic" and embedded.is_finite
    then = "It counts as the encoders hear it" if counts else "It is left out: repair or replace it"
    return (
        f"The {kind} recording {shorten(recording.name)} of {shorten(recording.speaker)}{where} is "
        f"{embedded.problem}. {then}."
    )


def warnings(evaluation: Evaluation) -> list[str]:
    """List what a reader should know before looking at the figures."""
    found = [f"{one.where} is left out: {one.problem}." for one in evaluation.evaluation_set.left_out]
    found += evaluation.evaluation_set.remarks
    for alias, scores in evaluation.verification.scores.items():
        calibrated = scores.calibrated_cross_utterance
        if calibrated is not None and calibrated.low is not None and calibrated.low > 1:
            found.append(
                f"{alias}: synthetic speech is more similar to the speakers' recordings (calibrated cross-utterance "
                f"similarity {calibrated.mean:.2f}) than these are to each other: it was made to please this encoder."
            )
    for kind, recordings, embedded in (
        ("real", evaluation.evaluation_set.real, evaluation.verification.real),
        ("synthetic", evaluation.evaluation_set.synthetic, evaluation.verification.synthetic),
    ):
        for recording, one in zip(recordings, embedded, strict=True):
            if one.problem is not None:
                found.append(_problem(kind, recording, one))
    if evaluation.judged is not None:
        found += evaluation.judged.warnings()
    if flagged := [row for row in evaluation.history if row.get("flags")]:
        found += [f"During training, at step {flagged[-1]['step']}: {flagged[-1]['flags']}"]
    if not evaluation.roles or not set(evaluation.roles.values()) - {"training"}:
        found.append(
            "Every encoder here is a training encoder: none of these figures shows that a voice is more similar."
        )
    return found


Values = Mapping[str, float | None]
"""One value per speaker, by name."""


def _measures(evaluation: Evaluation) -> Iterator[tuple[dict[str, Any], Values]]:
    """List what can be compared: what a row says of it, and each speaker's value."""
    for alias, scores in evaluation.verification.scores.items():
        for measure in MEASURES:
            values = {name: getattr(one, measure) for name, one in scores.speakers.items()}
            yield {"encoder": alias, "measure": measure}, values
    if evaluation.judged is not None:
        for measure, language, judgement in evaluation.judged.all_of(COMPARED):
            values = {name: one.synthetic for name, one in judgement.speakers.items()}
            yield {"encoder": None, "measure": measure, "language": language}, values


def compare(evaluations: Sequence[Evaluation], *, seed: int, resamples: int) -> list[dict[str, Any]]:
    """Compare every later evaluation with the first, speaker by speaker, over the speakers of both.

    Returns:
        By encoder and measure, the mean difference, its 95 % interval by bootstrap over speakers, and whether it is
        distinguishable from zero. Measures of other judges have no encoder; those of single languages are listed where
        an evaluation has several.
    """
    first, rows = evaluations[0], []
    for other in evaluations[1:]:
        before = [*_measures(first)]
        for key, after in _measures(other):
            values = next((values for known, values in before if known == key), {})
            pairs = [(value, after.get(speaker)) for speaker, value in values.items()]
            if differences := [b - a for a, b in pairs if a is not None and b is not None]:
                interval = bootstrap_mean(differences, seed=seed, resamples=resamples)
                rows.append(
                    {
                        **key, "baseline": first.evaluation_set.label, "evaluation": other.evaluation_set.label,
                        "speakers": len(differences), "difference": interval._asdict(),
                        "distinguishable": interval.excludes_zero(),
                    }
                )  # fmt: skip
    return rows


def bought_similarity(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Find evaluations in which similarity rises while quality or intelligibility falls, each beyond its interval.

    Args:
        rows: Rows of `compare`.

    Returns:
        A warning for each of them, by label.
    """
    found = {}
    for label in dict.fromkeys(row["evaluation"] for row in rows):
        own = [row for row in rows if row["evaluation"] == label and row["distinguishable"]]
        more = {row["encoder"]: None for row in own if row["encoder"] and row["difference"]["mean"] > 0}
        worse = [
            f"{name_of(row['measure'], row['language'])} ({row['difference']['mean']:+.3f})"
            for row in own
            if row["encoder"] is None and row["difference"]["mean"] * COMPARED[row["measure"]] < 0
        ]
        if more and worse:
            found[label] = (
                f"Compared with {rows[0]['baseline']}, similarity by {', '.join(more)} rises at the price of "
                f"{' and '.join(worse)}, both beyond their intervals: it may have been bought with artefacts. Listen."
            )
    return found


def results(
    evaluations: Sequence[Evaluation],
    encoders: Mapping[str, EncoderIdentity],
    *,
    seed: int,
    resamples: int,
    dbfs: float | None,
) -> dict[str, Any]:
    """Return all of `results.json`: one evaluation at the top, several under `evaluations`, by label."""
    header: dict[str, Any] = {
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "seed": seed,
        "resamples": resamples,
        "confidence": CONFIDENCE,
        "loudness_dbfs": dbfs,
        "detection_cost": {"p_target": P_TARGET, "c_miss": C_MISS, "c_false_alarm": C_FALSE_ALARM},
    }
    for package in dict.fromkeys(name for one in evaluations if one.judged is not None for name in one.judged.packages):
        header["versions"][package] = importlib.metadata.version(package)
    found = {evaluation.evaluation_set.label: evaluation.to_dict(encoders) for evaluation in evaluations}
    if len(found) == 1:
        return {**header, **next(iter(found.values()))}
    comparisons = compare(evaluations, seed=seed, resamples=resamples)
    for label, warning in bought_similarity(comparisons).items():
        found[label]["warnings"].append(warning)
    return {**header, "evaluations": found, "comparisons": comparisons}


def evaluations_of(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the evaluations in a `results.json`, by label."""
    found: dict[str, dict[str, Any]] = document.get("evaluations") or {document["label"]: dict(document)}
    return found
