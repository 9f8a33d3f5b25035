"""Functions of the public interface that are no class of their own."""

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.plugins import parameters, registry


def available() -> dict[str, list[str]]:
    """The names that a config may use: `{"losses": [...], "encoders": [...], "freeze_policies": [...]}`."""
    known = registry.installed()
    return {kind: sorted(known.entries(kind)) for kind in registry.KINDS}


def _build(kind: str, name: str, params: Mapping[str, Any] | None) -> nn.Module:
    cls = registry.installed().get(kind, name, "name")
    built: nn.Module = parameters.build(cls, params or {}, "params")
    return built


def build_loss(name: str, params: Mapping[str, Any] | None = None) -> nn.Module:
    """Make a registered loss: `loss(generated, reference, speaker_ids=None, prototypes=None)`, scalar and float32.

    Raises:
        ConfigError: the name is not registered, or `params` do not fit its constructor.
    """
    return _build("losses", name, params)


def build_encoder(name: str, params: Mapping[str, Any] | None = None) -> SpeakerEncoder:
    """Make a registered speaker encoder: `[B, T]` at its `sample_rate` to `[B, embedding_dim]`, unit length.

    It is as it was loaded: whoever trains with it freezes it.

    Raises:
        ConfigError: the name is not registered, or `params` do not fit its constructor.
        EncoderError: its weights are missing or wrong.
    """
    return cast(SpeakerEncoder, _build("encoders", name, params))
