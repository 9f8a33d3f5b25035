"""A member loss for each speaker encoder, combined into one scalar; every run computes its loss in this form."""

import copy
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from coqui_scl_plugin.losses.base import calibrate_loss
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.plugins import parameters, registry

Combine = Literal["mean", "worst", "random"]
Weights = Mapping[str, float]
"""Weights by alias of the encoder; their mean is 1."""


def _all(weights: Weights, seed: int, step: int) -> list[str]:
    return list(weights)


def _draw_one(weights: Weights, seed: int, step: int) -> list[str]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    return [list(weights)[int(torch.multinomial(torch.tensor(list(weights.values())), 1, generator=generator))]]


def _weighted(losses: Mapping[str, Tensor], weights: Weights) -> Tensor:
    return torch.stack([weights[alias] * loss for alias, loss in losses.items()])


def _mean(losses: Mapping[str, Tensor], weights: Weights) -> Tensor:
    return _weighted(losses, weights).mean()


def _largest(losses: Mapping[str, Tensor], weights: Weights) -> Tensor:
    return _weighted(losses, weights).max()


def _only(losses: Mapping[str, Tensor], weights: Weights) -> Tensor:
    (drawn,) = losses.values()
    return drawn


class Combination(NamedTuple):
    """A way to combine the members."""

    choose: Callable[[Weights, int, int], list[str]]
    """Selects the aliases that a step needs, from the weights, the seed and the step."""
    join: Callable[[Mapping[str, Tensor], Weights], Tensor]
    """Combines their unweighted losses into one scalar."""


COMBINATIONS: Mapping[Combine, Combination] = {
    "mean": Combination(_all, _mean),
    "worst": Combination(_all, _largest),
    "random": Combination(_draw_one, _only),
}


class EnsembleLoss(nn.Module):
    """Combine the losses of several speaker encoders, each computed by a member.

    `mean`: the weighted mean of the members. `worst`: the largest of the weighted members. `random`: one member per
    step, drawn by weight from the seed and the step, so that a repeated run draws the same members.

    A loss for a single encoder is an ensemble of one, whose weight is exactly 1.
    """

    def __init__(
        self,
        member: Mapping[str, Any] | nn.Module | None = None,
        combine: Combine = "mean",
        calibrate: bool = True,
        seed: Annotated[int, Field(ge=0)] = 0,
        encoders: Mapping[str, Annotated[float, Field(gt=0)]] | None = None,
    ) -> None:
        """Build a member for each encoder.

        Args:
            member: `{"name": ..., "params": {...}}` of the loss for each encoder, or such a loss. Default: `cosine`.
            combine: `mean`, `worst` or `random`.
            calibrate: Whether to rescale each encoder's cosines by its floor and ceiling on real speech, since one
                voice can score 0.33 on one encoder and 0.77 on another.
            seed: Seed of the draw of `random`.
            encoders: Weights by alias; only their ratios matter. A run takes them from its config.

        Raises:
            ConfigError: no loss is registered under the member's name, or its constructor refuses the parameters.
        """
        super().__init__()
        self.combine: Combine = combine
        self.calibrate = calibrate
        self.seed = seed
        weights = encoders or {}
        scale = len(weights) / sum(weights.values()) if weights else 1.0
        self.weights = {alias: weight * scale for alias, weight in weights.items()}
        template = member if isinstance(member, nn.Module) else build_member(member, "member")
        self.name = type(template).__name__
        """Class of the members, for messages."""
        self.min_speakers = int(getattr(template, "min_speakers", 1))
        self.wants_prototypes = bool(getattr(template, "wants_prototypes", False))
        self.members = nn.ModuleDict()
        for index, alias in enumerate(weights):
            self.members[alias] = template if index == 0 else copy.deepcopy(template)
        self._calibrated = not calibrate
        self._told_step: int | None = None

    def set_calibrations(self, calibrations: Mapping[str, Calibration]) -> None:
        """Give each member the floor and ceiling of its encoder, by alias."""
        for alias, member in self.members.items():
            calibrate_loss(member, calibrations[alias])
        self._calibrated = True

    def active(self, step: int) -> list[str]:
        """Return the aliases that a training step needs: all of them, or the one that `random` draws."""
        return COMBINATIONS[self.combine].choose(self.weights, self.seed, step)

    def forward(
        self,
        generated: Mapping[str, Tensor],
        reference: Mapping[str, Tensor],
        speaker_ids: Tensor | None = None,
        prototypes: Mapping[str, Tensor] | None = None,
        step: int = 0,
    ) -> Tensor:
        """Combine the members' losses into a float32 scalar; arguments as for a member, by alias, and the step."""
        return self.join(self.member_losses(generated, reference, speaker_ids, prototypes, step))

    def member_losses(
        self,
        generated: Mapping[str, Tensor],
        reference: Mapping[str, Tensor],
        speaker_ids: Tensor | None = None,
        prototypes: Mapping[str, Tensor] | None = None,
        step: int = 0,
    ) -> dict[str, Tensor]:
        """Return the unweighted loss of each encoder that is active in this step, by alias.

        Raises:
            ValueError: `calibrate` is on, but `set_calibrations` was not called.
        """
        if not self._calibrated:
            msg = "calibrate is on, but no calibration is known: call set_calibrations, or set calibrate to false"
            raise ValueError(msg)
        return {
            alias: self.member_loss(
                alias, generated[alias], reference[alias], speaker_ids, prototypes[alias] if prototypes else None, step
            )
            for alias in self.active(step)
        }

    def member_loss(
        self,
        alias: str,
        generated: Tensor,
        reference: Tensor,
        speaker_ids: Tensor | None = None,
        prototypes: Tensor | None = None,
        step: int = 0,
    ) -> Tensor:
        """Return the unweighted loss of one encoder, active or not; arguments as for a member."""
        self.set_step(step)
        loss: Tensor = self.members[alias](generated, reference, speaker_ids, prototypes)
        return loss

    def set_step(self, step: int) -> None:
        """Tell every member that asks for it the training step, once per step."""
        if step == self._told_step:
            return
        self._told_step = step
        for member in self.members.values():
            if (set_step := getattr(member, "set_step", None)) is not None:
                set_step(step)

    def join(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Combine the losses of active members into one scalar."""
        return COMBINATIONS[self.combine].join(losses, self.weights)


def build_member(member: Mapping[str, Any] | None, path: str) -> nn.Module:
    """Build the loss of a checked section `{"name": ..., "params": {...}}`, by default `cosine`; `path` names it."""
    section = {"name": "cosine", **(member or {})}
    cls = registry.installed().get("losses", section["name"], f"{path}.name")
    built: nn.Module = parameters.construct(cls, section.get("params", {}), f"{path}.params")
    return built
