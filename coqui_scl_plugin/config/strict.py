"""Coqpit dataclasses with the strict checks that Coqpit lacks.

Coqpit drops unknown keys and replaces values of the wrong type with the default. Here, either is a `ConfigError` that
names the key's path, the value, and what is allowed. A class used by itself has paths that begin with its own name,
such as `encoder.weight`.
"""

import argparse
import copy
import functools
import os
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from typing import Any

from coqpit import Coqpit

from coqui_scl_plugin.config import overrides
from coqui_scl_plugin.config.config_file import read_config_file
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.plugins import parameters
from coqui_scl_plugin.utils.plain import check_plain
from coqui_scl_plugin.utils.shown import key_path, shown
from coqui_scl_plugin.utils.suggest import did_you_mean

_MISSING = "???"

Check = Callable[[type["StrictConfig"], Any, str], None]
"""Checks a section: its class, the section, and its path."""


@dataclass
class StrictConfig(Coqpit):
    """A Coqpit that refuses unknown keys and invalid values, whatever way they come in.

    What the constructor is given is checked at once, attributes that are set later by `check_values`.
    """

    def __post_init__(self) -> None:
        """Check what differs from a default. Raises ConfigError."""
        self._initialized = True  # as Coqpit does, which also hides some errors of `check_values`
        path = self.own_path()
        for spec in fields(self):
            if (value := vars(self)[spec.name]) is not spec.default:
                _check_field(spec, value, f"{path}.{spec.name}", check_class)

    @classmethod
    def own_path(cls) -> str:
        """Return the name with which the paths of this class begin where it is used by itself, such as `encoder`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix("Config")).lower()

    def check_values(self) -> None:
        """Check every attribute. Raises ConfigError."""
        check_object(type(self), self, self.own_path())

    def deserialize(self, data: dict[str, Any]) -> typing.Self:
        """Take over the values of a mapping, and leave others as they are; nothing is changed if one is refused.

        Raises:
            ConfigError: a key is unknown or its value invalid; see `check_section`.
        """
        check_section(type(self), data, self.own_path())
        current = {spec.name: vars(self)[spec.name] for spec in fields(self)}
        changed = type(self)(**current | _values_of(type(self), data))
        changed.check_values()
        vars(self).update(vars(changed))
        return self

    @classmethod
    def deserialize_immutable(cls, data: dict[str, Any]) -> typing.Self:
        """Build from a mapping read from JSON. Raises ConfigError; see `check_section`."""
        check_section(cls, data, cls.own_path())
        config = cls(**_values_of(cls, data))
        config.check_values()
        return config

    def load_json(self, file_name: str | os.PathLike[Any]) -> None:
        """Take over the values of a JSON or YAML file. Raises ConfigError."""
        self.deserialize(read_config_file(os.fspath(file_name)))

    @classmethod
    def init_argparse(cls, **kwargs: Any) -> argparse.ArgumentParser:
        """Return Coqpit's parser for `--coqpit.*`, changed to yield only what is given; it raises ConfigError."""
        parser = kwargs.pop("parser", None) or overrides.StrictParser(allow_abbrev=False)
        kwargs["relaxed_parser"] = True  # or else Coqpit refuses lists of sections that are empty
        return overrides.made_strict(super().init_argparse(parser=parser, **kwargs), kwargs.get("arg_prefix", "coqpit"))

    def parse_args(self, args: argparse.Namespace | list[str] | None = None, arg_prefix: str = "coqpit") -> None:
        """Apply `--coqpit.*` overrides. Raises ConfigError."""
        if not isinstance(args, argparse.Namespace):
            args = self.init_argparse(instance=self, arg_prefix=arg_prefix).parse_args(args)
        with overrides.refused():
            super().parse_args(overrides.with_null_lists(args), arg_prefix)


