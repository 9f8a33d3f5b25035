"""The members of an ensemble: how they are built."""

import copy
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from coqui_scl_plugin.config.members import Term, is_sum, terms_of
from coqui_scl_plugin.losses.weighted_sum import WeightedSum
from coqui_scl_plugin.plugins import parameters, registry

Member = Mapping[str, Any] | list[Any] | nn.Module
"""A section of a loss, a mapping from losses to weights, a list of sections with weights, or a loss that is built."""


def terms_in(*members: nn.Module) -> list[nn.Module]:
    """Return the losses of members: those that a sum adds, or the member itself."""
    return [term for member in members for term in (member.terms if isinstance(member, WeightedSum) else [member])]


def build_members(template: nn.Module, own: Mapping[str, Member], aliases: Collection[str]) -> nn.ModuleDict:
    """Return a member for each encoder: its own, or a copy of the template, of which the first is no copy."""
    built = {alias: as_member(member, f"members.{alias}") for alias, member in own.items()}
    alike = [alias for alias in aliases if alias not in built]
    if unknown := built.keys() - set(aliases):
        raise ValueError(f"members names {', '.join(map(repr, sorted(unknown)))}, but encoders are {list(aliases)}")
    copies = {alias: copy.deepcopy(template) if alias != alike[0] else template for alias in alike}
    return nn.ModuleDict({alias: (built | copies)[alias] for alias in aliases})


def as_member(member: Member | None, path: str) -> nn.Module:
    """Return a loss that is built as it is, and build any other; `path` is its config key."""
    return member if isinstance(member, nn.Module) else build_member(member, path)


def build_member(member: Mapping[str, Any] | list[Any] | None, path: str) -> nn.Module:
    """Build the loss, or the sum of losses, that a checked member names, by default `cosine`; `path` is its key."""
    terms = terms_of({"name": "cosine"} if member is None else member, path)
    losses = [_build_term(term) for term in terms]
    return WeightedSum(losses, [term.weight for term in terms]) if is_sum(member) else losses[0]


def _build_term(term: Term) -> nn.Module:
    cls = registry.installed().get("losses", term.name, term.name_path)
    built: nn.Module = parameters.construct(cls, term.params, term.params_path)
    return built
