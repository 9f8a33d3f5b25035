"""The optional attributes of losses and encoders, which `hookspecs.py` describes, read from a class or an object."""

from typing import Any


def takes_calibration(loss: Any) -> bool:
    """Tell whether a loss can rescale its cosines; older plugins say so as `takes_levels`."""
    return bool(getattr(loss, "takes_calibration", False) or getattr(loss, "takes_levels", False))


def compares_features(loss: Any) -> bool:
    """Tell whether a loss compares feature maps; otherwise it compares embeddings."""
    return bool(getattr(loss, "compares", "embeddings") == "features")


def speakers_needed(loss: Any) -> int:
    """Return the number of speakers that a loss needs to teach anything."""
    return int(getattr(loss, "min_speakers", 1))


def wants_prototypes(loss: Any) -> bool:
    """Tell whether a loss asks for the centroid of each speaker of the data set."""
    return bool(getattr(loss, "wants_prototypes", False))


def wants_ceiling(loss: Any) -> bool:
    """Tell whether items beyond the encoder's ceiling get no gradient from a loss."""
    return bool(getattr(loss, "wants_ceiling", False))


def offers_features(encoder: Any) -> bool:
    """Tell whether an encoder, or some encoder of a class, has feature maps to compare."""
    return callable(getattr(encoder, "features", None)) and bool(getattr(encoder, "offers_features", True))


def packaged_weights(encoder: Any) -> Any:
    """Return the `PackagedWeights` that `coqui-scl encoders get` fetches for an encoder class; None if it has none."""
    return getattr(encoder, "packaged_weights", None)


def evidence(cls: Any) -> str:
    """Return what a class says of its cost and its gain, as figures; empty if it says nothing."""
    return str(getattr(cls, "evidence", ""))
