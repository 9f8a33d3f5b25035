"""The speaker encoders of a run, with the role and the policy of each."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Self, cast

from torch import nn

from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.freeze import FreezePolicy


class EncoderBank(nn.ModuleDict):
    """Speaker encoders by alias. Enforces their policies, also after the model switches its mode."""

    # as attributes of the class, so that an alias of this name is refused like those of torch's own
    _policies: Mapping[str, FreezePolicy] = MappingProxyType({})
    _holdout: tuple[str, ...] = ()

    def __init__(
        self,
        encoders: Mapping[str, SegmentEncoder],
        policies: Mapping[str, FreezePolicy],
        holdout: Collection[str] = (),
    ) -> None:
        """Apply the policies.

        Args:
            encoders: Training and held-out encoders by alias.
            policies: Policies by alias.
            holdout: Aliases of the held-out encoders, which only evaluate.
        """
        super().__init__(encoders)
        self._policies = dict(policies)
        self._holdout = tuple(holdout)
        self.apply_policies()

    def __getitem__(self, alias: str) -> SegmentEncoder:
        return cast(SegmentEncoder, super().__getitem__(alias))

    @property
    def policies(self) -> Mapping[str, FreezePolicy]:
        """The policies by alias."""
        return self._policies

    @property
    def roles(self) -> dict[str, str]:
        """The role of each encoder by alias: `training` or `holdout`."""
        return {alias: "holdout" if alias in self._holdout else "training" for alias in self}

    @property
    def training_aliases(self) -> list[str]:
        """Aliases of the encoders that the loss uses."""
        return [alias for alias in self if alias not in self._holdout]

    @property
    def holdout_aliases(self) -> tuple[str, ...]:
        """Aliases of the encoders that only evaluate."""
        return self._holdout

    @property
    def segment_encoders(self) -> dict[str, SegmentEncoder]:
        """All encoders by alias, as a plain dictionary."""
        return {alias: self[alias] for alias in self}

    @property
    def frozen_encoders(self) -> dict[str, SegmentEncoder]:
        """The encoders whose policy does not let them train."""
        return {alias: self[alias] for alias in self if not self._policies[alias].trainable}

    @property
    def trained_encoders(self) -> dict[str, SegmentEncoder]:
        """The encoders whose policy lets them train."""
        return {alias: self[alias] for alias in self if self._policies[alias].trainable}

    def without_frozen(self, state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """Return a state dict without the tensors of frozen encoders; `prefix` is that of this bank's keys in it."""
        prefixes = tuple(f"{prefix}{alias}." for alias in self.frozen_encoders)
        return {key: value for key, value in state.items() if not key.startswith(prefixes)}

    def train(self, mode: bool = True) -> Self:
        """Switch the mode, then enforce each encoder's policy."""
        super().train(mode)
        self.apply_policies()
        return self

    def apply_policies(self) -> None:
        """Enforce each encoder's policy."""
        for alias, encoder in self.items():
            self._policies[alias].apply(encoder)
