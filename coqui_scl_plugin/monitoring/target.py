"""`target_loss` as a similarity: Coqui keeps the model for which it is smallest, a similarity is best when largest."""

from collections.abc import Mapping
from typing import Any

_SIMILARITY, _DISTANCE = "secs_", "distance_secs_"


def target_similarity(config: Any) -> str | None:
    """The name of the similarity that `target_loss` is, such as `secs_dvector`; None where it is something else."""
    target = config.target_loss or ""
    return target.removeprefix("distance_") if target.startswith((_SIMILARITY, _DISTANCE)) else None


def alias_of(similarity: str) -> str:
    """The encoder of a similarity.

    >>> alias_of("secs_dvector"), alias_of("secs_calibrated_dvector")
    ('dvector', 'dvector')
    """
    return similarity.removeprefix(_SIMILARITY).removeprefix("calibrated_")


def take_target(config: Any) -> str | None:
    """Make the trainer choose by the distance, 1 minus the similarity, and give its name; None for other targets."""
    similarity = target_similarity(config)
    if similarity is None:
        return None
    config.target_loss = f"distance_{similarity}"
    return str(config.target_loss)


def distance_of(similarities: Mapping[str, float], target: str) -> float:
    """The distance that a target names; 1, as of voices that have nothing in common, where it was not measured yet."""
    return 1.0 - similarities.get(target.removeprefix("distance_"), 0.0)
