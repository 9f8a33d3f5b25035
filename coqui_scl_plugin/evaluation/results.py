"""What an evaluation found, as `results.json` holds it: plain data, from which the report is made."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SyntheticRecording
from coqui_scl_plugin.evaluation.metrics import C_FALSE_ALARM, C_MISS, CONFIDENCE, P_TARGET, bootstrap_mean
from coqui_scl_plugin.evaluation.verification import EmbeddedRecording, Trials, Verification
from coqui_scl_plugin.references.recordings import Recording

Role = Literal["training", "holdout", "judge"]
"""An encoder that the loss compared with, one that took no part in the training, or one of which nobody knows."""

_PACKAGES = ("coqui-scl-plugin", "coqui-tts", "torch", "torchaudio", "scikit-learn", "scipy", "numpy")


@dataclass(frozen=True)
class EncoderIdentity:
    """A speaker encoder that judges, as results record it."""

    name: str
    params: dict[str, Any]
    fingerprint: str
    """Of its weights."""


@dataclass(frozen=True)
class Evaluation:
    """One `EvaluationSet`, judged."""

    material: EvaluationSet
    judgement: Verification
    roles: dict[str, Role]
    """Of each encoder in the training of what was judged, by alias."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the run's `scl_history.csv`."""

    def to_dict(self, judges: Mapping[str, EncoderIdentity]) -> dict[str, Any]:
        """As JSON has it."""
        encoders = {
            alias: {"role": self.roles[alias], **asdict(judges[alias]), **_as_json(asdict(verdict))}
            for alias, verdict in self.judgement.verdicts.items()
        }
        return {
            "label": self.material.label,
            "source": self.material.source,
            "speakers": self.material.speakers,
            "encoders": encoders,
            "warnings": warnings(self),
            "history": self.history,
            "recordings": {
                "real": [_recording(*pair) for pair in zip(self.material.real, self.judgement.real, strict=True)],
                "synthetic": [
                    _recording(*pair) for pair in zip(self.material.synthetic, self.judgement.synthetic, strict=True)
                ],
            },
            "trials": _trials(self.judgement.trials, self.material.synthetic, self.material.real),
            "real_trials": _trials(self.judgement.real_trials, self.material.real, self.material.real),
        }


def _as_json(value: Any) -> Any:
    """Intervals as mappings."""
    if hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    return value


def _recording(recording: Recording, heard: EmbeddedRecording) -> dict[str, Any]:
    own = (
        {"reference": recording.reference, "text": recording.text} if isinstance(recording, SyntheticRecording) else {}
    )
    return {
        "name": recording.name, "path": str(recording.path), "speaker": recording.speaker, **own,
        "seconds": round(heard.seconds, 3), "problem": heard.problem,
    }  # fmt: skip


def _trials(trials: Trials, first: Sequence[Recording], second: Sequence[Recording]) -> dict[str, Any]:
    scores = [trials.scores[alias].round(6).tolist() for alias in trials.scores]
    pairs = zip(trials.first.tolist(), trials.second.tolist(), trials.same.tolist(), *scores, strict=True)
    return {
        "columns": ["first", "second", "same_speaker", *trials.scores],
        "rows": [[first[a].name, second[b].name, same, *cosines] for a, b, same, *cosines in pairs],
    }


def warnings(evaluation: Evaluation) -> list[str]:
    """What a reader should know before the figures."""
    found = []
    for alias, verdict in evaluation.judgement.verdicts.items():
        if verdict.scaled is not None and verdict.scaled.low is not None and verdict.scaled.low > 1:
            found.append(
                f"{alias}: synthetic speech is more alike to the speakers' recordings (scaled "
                f"{verdict.scaled.mean:.2f}) than those are to each other: it was made to please this encoder."
            )
    for kind, recordings, heard in (
        ("real", evaluation.material.real, evaluation.judgement.real),
        ("synthetic", evaluation.material.synthetic, evaluation.judgement.synthetic),
    ):
        for recording, one in zip(recordings, heard, strict=True):
            if one.problem is not None:
                found.append(f"The {kind} recording {recording.name} of {recording.speaker} is {one.problem}.")
    if flagged := [row for row in evaluation.history if row.get("flags")]:
        found += [f"While training, at step {flagged[-1]['step']}: {flagged[-1]['flags']}"]
    if not evaluation.roles or not set(evaluation.roles.values()) - {"training"}:
        found.append("Every encoder here was trained against: none of these figures says that a voice is more alike.")
    return found


def compare(evaluations: Sequence[Evaluation], *, seed: int, resamples: int) -> list[dict[str, Any]]:
    """Paired differences of every later evaluation and the first, over the speakers of both.

    Each with the mean, its 95 % interval by bootstrap over speakers, and whether it can be told from zero.
    """
    first, rows = evaluations[0], []
    for other in evaluations[1:]:
        for alias in first.judgement.verdicts:
            before = first.judgement.verdicts[alias].speakers
            after = other.judgement.verdicts[alias].speakers
            for measure in ("secs", "cross_utterance", "scaled"):
                pairs = [(getattr(before[s], measure), getattr(after[s], measure)) for s in before if s in after]
                differences = [b - a for a, b in pairs if a is not None and b is not None]
                if differences:
                    interval = bootstrap_mean(differences, seed=seed, resamples=resamples)
                    rows.append(
                        {
                            "encoder": alias, "measure": measure, "baseline": first.material.label,
                            "evaluation": other.material.label, "speakers": len(differences),
                            "difference": interval._asdict(), "distinguishable": interval.excludes_zero(),
                        }
                    )  # fmt: skip
    return rows


def results(
    evaluations: Sequence[Evaluation],
    judges: Mapping[str, EncoderIdentity],
    *,
    seed: int,
    resamples: int,
    dbfs: float | None,
) -> dict[str, Any]:
    """All of `results.json`: of one evaluation at the top, of several below `evaluations`, by label."""
    header = {
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "seed": seed,
        "resamples": resamples,
        "confidence": CONFIDENCE,
        "level_dbfs": dbfs,
        "detection_cost": {"p_target": P_TARGET, "c_miss": C_MISS, "c_false_alarm": C_FALSE_ALARM},
    }
    found = {evaluation.material.label: evaluation.to_dict(judges) for evaluation in evaluations}
    if len(found) == 1:
        return {**header, **next(iter(found.values()))}
    return {
        **header,
        "evaluations": found,
        "comparisons": compare(evaluations, seed=seed, resamples=resamples),
    }


def evaluations_of(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Those in a `results.json`, by label."""
    found: dict[str, dict[str, Any]] = document.get("evaluations") or {document["label"]: dict(document)}
    return found
