"""Check of Coqui's weighted sampler."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from coqui_scl_plugin.preflight.facts import DataFacts
from coqui_scl_plugin.preflight.report import Finding, some, warning
from coqui_scl_plugin.utils.shown import typed

_ATTRS, _MULTIPLIERS = "weighted_sampler_attrs", "weighted_sampler_multipliers"
_EXAMPLE = '{"speaker_name": 1.0}'


def check_sampler(facts: DataFacts) -> list[Finding]:
    """The weighted sampler balances by something that the samples have."""
    config = facts.config
    if not config.use_weighted_sampler or facts.train_samples is None:
        return []
    if not config.weighted_sampler_attrs:
        found = f"use_weighted_sampler is true, but {_ATTRS} is empty: nothing is balanced."
        return [warning(found, f"Set {_ATTRS}, e.g. to {_EXAMPLE}, or use_weighted_sampler to false.")]
    return [*_attributes(facts), *_multipliers(facts)]


def _attributes(facts: DataFacts) -> Iterator[Finding]:
    attrs, had = facts.config.weighted_sampler_attrs, _had_by_all(facts)
    for name, alpha in attrs.items():
        if name not in had and facts.train_samples:
            found = f"{_ATTRS} names {typed(name)}, which samples do not have: they have {', '.join(sorted(had))}."
            yield Finding(found, f"Name one of these, usually speaker_name: {_EXAMPLE}.")
        if not _is_number(alpha) or alpha <= 0:
            yield Finding(f"{_ATTRS}.{name} = {typed(alpha)}: must be a number above 0.", "1.0 balances fully.")
    if len(attrs) > 1:
        found = (
            f"{_ATTRS} has {len(attrs)} attributes, of which Coqui's VITS applies the last alone: {list(attrs)[-1]}."
        )
        yield warning(found, "Remove the others.")


def _had_by_all(facts: DataFacts) -> set[str]:
    samples = facts.all_samples
    return set.intersection(*(set(sample) for sample in samples)) if samples else set()


def _multipliers(facts: DataFacts) -> Iterator[Finding]:
    config = facts.config
    for name, multipliers in (config.weighted_sampler_multipliers or {}).items():
        key = f"{_MULTIPLIERS}.{name}"
        if name not in config.weighted_sampler_attrs:
            yield warning(f"{key} has no effect: {_ATTRS} does not name it.", f"Add it to {_ATTRS}, or remove it.")
        elif not isinstance(multipliers, Mapping):
            found = f"{key} = {typed(multipliers)}: must be a mapping of values of {name} to numbers."
            yield Finding(found, 'Write e.g. {"speaker_name": {"a": 2.0}}.')
        else:
            yield from _values(key, name, multipliers, facts)


def _values(key: str, name: str, multipliers: Mapping[str, Any], facts: DataFacts) -> Iterator[Finding]:
    occur = {sample[name] for sample in facts.train_samples or () if name in sample}
    if wrong := [f"{value}: {typed(factor)}" for value, factor in multipliers.items() if not _is_factor(factor)]:
        yield Finding(f"{key} has {some(wrong)}: must be numbers that are not below 0.", "Correct them.")
    elif occur and all(multipliers.get(value, 1.0) == 0 for value in occur):
        yield Finding(f"{key} is 0 for each value that occurs: nothing could be drawn.", "Raise one.")
    if occur and (unknown := set(multipliers) - occur):
        found = f"{key} names {some(unknown)}, which does not occur in the training data: Coqui's sampler fails on it."
        yield Finding(found, f"It has {some(map(str, occur))}. Correct or remove the name.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_factor(value: Any) -> bool:
    return _is_number(value) and value >= 0
