"""Any loss over several speaker encoders."""

import copy
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from coqui_scl_plugin.config import check_loss
from coqui_scl_plugin.losses.base import SpeakerConsistencyLoss
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.plugins import parameters, registry

Combine = Literal["mean", "worst", "random"]

_MEMBER = "scl.loss.params.member"


def _build_member(member: Mapping[str, Any]) -> nn.Module:
    cls = registry.installed().get("losses", member["name"], f"{_MEMBER}.name")
    built: nn.Module = parameters.build(cls, member.get("params", {}), f"{_MEMBER}.params")
    return built


class EnsembleLoss(nn.Module):
    """A member loss for each encoder, combined to one scalar. A third party's ensemble derives from it.

    `mean`: the mean of the members by the encoders' weights; its gradient is that mean of their gradients.
    `worst`: the largest of the weighted members alone. `random`: one encoder a step, drawn by weight from the seed
    and the step, so that the same run draws the same encoders.
    """

    takes_ensemble = True

    def __init__(
        self,
        member: Mapping[str, Any] | None = None,
        combine: Combine = "mean",
        calibrate: bool = True,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        """Choose the member loss and how members combine.

        Args:
            member: `{"name": ..., "params": {...}}` of the loss for each encoder. Default: `cosine`.
            combine: `mean`, `worst` or `random`.
            calibrate: Rescale the cosines of each encoder by its own floor and ceiling on real speech, since one voice
                can score 0.33 on one encoder and 0.77 on another.
            seed: Of the draw of `random`.

        Raises:
            ConfigError: `member` names no loss, or its parameters do not fit.
        """
        super().__init__()
        check_loss("ensemble", {"member": member, "calibrate": calibrate}, "scl.loss")
        self.combine: Combine = combine
        self.calibrate = calibrate
        self.seed = seed
        template = _build_member({"name": "cosine"} if member is None else member)
        self._template = [template]  # in a list, so that it is no submodule beside its copies
        self.min_speakers = getattr(template, "min_speakers", 1)
        self.wants_prototypes = getattr(template, "wants_prototypes", False)
        self.members = nn.ModuleDict()
        self.weights: dict[str, float] = {}
        self._step = 0
        self._calibrated = not calibrate

    def bind(self, weights: Mapping[str, float]) -> None:
        """Tell the ensemble its encoders, by alias, and their weights, which are scaled to a mean of 1."""
        scale = len(weights) / sum(weights.values())
        self.weights = {alias: weight * scale for alias, weight in weights.items()}
        self.members.update({alias: copy.deepcopy(self._template[0]) for alias in weights})

    def set_levels(self, levels: Mapping[str, Calibration]) -> None:
        """Give each member the floor and ceiling of its encoder, by alias."""
        for alias, member in self.members.items():
            cast(SpeakerConsistencyLoss, member).set_levels(levels[alias])
        self._calibrated = True

    def set_step(self, step: int) -> None:
        """Pass the training step to the members, and draw by it."""
        self._step = step
        for member in self.members.values():
            if (set_step := getattr(member, "set_step", None)) is not None:
                set_step(step)

    def active(self) -> list[str]:
        """The aliases that this step needs: all of them, or the one that `random` draws."""
        aliases = list(self.weights)
        if self.combine != "random":
            return aliases
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self._step)
        return [aliases[int(torch.multinomial(torch.tensor(list(self.weights.values())), 1, generator=generator))]]

    def forward(
        self,
        generated: Mapping[str, Tensor],
        reference: Mapping[str, Tensor],
        speaker_ids: Tensor | None = None,
        prototypes: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Combine the members' losses to a float32 scalar; arguments as for a member, by alias."""
        return self.join(self.member_losses(generated, reference, speaker_ids, prototypes))

    def member_losses(
        self,
        generated: Mapping[str, Tensor],
        reference: Mapping[str, Tensor],
        speaker_ids: Tensor | None = None,
        prototypes: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The unweighted loss of each active encoder, by alias.

        Raises:
            ValueError: `calibrate` is on, and `set_levels` was not called.
        """
        if not self._calibrated:
            msg = "calibrate is on, but no floor and ceiling are known: call set_levels, or set calibrate to false"
            raise ValueError(msg)
        return {
            alias: self.members[alias](
                generated[alias], reference[alias], speaker_ids, prototypes[alias] if prototypes else None
            )
            for alias in self.active()
        }

    def join(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Combine member losses as `combine` says."""
        if self.combine == "random":
            (chosen,) = losses.values()
            return chosen
        weighted = torch.stack([self.weights[alias] * loss for alias, loss in losses.items()])
        return weighted.max() if self.combine == "worst" else weighted.mean()
