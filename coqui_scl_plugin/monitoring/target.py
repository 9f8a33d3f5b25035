"""`target_loss` as a similarity: Coqui keeps the model whose target is smallest, but a similarity should be large.

So the trainer is given the distance, 1 minus the similarity.
"""

from collections.abc import Mapping
from typing import Any

from coqui_scl_plugin.monitoring.history import CALIBRATED, CROSS_UTTERANCE

_DISTANCE = "distance_"
_PREFIXES = {
    CALIBRATED: CALIBRATED,
    CROSS_UTTERANCE: CROSS_UTTERANCE,
    # names of earlier versions, in configs and run folders
    "secs_calibrated_": CALIBRATED,
    "secs_": CROSS_UTTERANCE,
}


def target_similarity(config: Any) -> str | None:
    """Return the similarity that `target_loss` names, such as `cross_utterance_dvector`; None if it names another loss.

    The names of earlier versions mean the new ones.

    >>> from types import SimpleNamespace
    >>> [target_similarity(SimpleNamespace(target_loss=name)) for name in ("distance_secs_calibrated_ge2e", "loss_1")]
    ['calibrated_cross_utterance_ge2e', None]
    """
    named = (config.target_loss or "").removeprefix(_DISTANCE)
    prefix = next((prefix for prefix in _PREFIXES if named.startswith(prefix)), None)
    return None if prefix is None else _PREFIXES[prefix] + named.removeprefix(prefix)


def is_calibrated(similarity: str) -> bool:
    """Tell whether a similarity, named as by `target_similarity`, is a calibrated one."""
    return similarity.startswith(CALIBRATED)


def alias_of(similarity: str) -> str:
    """Return the alias of the encoder of a similarity, named as by `target_similarity`.

    >>> alias_of("cross_utterance_dvector"), alias_of("calibrated_cross_utterance_dvector")
    ('dvector', 'dvector')
    """
    return similarity.removeprefix(CALIBRATED if is_calibrated(similarity) else CROSS_UTTERANCE)


def take_target(config: Any) -> str | None:
    """Make the trainer choose by the distance, and return the distance's name; None for other targets."""
    similarity = target_similarity(config)
    if similarity is None:
        return None
    config.target_loss = f"{_DISTANCE}{similarity}"
    return str(config.target_loss)


def distance_of(similarities: Mapping[str, float], target: str, *, unknown: float = 1.0) -> float:
    """Return the distance that a target names; `unknown` if it was not measured: 1, as between unrelated voices."""
    found = similarities.get(target.removeprefix(_DISTANCE))
    return unknown if found is None else 1.0 - found
