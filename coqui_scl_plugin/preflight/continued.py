"""The check of a run that is continued: whether it goes on with what it began with."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeGuard

from coqpit import Coqpit

from coqui_scl_plugin.config import SECTION
from coqui_scl_plugin.preflight.facts import RunFacts
from coqui_scl_plugin.preflight.report import Finding
from coqui_scl_plugin.utils.shown import typed

_FREE = (
    "scl.preflight", "scl.evaluation", "scl.restore", "scl.reference.cache", "scl.freeze.check_every",
    "scl.freeze.on_drift",
)  # fmt: skip
"""What may change in the section: it teaches the model nothing."""
_OTHERS = ("training_seed", "datasets")
"""Keys beside the section that must not change either: what noise is drawn, and what speech is heard."""
_RECORDED = ("measured", "sha256")
_MAX_LISTED = 5
_LEVELS = ("floor", "ceiling")


def check_continued(facts: RunFacts) -> list[Finding]:
    """A continued run has the encoders, loss, references, rules, schedule, data and seed that it had before."""
    if facts.restored is None or not facts.restored.continues or not facts.restored.config.get(SECTION):
        return []
    changes = [*_encoder_files(facts)]
    others = [key for key in _OTHERS if key in facts.restored.config]
    for key in (SECTION, *others):
        changes += _differences(facts.restored.config[key], _plain(getattr(facts.config, key)), key)
    if not changes:
        return []
    return [
        Finding(
            f"The run was trained until {facts.restored.path} with other settings: {_listed(changes)}.",
            "Set them as they were, or start a new run from the checkpoint with --restore_path. To continue this run "
            "with the change, --skip continued.",
        )
    ]


def _listed(changes: Sequence[str]) -> str:
    more = [f"and {len(changes) - _MAX_LISTED} more"] if len(changes) > _MAX_LISTED else []
    return "; ".join([*changes[:_MAX_LISTED], *more])


def _plain(value: Any) -> Any:
    """Return a value of a config as JSON holds it."""
    if isinstance(value, Coqpit):
        return value.to_dict()
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _differences(before: Any, now: Any, path: str) -> Iterator[str]:
    """Yield what differs, with both values; a key that only one of them has is of another version."""
    if path in _FREE:
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        own = path.rpartition(".")[2] != "params"  # among parameters, a key that is missing has its default
        keys = [key for key in before if key in now] if own else [*before, *(key for key in now if key not in before)]
        for key in keys:
            if key not in _RECORDED and not (key in _LEVELS and None in (before.get(key), now.get(key))):
                yield from _differences(before.get(key), now.get(key), f"{path}.{key}")
    elif _is_list(before) and _is_list(now) and len(before) == len(now):
        for index, (former, present) in enumerate(zip(before, now, strict=True)):
            yield from _differences(former, present, f"{path}.{index}")
    elif path.startswith("datasets.") and path.endswith(".path"):  # a folder may have moved
        if PurePath(str(before)).name != PurePath(str(now)).name:
            yield f"{path} = {typed(before)} (here {typed(now)})"
    elif before != now:
        yield f"{path} = {typed(before)} (here {typed(now)})"


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _encoder_files(facts: RunFacts) -> Iterator[str]:
    """Yield the encoders whose file is another one, although the config may name it as before."""
    former = facts.restored.config[SECTION] if facts.restored is not None else {}
    if facts.consistency is None or not isinstance(former, Mapping):
        return
    for role in ("encoders", "holdout"):
        for index, spec in enumerate(getattr(facts.config.scl, role)):
            specs = former.get(role)
            before = specs[index] if _is_list(specs) and index < len(specs) else None
            params = before["params"] if isinstance(before, Mapping) and "params" in before else None
            if not isinstance(params, Mapping) or params.get("sha256") is None:
                continue
            own = getattr(facts.consistency.encoders[spec.label].encoder, "sha256", None)
            if own != params["sha256"]:
                yield f"scl.{role}.{index} has weights of SHA-256 {params['sha256']} (here {own})"
