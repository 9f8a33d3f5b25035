"""Checks of the generator: what the loss trains in it is used when it speaks."""

from collections.abc import Sequence

from coqui_scl_plugin.consistency.reach import ModuleReach
from coqui_scl_plugin.preflight.facts import RunFacts
from coqui_scl_plugin.preflight.report import Finding, NotMeasuredError, PreflightReport, some, warning


def check_reach(facts: RunFacts) -> list[Finding]:
    """The gradient of the loss reaches a trainable module that text-to-speech uses."""
    if facts.consistency is None:
        return []
    rows = facts.measure_reach()
    if not rows:
        raise NotMeasuredError("No gradient arrives at the generated waveform, so there is none to follow.")
    if any(row.is_reached and row.used_in_speech for row in rows):
        return []
    useful = [row for row in rows if row.used_in_speech and row.makes_waveform]
    unfreezing = {row.module: row.until_step for row in useful if row.until_step is not None}
    if unfreezing:
        return _useless_until(facts, rows, unfreezing)
    return [
        Finding(
            "The gradient of the loss reaches no module that both trains and is used in speech from text, so the loss "
            f"can teach nothing that is heard later. {_reached_alone(rows)}",
            _what_to_train(facts, useful),
        )
    ]


def _useless_until(facts: RunFacts, rows: Sequence[ModuleReach], unfreezing: dict[str, int]) -> list[Finding]:
    """Return a warning if the loss begins before the first of the modules is unfrozen."""
    first = min(unfreezing.values())
    if first <= max(facts.step, facts.config.scl.start_step):
        return []
    return [
        warning(
            f"Until step {first}, the gradient of the loss reaches no module that both trains and is used in speech "
            f"from text. {_reached_alone(rows)} From then on, it reaches {some(unfreezing)}.",
            f"Set scl.start_step to {first}, or a smaller until_step in scl.freeze.modules.",
        )
    ]


def _reached_alone(rows: Sequence[ModuleReach]) -> str:
    reached = [row.module for row in rows if row.is_reached]
    if not reached:
        return "It reaches no module that trains."
    return f"It reaches {some(reached)} alone, which text-to-speech never uses."


def _what_to_train(facts: RunFacts, useful: Sequence[ModuleReach]) -> str:
    frozen = [row.module for row in useful if row.gradient_norm is None]
    if not frozen:
        return "Look for a detach or torch.no_grad in the model's forward."
    embedding = (
        ", or give the model a speaker embedding instead of d-vectors (model_args.use_speaker_embedding)"
        if facts.d_vectors is not None
        else ""
    )
    return f"Let {some(frozen)} train, wholly or in part (scl.freeze.modules, model_args.freeze_*){embedding}."


def measured_reach(facts: RunFacts, checks: PreflightReport) -> Sequence[ModuleReach]:
    """Return what the check `reach` measured; nothing if it was not run."""
    return () if checks.was_not_run("reach") else facts.measure_reach()
