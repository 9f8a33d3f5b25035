"""The forms in which an ensemble's parameters `member` and `members` name the losses of one encoder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from coqui_scl_plugin.config.schema import LossConfig
from coqui_scl_plugin.config.strict import check_section
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.plugins.parameters import check_value
from coqui_scl_plugin.utils.shown import key_path, shown


@dataclass
class TermConfig(LossConfig):
    """A loss in a list, with its weight in the sum."""

    weight: float = field(default=1.0, metadata={"help": "Factor of this loss in the sum.", "gt": 0})


class Term(NamedTuple):
    """One of the losses of an encoder, and the keys of the config that name it."""

    name: str
    params: Mapping[str, Any]
    weight: float
    name_path: str
    params_path: str


def is_sum(member: Any) -> bool:
    """Tell whether a member is a weighted sum: a list of sections, or a mapping from names to weights.

    >>> is_sum({"features": 1, "cosine": 0.5}), is_sum([{"name": "features"}]), is_sum({"name": "cosine"})
    (True, True, False)
    """
    if not isinstance(member, Mapping):
        return isinstance(member, list)
    return not {"name", "params"} & member.keys() and any(isinstance(value, int | float) for value in member.values())


def terms_of(member: Any, path: str) -> list[Term]:
    """Read the losses that a member names, in any of its forms; `path` is its config key.

    Raises:
        ConfigError: the structure is wrong, or a name is missing. Names and parameters are not looked up.
    """
    terms = list(_terms(member, path))
    if not terms:
        raise ConfigError(f'{path} = {shown(member)}: needs at least one loss, e.g. [{{"name": "cosine"}}].')
    return terms


def _terms(member: Any, path: str) -> Iterator[Term]:
    if isinstance(member, list):
        for index, section in enumerate(member):
            own = f"{path}.{index}"
            _check_named(TermConfig, section, own)
            weight = float(section.get("weight", 1.0))
            yield Term(section["name"], section.get("params", {}), weight, f"{own}.name", f"{own}.params")
    elif is_sum(member):
        for name, weight in member.items():
            place = key_path(path, name)
            check_value(weight, float, place, gt=0)
            yield Term(name, {}, float(weight), place, place)
    else:
        _check_named(LossConfig, member, path)
        yield Term(member["name"], member.get("params", {}), 1.0, f"{path}.name", f"{path}.params")


def _check_named(cls: type[LossConfig], section: Any, path: str) -> None:
    check_section(cls, section, path)
    if "name" not in section:
        raise ConfigError(f'{path} = {shown(section)}: needs a name, e.g. {{"name": "cosine"}}.')
