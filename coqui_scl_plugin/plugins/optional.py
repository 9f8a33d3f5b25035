"""The optional attributes of losses and encoders, which `hookspecs.py` describes, read from a class or an object."""

from typing import Any


def takes_calibration(loss: Any) -> bool:
    """Tell whether a loss can rescale its cosines; older plugins say so as `takes_levels`."""
    return bool(getattr(loss, "takes_calibration", False) or getattr(loss, "takes_levels", False))


def compares_features(loss: Any) -> bool:
    """Tell whether a loss compares feature maps; otherwise it compares embeddings."""
    return bool(getattr(loss, "compares", "embeddings") == "features")


def offers_features(encoder: Any) -> bool:
    """Tell whether an encoder, or some encoder of a class, has feature maps to compare."""
    return callable(getattr(encoder, "features", None)) and bool(getattr(encoder, "offers_features", True))
