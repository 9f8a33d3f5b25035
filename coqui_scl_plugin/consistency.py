"""Encoders, references and a loss put together: from waveforms to the speaker consistency term."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from coqui_scl_plugin import parameters, registry
from coqui_scl_plugin.config import EncoderConfig, SclConfig, check_config
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.resampled import ResampledEncoder
from coqui_scl_plugin.errors import ConfigError, EncoderError
from coqui_scl_plugin.freeze import FreezePolicy, fingerprint
from coqui_scl_plugin.losses.ensemble import EnsembleLoss
from coqui_scl_plugin.references import RealSpeech, References, build_references


@dataclass(frozen=True)
class ConsistencyTerm:
    """The loss of a batch, and what to log beside it."""

    loss: Tensor
    """Scalar, unweighted, with a gradient to the generated waveform."""
    similarities: dict[str, Tensor]
    """Mean cosine of generated and reference embeddings by encoder, no gradient."""
    members: dict[str, Tensor]
    """Unweighted loss of each encoder, no gradient; empty unless the loss is an ensemble."""


def _build_encoder(spec: EncoderConfig, path: str) -> SpeakerEncoder:
    if hasattr(nn.ModuleDict, spec.label):
        raise ConfigError(f"{path}.alias = {spec.label!r}: torch reserves this name, choose another one.")
    cls = registry.installed().get("encoders", spec.name, f"{path}.name")
    encoder: SpeakerEncoder = parameters.build(cls, spec.params, f"{path}.params")
    if missing := [name for name in ("sample_rate", "embedding_dim", "min_samples") if not hasattr(encoder, name)]:
        raise EncoderError(f"{path}.name = {spec.name!r}: {cls.__name__} lacks the attribute {', '.join(missing)}.")
    return encoder


def _refuse_training_weights(config: SclConfig, encoders: Mapping[str, ResampledEncoder]) -> None:
    """A held-out encoder must not be a training one under another name. Raises ConfigError."""
    if not config.holdout:
        return
    trained = {fingerprint(encoders[spec.label].encoder): spec.label for spec in config.encoders}
    for index, spec in enumerate(config.holdout):
        if twin := trained.get(fingerprint(encoders[spec.label].encoder)):
            msg = (
                f"scl.holdout.{index} ({spec.label!r}) has the weights of the training encoder {twin!r}: a held-out "
                "encoder must take no part in training. Choose another one."
            )
            raise ConfigError(msg)


class SpeakerConsistency(nn.Module):
    """The loss with its encoders. Owns the policies that keep the encoders as they are."""

    def __init__(
        self,
        loss: nn.Module,
        encoders: Mapping[str, ResampledEncoder],
        policies: Mapping[str, FreezePolicy],
        references: References,
        holdout: tuple[str, ...] = (),
    ) -> None:
        """Put the parts together.

        Args:
            loss: Keeps the contract of `SpeakerConsistencyLoss`, or is an `EnsembleLoss` bound to the encoders.
            encoders: By alias, the held-out ones too.
            policies: By alias.
            references: Where the real embeddings come from.
            holdout: Aliases of encoders that only ever evaluate.
        """
        super().__init__()
        self.loss = loss
        self.encoders = nn.ModuleDict(encoders)
        self.policies = dict(policies)
        self.references = references
        self.holdout = holdout
        self.apply_policies()

    @classmethod
    def from_config(cls, config: SclConfig, sample_rate: int) -> Self:
        """Build everything that the section names; `sample_rate` is the model's, in Hz.

        Leaves the random state as it was, so that a model is initialised alike with and without the loss.

        Raises:
            ConfigError: the section is not valid.
            EncoderError: the weights of an encoder cannot be loaded.
        """
        check_config(config)
        known = registry.installed()
        encoders: dict[str, ResampledEncoder] = {}
        with torch.random.fork_rng(devices=[]):
            for role in ("encoders", "holdout"):
                for index, spec in enumerate(cast(list[EncoderConfig], getattr(config, role))):
                    encoder = _build_encoder(spec, f"scl.{role}.{index}")
                    encoders[spec.label] = ResampledEncoder(encoder, sample_rate, config.segment.min_seconds)
            loss = parameters.build(
                known.get("losses", config.loss.name, "scl.loss.name"), config.loss.params, "scl.loss.params"
            )
        _refuse_training_weights(config, encoders)
        if isinstance(loss, EnsembleLoss):
            loss.bind({spec.label: spec.weight for spec in config.encoders})
        policies = {
            spec.label: known.get("freeze_policies", spec.policy, "policy")()
            for spec in (*config.encoders, *config.holdout)
        }
        holdout = tuple(spec.label for spec in config.holdout)
        return cls(loss, encoders, policies, build_references(config.reference.source), holdout)

    @property
    def training_aliases(self) -> list[str]:
        """The encoders that the loss compares with."""
        return [alias for alias in self.encoders if alias not in self.holdout]

    @property
    def frozen_encoders(self) -> dict[str, nn.Module]:
        """The encoders that must not move: all but those whose policy lets them train."""
        return {alias: encoder for alias, encoder in self.encoders.items() if not self.policies[alias].trainable}

    def train(self, mode: bool = True) -> Self:
        """Switch the loss; the encoders follow their policies."""
        super().train(mode)
        self.apply_policies()
        return self

    def apply_policies(self) -> None:
        """Enforce each encoder's policy."""
        for alias, encoder in self.encoders.items():
            self.policies[alias].apply(encoder)

    def set_step(self, step: int) -> None:
        """Tell a loss that asks for it the training step."""
        if (set_step := getattr(self.loss, "set_step", None)) is not None:
            set_step(step)

    def loss_of(self, alias: str) -> nn.Module:
        """The loss as it compares with this encoder alone."""
        return self.loss.members[alias] if isinstance(self.loss, EnsembleLoss) else self.loss

    def embed_pair(self, alias: str, generated: Tensor, real: RealSpeech) -> tuple[Tensor, Tensor]:
        """Embeddings of `[B, T]` generated speech, with its gradient, and of the references, without: each `[B, D]`."""
        encoder = self.encoders[alias]
        return encoder(generated), self.references.embed(alias, encoder, real)

    def forward(self, generated: Tensor, real: RealSpeech, *, with_holdout: bool = False) -> ConsistencyTerm:
        """Compare `[B, T]` generated speech at the model's rate with real speech, in float32."""
        active = self.loss.active() if isinstance(self.loss, EnsembleLoss) else self.training_aliases
        heard = [*self.training_aliases, *self.holdout] if with_holdout else active
        pairs = {alias: self.embed_pair(alias, generated, real) for alias in heard}
        members: dict[str, Tensor] = {}
        if isinstance(self.loss, EnsembleLoss):
            members = self.loss.member_losses(
                {alias: pairs[alias][0] for alias in active},
                {alias: pairs[alias][1] for alias in active},
                real.speaker_ids,
            )
            loss = self.loss.join(members)
        else:
            (alias,) = active
            loss = self.loss(*pairs[alias], real.speaker_ids)
        return ConsistencyTerm(
            loss=loss,
            similarities={alias: cosine_similarity(*pair).mean().detach() for alias, pair in pairs.items()},
            members={alias: member.detach() for alias, member in members.items()},
        )
