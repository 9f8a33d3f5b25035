"""Build the speaker encoder that a section names."""

from collections.abc import Iterable

from coqui_scl_plugin.config import EncoderConfig
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.loading.packaged import PackagedWeights, missing_message
from coqui_scl_plugin.errors import EncoderError
from coqui_scl_plugin.plugins import parameters, registry
from coqui_scl_plugin.plugins.optional import packaged_weights

_REQUIRED_ATTRIBUTES = ("sample_rate", "embedding_dim", "min_samples")


def build_encoder_of(spec: EncoderConfig, path: str) -> SpeakerEncoder:
    """Build the encoder of a section, not yet frozen; `path` names the section in messages.

    Raises:
        ConfigError: the name or parameters cannot be used.
        EncoderError: the weights cannot be loaded, or the class lacks an attribute.
    """
    cls = registry.installed().get("encoders", spec.name, f"{path}.name")
    encoder: SpeakerEncoder = parameters.build(cls, spec.params, f"{path}.params")
    if missing := [name for name in _REQUIRED_ATTRIBUTES if not hasattr(encoder, name)]:
        raise EncoderError(f"{path}.name = {spec.name!r}: {cls.__name__} lacks the attribute {', '.join(missing)}.")
    return encoder


def missing_weights(specs: Iterable[EncoderConfig]) -> list[PackagedWeights]:
    """Return the weights that some encoders need, and `coqui-scl encoders get` has yet to fetch."""
    known = registry.installed().encoders
    missing = [
        weights
        for spec in specs
        if spec.name in known and not spec.params.get("model_path")
        if (weights := packaged_weights(known[spec.name].cls)) is not None and not weights.is_there()
    ]
    return list(dict.fromkeys(missing))


def check_weights_are_there(specs: Iterable[EncoderConfig]) -> None:
    """Check that no weights are missing before any are loaded.

    Raises:
        EncoderError: some are; it names them all, and the command.
    """
    if missing := missing_weights(specs):
        raise EncoderError(missing_message(missing))
