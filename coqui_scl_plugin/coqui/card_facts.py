"""What the card of an exported model says: how it was trained, and what was measured of it."""

import copy
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from coqui_scl_plugin.config import SECTION, ModuleRuleConfig, SclConfig
from coqui_scl_plugin.coqui.run_config import names_stock_loss
from coqui_scl_plugin.coqui.run_folder import TrainedRun
from coqui_scl_plugin.coqui.stock_model import StockModel
from coqui_scl_plugin.coqui.vits_config import rules_from_flags
from coqui_scl_plugin.evaluation.results import evaluations_of
from coqui_scl_plugin.monitoring.history import read_history
from coqui_scl_plugin.utils.fingerprint import fingerprint

_PACKAGES = ("coqui-scl-plugin", "coqui-tts", "coqui-tts-trainer", "torch")
_RESULTS = "results.json"
_REFERENCES = {
    "segment": "the real slice itself", "utterance": "its whole recording",
    "cross_utterance": "another recording of the speaker", "centroid": "the mean over the speaker's recordings",
}  # fmt: skip
_SCORES = ("secs", "cross_utterance", "calibrated_cross_utterance")


def card_facts(
    run: TrainedRun, stock: StockModel, written: Mapping[str, Any], onnx_difference: float | None
) -> dict[str, Any]:
    """Return what the template of the card shows. No path of the machine that trained the model is among it.

    Args:
        run: The run and its model.
        stock: What is exported of it.
        written: Content of the run's config file, which shows whether it has a section at all.
        onnx_difference: Difference between onnxruntime and torch; None without an ONNX file.
    """
    config, scl = stock.config, run.config.scl
    trained = _has_loss(written, scl)
    return {
        "title": run.label,
        "checkpoint": run.checkpoint.name,
        "step": run.step,
        "sample_rate": config["audio"]["sample_rate"],
        "parameters": sum(value.numel() for name, value in stock.weights.items() if not name.startswith("disc.")),
        "text": _text(config),
        "espeak": config["use_phonemes"] and config["phonemizer"] in ("espeak", "multi_phonemizer"),
        "speakers": stock.speakers,
        "languages": stock.languages,
        "language_assumed": _is_assumed(written, stock.languages),
        "has_languages": bool(config["model_args"]["use_language_embedding"] or len(stock.languages) > 1),
        "d_vectors": bool(stock.d_vectors),
        "discriminator": bool(config["model_args"]["init_discriminator"]),
        "onnx_difference": onnx_difference,
        "recorded": not (written.get("model") == "vits" and run.checkpoint.name == "model.pth"),
        "loss": _loss(scl, run.step) if trained else None,
        "stock_loss": names_stock_loss(written),
        "encoders": list(_encoders(scl)) if trained else [],
        "rules": [_rule(rule) for rule in _rules(run)],
        "history": _history(run, scl),
        "evaluations": list(_evaluations(run)),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _has_loss(written: Mapping[str, Any], scl: SclConfig) -> bool:
    """Tell whether the loss took part in training; a stock config without a section implies one that did not."""
    is_ours = written.get("model") == "scl_vits" or SECTION in written
    return is_ours and scl.enabled and (scl.weight > 0 or scl.gradient_share is not None)


def _is_assumed(written: Mapping[str, Any], languages: Sequence[str]) -> bool:
    """Tell whether the language is Coqui's guess: English, where neither data nor config names any."""
    named = [written.get("phoneme_language"), *(data.get("language") for data in written.get("datasets") or [])]
    return languages == ["en"] and not any(named)


def _text(config: Mapping[str, Any]) -> str:
    if config["use_phonemes"]:
        return f"phonemes ({config['phonemizer']})"
    return f"characters ({config['text_cleaner'] or 'no cleaner'})"


def _loss(scl: SclConfig, step: int | None) -> dict[str, Any]:
    strength = f"weight {scl.weight:g}" if scl.gradient_share is None else f"gradient_share {scl.gradient_share:g}"
    started = f"from step {scl.start_step}" + (f", rising over {scl.ramp_steps} steps" if scl.ramp_steps else "")
    params = {key: value for key, value in scl.loss.params.items() if not _may_be_path(value)}
    not_yet = step is not None and step <= scl.start_step > 0
    return {
        "name": scl.loss.name, "params": json.dumps(params, default=str) if params else "",
        "strength": strength, "started": started, "not_yet": not_yet, "reference": scl.reference.source,
        "reference_is": _REFERENCES.get(scl.reference.source, ""),
    }  # fmt: skip


def _may_be_path(value: Any) -> bool:
    """Tell whether a value may name a file of the machine that trained the model."""
    return any(separator in str(value) for separator in ("/", "\\"))


def _encoders(scl: SclConfig) -> Iterator[dict[str, Any]]:
    for role, specs in (("training", scl.encoders), ("held out", scl.holdout)):
        for spec in specs:
            yield {
                "alias": spec.label, "name": spec.name, "role": role, "policy": spec.policy,
                "sha256": spec.params.get("sha256"), "floor": spec.floor, "ceiling": spec.ceiling,
            }  # fmt: skip


def _rules(run: TrainedRun) -> list[ModuleRuleConfig]:
    """Return the rules for modules, with what stock's `freeze_*` flags say."""
    config = copy.deepcopy(run.config)
    rules_from_flags(config, dict(run.model.named_children()))
    return list(config.scl.freeze.modules)


def _rule(rule: ModuleRuleConfig) -> str:
    what = f"`{rule.pattern}`: " + (f"learning rate × {rule.lr_scale:g}" if rule.lr_scale else "frozen")
    return what + (f" until step {rule.until_step}" if rule.until_step is not None else "")


def _history(run: TrainedRun, scl: SclConfig) -> dict[str, Any] | None:
    """Return the first and the last evaluation up to the exported checkpoint."""
    rows = [row for row in read_history(run.folder) if run.step is None or row.step <= run.step]
    if not rows:
        return None
    first, last = rows[0], rows[-1]
    held_out = {spec.label for spec in scl.holdout}

    def values(alias: str) -> dict[str, Any]:
        return {
            "alias": alias, "role": "held out" if alias in held_out else "training",
            "before": first.cross_utterance.get(alias), "after": last.cross_utterance.get(alias),
            "calibrated_before": first.calibrated.get(alias), "calibrated_after": last.calibrated.get(alias),
        }  # fmt: skip

    return {
        "first": first.step, "last": last.step, "rows": [values(alias) for alias in last.cross_utterance],
        "flags": [f"step {row.step}: {row.flags}" for row in rows if row.flags],
    }  # fmt: skip


def _evaluations(run: TrainedRun) -> Iterator[dict[str, Any]]:
    """List the results of `coqui-scl evaluate` in the run folder and in folders within it, of this model alone."""
    own = fingerprint(run.model)
    for file in sorted([*run.folder.glob(_RESULTS), *run.folder.glob(f"*/{_RESULTS}")]):
        try:
            found = evaluations_of(json.loads(file.read_text(encoding="utf-8")))
            mine = [one for one in found.values() if one["source"].get("model_fingerprint") == own]
            yield from [_scores(one) for one in mine]
        except (OSError, ValueError, LookupError, TypeError, AttributeError):  # another program's file of that name
            continue


def _scores(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {"alias": alias, "role": scores["role"], "eer": scores["eer"], **{name: scores[name] for name in _SCORES}}
        for alias, scores in evaluation["encoders"].items()
    ]
    judges = {name: scores["synthetic"] for name, scores in evaluation.get("judges", {}).items()}
    return {
        "synthesis": evaluation["source"].get("synthesis"), "recordings": len(evaluation["recordings"]["synthetic"]),
        "rows": rows, "judges": judges, "warnings": [text for text in evaluation["warnings"] if not _may_be_path(text)],
    }  # fmt: skip
