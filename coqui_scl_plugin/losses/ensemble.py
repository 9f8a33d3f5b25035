"""A member loss for each speaker encoder, combined into one scalar; every run computes its loss in this form."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from coqui_scl_plugin.losses.base import calibrate_loss
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.losses.heard import Heard, part_for
from coqui_scl_plugin.losses.members import (
    Member,
    as_member,
    build_members,
    terms_in,
)
from coqui_scl_plugin.losses.weighted_sum import WeightedSum, compare
from coqui_scl_plugin.plugins.optional import (
    compares_features,
    speakers_needed,
    takes_calibration,
    wants_ceiling,
    wants_prototypes,
)

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

    evidence = (
        "The members hear one window, which is decoded once: ge2e and campplus together take about 0.7 of the time "
        "of each alone (docs/speed.md). Ablation (docs/ablation.md), speech from text, cosines of both: +0.213 by "
        "ge2e, +0.211 by campplus, +0.080 by dvector, which took no part. Against ge2e alone, campplus finds "
        "+0.041."
    )

    def __init__(
        self,
        member: Member | None = None,
        combine: Combine = "mean",
        calibrate: bool = True,
        seed: Annotated[int, Field(ge=0)] = 0,
        encoders: Mapping[str, Annotated[float, Field(gt=0)]] | None = None,
        members: Mapping[str, Member] | None = None,
    ) -> None:
        """Build a member for each encoder.

        Args:
            member: `{"name": ..., "params": {...}}` of the loss for each encoder, or such a loss. Default: `cosine`.
                A weighted sum of several losses is `{"features": 1, "cosine": 1}`, from names to weights, or a list
                `[{"name": ..., "params": {...}, "weight": ...}, ...]`.
            combine: `mean`, `worst` or `random`.
            calibrate: Whether to rescale each encoder's cosines by its floor and ceiling on real speech, since one
                voice can score 0.33 on one encoder and 0.77 on another. Feature maps have no cosines to rescale.
            seed: Seed of the draw of `random`.
            encoders: Weights by alias; only their ratios matter. A run takes them from its config.
            members: By alias, in the forms of `member`, for encoders that differ from it.

        Raises:
            ConfigError: no loss is registered under a member's name, or its constructor refuses the parameters.
            ValueError: `members` names an encoder that is not in `encoders`.
        """
        super().__init__()
        self.combine: Combine = combine
        self.calibrate = calibrate
        self.seed = seed
        weights = encoders or {}
        scale = len(weights) / sum(weights.values()) if weights else 1.0
        self.weights = {alias: weight * scale for alias, weight in weights.items()}
        template = as_member(member, "member")
        self.members = build_members(template, members or {}, weights)
        terms = terms_in(*(self.members.values() or [template]))
        neediest = max(terms, key=lambda term: (speakers_needed(term), not wants_prototypes(term)))
        self.name = type(neediest).__name__
        """Class of the members, or of the one that needs most speakers, for messages."""
        self.min_speakers = speakers_needed(neediest)
        self.wants_prototypes = any(map(wants_prototypes, terms))
        self.min_batch_speakers = max(
            (speakers_needed(term) for term in terms if not wants_prototypes(term)), default=1
        )
        """Speakers that a batch must hold for every member to teach; `min_speakers` counts those of the data set."""
        self._calibrations: dict[str, Calibration] = {}
        self._told_step: int | None = None

    # --- what the members ask for -----------------------------------------------------------------------------------

    def terms(self, alias: str) -> list[nn.Module]:
        """Return the losses of one encoder: one, unless its member is a sum."""
        return terms_in(self.members[alias])

    def compares_embeddings(self, alias: str) -> bool:
        """Tell whether a loss of this encoder compares embeddings."""
        return not all(map(compares_features, self.terms(alias)))

    def compares_features(self, alias: str) -> bool:
        """Tell whether a loss of this encoder compares feature maps."""
        return any(map(compares_features, self.terms(alias)))

    def asks_for_prototypes(self, alias: str) -> bool:
        """Tell whether a loss of this encoder asks for the centroids of all speakers."""
        return any(map(wants_prototypes, self.terms(alias)))

    def wants_calibration(self, alias: str) -> bool:
        """Tell whether `set_calibrations` must give this encoder's, to rescale its cosines or for its ceiling."""
        terms = self.terms(alias)
        return any(map(wants_ceiling, terms)) or (self.calibrate and any(map(takes_calibration, terms)))

    def set_calibrations(self, calibrations: Mapping[str, Calibration]) -> None:
        """Give each member that asks for it the floor and ceiling of its encoder, by alias."""
        self._calibrations = {alias: calibrations[alias] for alias in self.members if self.wants_calibration(alias)}
        for alias, calibration in self._calibrations.items():
            for term in filter(takes_calibration, self.terms(alias)) if self.calibrate else ():
                calibrate_loss(term, calibration)
        self._tell_measured_ceilings()

    def _tell_measured_ceilings(self) -> None:
        self._tell_ceilings({alias: calibration.ceiling for alias, calibration in self._calibrations.items()})

    def _tell_ceilings(self, ceilings: Mapping[str, float]) -> None:
        for alias, ceiling in ceilings.items():
            for term in filter(wants_ceiling, self.terms(alias)):
                term.set_ceiling(ceiling)  # type: ignore[operator]  # torch types attributes as tensors or modules

    @contextlib.contextmanager
    def ceilings_lifted(self) -> Iterator[None]:
        """Let every item teach within the block, as if no loss stopped at a ceiling: to see where gradients arrive."""
        self._tell_ceilings(dict.fromkeys(self.members, math.inf))
        try:
            yield
        finally:
            self._tell_measured_ceilings()

    # --- the value --------------------------------------------------------------------------------------------------

    def active(self, step: int) -> list[str]:
        """Return the aliases that a training step needs: all of them, or the one that `random` draws."""
        return COMBINATIONS[self.combine].choose(self.weights, self.seed, step)

    def forward(
        self,
        generated: Mapping[str, Tensor | Heard],
        reference: Mapping[str, Tensor | Heard],
        speaker_ids: Tensor | None = None,
        prototypes: Mapping[str, Tensor] | None = None,
        step: int = 0,
    ) -> Tensor:
        """Combine the members' losses into a float32 scalar; arguments as for a member, by alias, and the step.

        In place of embeddings, `generated` and `reference` may hold a `Heard`, with feature maps for losses that
        compare them.
        """
        return self.join(self.member_losses(generated, reference, speaker_ids, prototypes, step))

    def member_losses(
        self,
        generated: Mapping[str, Tensor | Heard],
        reference: Mapping[str, Tensor | Heard],
        speaker_ids: Tensor | None = None,
        prototypes: Mapping[str, Tensor] | None = None,
        step: int = 0,
    ) -> dict[str, Tensor]:
        """Return the unweighted loss of each encoder that is active in this step, by alias.

        Raises:
            ValueError: `calibrate` or `stop_at_ceiling` is on, but `set_calibrations` was not called.
        """
        if any(alias not in self._calibrations and self.wants_calibration(alias) for alias in self.members):
            msg = (
                "calibrate or stop_at_ceiling is on, but no calibration is known: call set_calibrations, or set it to "
                "false"
            )
            raise ValueError(msg)
        known = prototypes or {}
        return {
            alias: self.member_loss(alias, generated[alias], reference[alias], speaker_ids, known.get(alias), step)
            for alias in self.active(step)
        }

    def member_loss(
        self,
        alias: str,
        generated: Tensor | Heard,
        reference: Tensor | Heard,
        speaker_ids: Tensor | None = None,
        prototypes: Tensor | None = None,
        step: int = 0,
        term: int | None = None,
    ) -> Tensor:
        """Return the unweighted loss of one encoder, active or not, or the one of its `terms` that `term` counts.

        The other arguments are as for a member.
        """
        self.set_step(step)
        member = self.members[alias]
        if term is not None:
            return compare(self.terms(alias)[term], generated, reference, speaker_ids, prototypes)
        if not isinstance(member, WeightedSum):
            generated, reference = part_for(member, generated), part_for(member, reference)
        loss: Tensor = member(generated, reference, speaker_ids, prototypes)
        return loss

    def set_step(self, step: int) -> None:
        """Tell every member that asks for it the training step, once per step."""
        if step == self._told_step:
            return
        self._told_step = step
        for loss in terms_in(*self.members.values()):
            if (set_step := getattr(loss, "set_step", None)) is not None:
                set_step(step)

    def join(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Combine the losses of active members into one scalar."""
        return COMBINATIONS[self.combine].join(losses, self.weights)

    def is_idle(
        self,
        losses: Mapping[str, Tensor],
        generated: Mapping[str, Tensor | Heard],
        reference: Mapping[str, Tensor | Heard],
        speakers: int,
    ) -> Tensor:
        """Tell whether a batch has nothing to teach, so that a gradient of 0 is no defect: scalar, bool.

        It has not where every loss that counts lacks speakers, or has all items beyond its ceiling.

        Args:
            losses: What `member_losses` returned.
            generated: By alias, as for `member_losses`.
            reference: By alias, as for `member_losses`.
            speakers: The number of speakers in the batch.
        """
        idle = torch.stack([self._is_member_idle(a, generated[a], reference[a], speakers, losses[a]) for a in losses])
        if self.combine == "worst":
            weighted = _weighted(losses, self.weights)
            return (idle & (weighted == weighted.max())).any()
        return idle.all()

    def _is_member_idle(
        self, alias: str, generated: Tensor | Heard, reference: Tensor | Heard, speakers: int, loss: Tensor
    ) -> Tensor:
        idle = torch.ones((), dtype=torch.bool, device=loss.device)
        for term in self.terms(alias):
            if not wants_prototypes(term) and speakers < speakers_needed(term):
                continue
            if not wants_ceiling(term):
                return torch.zeros_like(idle)
            one, other = (part_for(term, side).detach().float() for side in (generated, reference))
            idle = idle & (cosine_similarity(one, other, dim=-1) > self._calibrations[alias].ceiling).all()
        return idle