@functools.cache
def _section_class(spec: Field[Any]) -> tuple[type[StrictConfig] | None, bool]:
    """Return the class of the section that a key holds, if it does, and whether it holds a list of them."""
    item = next(iter(typing.get_args(spec.type)), None)
    for kind, is_list in ((spec.type, False), (item, True)):
        if isinstance(kind, type) and issubclass(kind, StrictConfig):
            return kind, is_list
    return None, False


def _check_list(item: type[StrictConfig], value: Any, path: str, check: Check) -> None:
    if not isinstance(value, list):
        raise ConfigError(f"{path} = {shown(value)}: must be a list of sections.")
    for index, element in enumerate(value):
        check(item, element, f"{path}.{index}")


def _check_field(spec: Field[Any], value: Any, path: str, check: Check) -> None:
    """Check the value of a key; `check` checks a section in it."""
    section, is_list = _section_class(spec)
    if section is not None and is_list:
        _check_list(section, value, path, check)
    elif section is not None:
        check(section, value, path)
    else:
        constraints = {key: bound for key, bound in spec.metadata.items() if key != "help"}
        parameters.check_value(value, spec.type, path, **constraints)
        check_plain(value, path)
        if value == _MISSING:
            raise ConfigError(f"{path} = {value!r}: Coqpit takes this for a value that is missing; choose another one.")


def check_section(cls: type[StrictConfig], data: Any, path: str) -> None:
    """Check a mapping read from JSON against a config class: keys, types, ranges, and all nested sections.

    An object of the class will do in place of a mapping, and is checked like one.

    Raises:
        ConfigError: a key is unknown or its value invalid; names the path, the value, and what is allowed.
    """
    if isinstance(data, cls):
        check_object(cls, data, path)
        return
    if not isinstance(data, Mapping) or isinstance(data, Coqpit):
        keys = ", ".join(spec.name for spec in fields(cls))
        raise ConfigError(f"{path} = {shown(data)}: must be a section with the keys {keys}.")
    known = {spec.name: spec for spec in fields(cls)}
    for key, value in data.items():
        place = key_path(path, key)
        if key not in known:
            raise ConfigError(f"{place}: unknown key. {did_you_mean(key, known)}")
        _check_field(known[key], value, place, check_section)


def check_class(cls: type[StrictConfig], config: Any, path: str) -> None:
    """Raise a ConfigError that names `path` unless `config` is an object of the class."""
    if not isinstance(config, cls):
        hint = f"; {cls.__name__}.new_from_dict reads a mapping" if isinstance(config, Mapping) else ""
        raise ConfigError(f"{path} = {shown(config)}: must be of the class {cls.__name__}{hint}.")


def check_object(cls: type[StrictConfig], config: Any, path: str) -> None:
    """Check the attributes of a config object, and that the sections in it are objects too.

    Raises:
        ConfigError: it is not of the class, or an attribute is unknown or its value invalid.
    """
    check_class(cls, config, path)
    known = {spec.name: spec for spec in fields(cls)}
    for key in vars(config):
        if key not in known and not key.startswith("_"):
            raise ConfigError(f"{key_path(path, key)}: unknown key. {did_you_mean(key, known)}")
    for key, spec in known.items():
        if key not in vars(config):
            raise ConfigError(f"{path}.{key}: is missing, since this attribute was deleted.")
        _check_field(spec, vars(config)[key], f"{path}.{key}", check_object)


def _values_of(cls: type[StrictConfig], data: Mapping[str, Any] | StrictConfig) -> dict[str, Any]:
    """Return the arguments of the constructor that a checked mapping, or another object, stands for."""
    known = {spec.name: spec for spec in fields(cls)}
    given = vars(data) if isinstance(data, StrictConfig) else data
    return {key: _value_of(known[key], value) for key, value in given.items() if key in known}


def _value_of(spec: Field[Any], value: Any) -> Any:
    section, is_list = _section_class(spec)
    if section is not None:
        built = [section(**_values_of(section, element)) for element in (value if is_list else [value])]
        return built if is_list else built[0]
    takes_float = float in (spec.type, *typing.get_args(spec.type))
    return float(value) if takes_float and isinstance(value, int) else copy.deepcopy(value)
