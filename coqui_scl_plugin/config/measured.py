"""What a run recorded of its encoders in the section, and how a later run with other encoders forgets it."""

from collections.abc import Mapping
from typing import Any

from coqui_scl_plugin.config.schema import EncoderConfig

_HASH = "sha256"


def record_measured(spec: EncoderConfig, sha256: str | None, calibration: tuple[float, float] | None) -> None:
    """Record the SHA-256 of an encoder's weights, its floor and its ceiling, and that a run measured them.

    A floor or a ceiling that the user wrote is recorded as used, and is not forgotten with the encoder.
    """
    former = (spec.floor, spec.ceiling) == (spec.measured.get("floor"), spec.measured.get("ceiling"))
    by_hand = None not in (spec.floor, spec.ceiling) and not former
    measured: dict[str, Any] = {"name": spec.name, "params": _own_params(spec)}
    if sha256 is not None:
        spec.params = {**spec.params, _HASH: sha256}
        measured[_HASH] = sha256
    if calibration is not None:
        spec.floor, spec.ceiling = calibration
        if not by_hand:
            measured |= {"floor": calibration[0], "ceiling": calibration[1]}
    spec.measured = measured


def forget_recorded_hash(spec: EncoderConfig, *, same_params_too: bool) -> None:
    """Forget the SHA-256 that a run recorded of another encoder than the section names now.

    Args:
        spec: The section, which is changed.
        same_params_too: Also forget it where the section names the same file, which may have changed since.
    """
    if (same_params_too or not _names_the_measured(spec)) and has_recorded_hash(spec):
        spec.params = _own_params(spec)


def has_recorded_hash(spec: EncoderConfig) -> bool:
    """Tell whether the SHA-256 in the parameters was recorded by a run."""
    return _HASH in spec.measured and spec.params.get(_HASH) == spec.measured[_HASH]


def forget_other_calibration(spec: EncoderConfig, sha256: str | None) -> None:
    """Forget the floor and ceiling of another encoder than the one that was loaded, so that the run measures anew.

    Args:
        spec: The section, which is changed. Those that a user wrote stay.
        sha256: SHA-256 of the weights that were loaded, if the encoder tells it.
    """
    measured = spec.measured
    if not measured or (_names_the_measured(spec) and sha256 == measured.get(_HASH)):
        return
    if (spec.floor, spec.ceiling) == (measured.get("floor"), measured.get("ceiling")):
        spec.floor = spec.ceiling = None
    spec.measured = {}


def _own_params(spec: EncoderConfig) -> dict[str, Any]:
    return {key: value for key, value in spec.params.items() if key != _HASH}


def _names_the_measured(spec: EncoderConfig) -> bool:
    params: Mapping[str, Any] = spec.measured.get("params", {})
    return (spec.name, _own_params(spec)) == (spec.measured.get("name"), params)
