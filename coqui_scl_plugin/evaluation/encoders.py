"""Speaker encoders of an evaluation: which ones score the speech, and which role each had in training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from coqui_scl_plugin.config import EncoderConfig, SclConfig
from coqui_scl_plugin.encoders.build import build_encoder_of, check_weights_are_there
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.utils.fingerprint import fingerprint

Role = Literal["training", "holdout", "unknown"]
"""Role of an encoder in the training of the evaluated model; unknown for recordings of unknown origin."""

_DEFAULT_ENCODERS = ("ge2e", "dvector")


@dataclass(frozen=True)
class EncoderIdentity:
    """A speaker encoder, as results record it."""

    name: str
    params: dict[str, Any]
    fingerprint: str
    """Fingerprint of its weights."""


def _may_be_one(one: EncoderConfig, other: EncoderConfig) -> bool:
    """Tell whether two runs may mean the same encoder; a run that never loaded it has not recorded its SHA-256."""
    first, second = ({key: value for key, value in s.params.items() if key != "sha256"} for s in (one, other))
    sums = {spec.params["sha256"] for spec in (one, other) if spec.params.get("sha256")}
    return (one.name, first) == (other.name, second) and len(sums) < 2


def encoder_specs(sections: Sequence[SclConfig], names: Sequence[str]) -> dict[str, EncoderConfig]:
    """Collect the encoders of an evaluation, by alias.

    Args:
        sections: Sections of the evaluated runs; all of their encoders take part, training and held-out.
        names: Registered names of further encoders. With neither sections nor names, `ge2e` and `dvector`.

    Raises:
        ConfigError: two sections use one alias for different encoders.
    """
    specs: dict[str, EncoderConfig] = {}
    for spec in (spec for section in sections for spec in (*section.encoders, *section.holdout)):
        known = specs.setdefault(spec.label, spec)
        if not _may_be_one(known, spec):
            raise ConfigError(
                f"The runs use the alias {spec.label!r} for different encoders: {known.name} {known.params} and "
                f"{spec.name} {spec.params}. Evaluate them one at a time."
            )
        if "sha256" in spec.params:
            specs[spec.label] = spec
    for name in names or (() if sections else _DEFAULT_ENCODERS):
        specs.setdefault(name, EncoderConfig(name=name))
    return specs


def load_encoders(
    specs: Mapping[str, EncoderConfig],
) -> tuple[dict[str, SegmentEncoder], dict[str, EncoderIdentity]]:
    """Load frozen encoders as they were published, on the GPU if there is one.

    Args:
        specs: Encoders by alias.

    Returns:
        The encoders and their identities, by alias.

    Raises:
        ConfigError: an encoder's name or parameters cannot be used.
        EncoderError: an encoder's weights cannot be loaded.
    """
    check_weights_are_there(specs.values())
    encoders, identities = {}, {}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for alias, spec in specs.items():
        encoder = SegmentEncoder(build_encoder_of(spec, f"encoder {alias}"))
        FrozenPolicy().apply(encoder)
        identities[alias] = EncoderIdentity(spec.name, dict(spec.params), fingerprint(encoder.encoder))
        encoders[alias] = encoder.to(device)
    return encoders, identities


def roles_of(section: SclConfig | None, identities: Mapping[str, EncoderIdentity]) -> dict[str, Role]:
    """Return the role of each encoder in the training of a run, determined by its weights, by alias.

    Args:
        section: Section of the run; None for recordings of unknown origin.
        identities: Encoders by alias, with all of those of the section.
    """
    if section is None:
        return dict.fromkeys(identities, "unknown")
    trains = section.enabled and section.weight > 0
    trained = {identities[spec.label].fingerprint for spec in section.encoders} if trains else set()
    return {alias: "training" if one.fingerprint in trained else "holdout" for alias, one in identities.items()}
