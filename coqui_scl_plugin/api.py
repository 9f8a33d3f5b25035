"""The public functions."""

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from coqui_scl_plugin.config import check_loss
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.plugins import parameters, registry


def available() -> dict[str, list[str]]:
    """Return the names that a config may use: `{"losses": [...], "encoders": [...], "freeze_policies": [...]}`."""
    known = registry.installed()
    return {kind: sorted(known.entries(kind)) for kind in registry.KINDS}


def build_loss(name: str, params: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a registered loss: `loss(generated, reference, speaker_ids=None, prototypes=None)`, scalar and float32.

    The loss `ensemble` takes mappings by alias in place of tensors, and its parameter `encoders` gives weights by
    alias.

    Raises:
        ConfigError: the name is not registered, or `params` do not fit the constructor.
    """
    cls = registry.installed().get("losses", name, "name")
    check_loss(name, params or {}, "")
    built: nn.Module = parameters.construct(cls, params or {}, "params")
    return built


def build_encoder(name: str, params: Mapping[str, Any] | None = None) -> SpeakerEncoder:
    """Build a registered speaker encoder: `[B, T]` at its `sample_rate` to `[B, embedding_dim]`, unit length.

    The encoder is not frozen: freeze it before training a generator through it.

    Raises:
        ConfigError: the name is not registered, or `params` do not fit the constructor.
        EncoderError: the weights are missing or wrong.
    """
    cls = registry.installed().get("encoders", name, "name")
    return cast(SpeakerEncoder, parameters.build(cls, params or {}, "params"))
