"""The values of a config against the types of Coqui's config classes, which are read as plain dataclasses.

Coqpit replaces a value of a wrong type by the default of its field, or of the whole section that holds it, and only
warns.
"""

import dataclasses
import math
import numbers
import os
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

SECTION = "scl"
"""The section that is checked strictly elsewhere."""
_MISSING = "???"
"""Coqpit's word for a value that must be set."""
_MAX_INT = 2**63 - 1
_MAX_DEPTH = 20
_WORDS = {
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    str: ("a string", "strings"),
    bool: ("true or false", "truth values"),
}
_NULLABLE = ("grad_clip", "lr_scheduler_gen", "lr_scheduler_disc", "run_description", "model_args.d_vector_dim")
"""Keys for which Coqui takes null, though their types say otherwise."""
_NOT_NULL = ("meta_file_train",)
"""Keys whose default is the empty string, and for which null is not the same."""
_NOT_TYPED = (SECTION, "test_sentences")
"""Keys of which the shape is checked elsewhere."""
_RANGES = {
    "audio.num_mels": (10, 2056),
    "audio.fft_size": (128, 4058),
    "audio.sample_rate": (512, 100_000),
    "audio.preemphasis": (0, 1),
    "audio.min_level_db": (-1000, 10),
    "audio.ref_level_db": (0, 1000),
    "audio.power": (1, 5),
    "audio.griffin_lim_iters": (10, 1000),
    "audio.max_norm": (0.1, 1000),
    "audio.mel_fmin": (0, 1000),
    "audio.mel_fmax": (500, math.inf),
    "audio.spec_gain": (1, 100),
}
"""Numbers outside of which Coqui refuses to read a config, without a word: those of `BaseAudioConfig.check_values`."""
_UNFIT = object()


@dataclass(frozen=True)
class Misfit:
    """A value of a wrong type."""

    key: str
    """Its dotted key, with the indices of lists: `datasets.0.language`."""
    value: Any
    expected: str
    """What it must be, such as `a whole number`."""
    is_refused: bool = False
    """Whether Coqui refuses the config because of it, rather than replace the value."""


def fields_by_name(section: Any) -> dict[str, "dataclasses.Field[Any]"]:
    """Return the fields of a config section, given its class or an instance, by name."""
    return {field.name: field for field in dataclasses.fields(section)}


def section_class(hint: Any) -> Any:
    """Return the dataclass of a type hint such as `CharactersConfig | None`; None if it has none."""
    arms = (hint, *typing.get_args(hint))
    return next((arm for arm in arms if isinstance(arm, type) and dataclasses.is_dataclass(arm)), None)


def as_mapping(section: Any) -> Mapping[str, Any]:
    """Return the values of a section, which is a mapping or a config object, by key."""
    if dataclasses.is_dataclass(section):
        return {name: getattr(section, name) for name in fields_by_name(section) if hasattr(section, name)}
    return section if isinstance(section, Mapping) else {}


def fit(values: Any, section: Any) -> tuple[dict[str, Any], list[Misfit]]:
    """Compare a config with the types of its class.

    Args:
        values: The config as a mapping of keys to values, or as an object.
        section: The config's class, or an instance of it.

    Returns:
        The config without the values that do not fit, of which Coqpit then keeps the defaults; and those values.
    """
    found: list[Misfit] = []
    return _fit_section("", values, section, found), found


def _fit_section(path: str, values: Any, section: Any, found: list[Misfit]) -> dict[str, Any]:
    kept, fields = dict(as_mapping(values)), fields_by_name(section)
    for name in [name for name in fields if name in kept]:
        key, default = f"{path}{name}", _default_of(fields[name])
        if key in _NOT_TYPED and isinstance(kept[name], str) and kept[name] == _MISSING:
            kept[name] = _fit_value(key, kept[name], fields[name].type, default, found)
        is_null = kept[name] is None and (
            key in _NULLABLE or default is None or default is False or (default == "" and name not in _NOT_NULL)
        )
        if key not in _NOT_TYPED and not is_null:
            kept[name] = _fit_value(key, kept[name], fields[name].type, default, found)
        if kept[name] is _UNFIT:
            del kept[name]
    return kept


def _fit_value(key: str, value: Any, hint: Any, default: Any, found: list[Misfit]) -> Any:
    """Return a value in which nothing is unfit, or `_UNFIT` if nothing of it can be kept."""
    section, origin = section_class(hint), typing.get_origin(hint) or hint
    if section is not None and origin is not list:
        if isinstance(value, Mapping) or dataclasses.is_dataclass(value):
            return _fit_section(f"{key}.", value, value if dataclasses.is_dataclass(value) else section, found)
        found.append(Misfit(key, value, f"a section with keys such as {', '.join(list(fields_by_name(section))[:3])}"))
        return _UNFIT
    if origin is list and isinstance(value, list | tuple):
        arms = typing.get_args(hint)
        if not arms:
            return value
        items = [_fit_value(f"{key}.{index}", item, arms[0], None, found) for index, item in enumerate(value)]
        if section is not None:
            return [{} if item is _UNFIT else item for item in items]
        return _UNFIT if any(item is _UNFIT for item in items) else value
    if not _fits(value, hint, default):
        found.append(Misfit(key, value, expected(hint)))
        return _UNFIT
    low, high = _RANGES.get(key, (-math.inf, math.inf))
    if key in _RANGES and value is not None and not low <= value <= high:
        span = f"from {low} to {high}" if math.isfinite(high) else f"of at least {low}"
        found.append(Misfit(key, value, f"{expected(hint)} {span}", is_refused=True))
        return _UNFIT
    return value


def _default_of(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _fits(value: Any, hint: Any, default: Any = None) -> bool:
    """Tell whether Coqpit takes a value for a field of this type as it is."""
    origin, arms = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Any:
        return True
    if origin is Literal:
        return value in arms
    if origin is dict:
        return isinstance(value, Mapping) and is_plain(value)
    if origin is list:
        return isinstance(value, list | tuple) and all(_fits(item, arms[0]) for item in value if arms)
    if origin in _WORDS:
        return _is_primitive(value, origin, default)
    if arms:
        return any(_fits(value, arm, default) for arm in arms)
    return value is None if hint is type(None) else True


def _is_primitive(value: Any, kind: Any, default: Any) -> bool:
    if kind is str:
        return isinstance(value, os.PathLike) or (isinstance(value, str) and value != _MISSING)
    if kind is bool:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    if isinstance(value, numbers.Integral):
        return abs(int(value)) <= _MAX_INT
    number = float(value)
    if math.isinf(number):
        return number == default
    return not math.isnan(number) and (kind is float or number.is_integer())


def is_plain(value: Any, depth: int = 0) -> bool:
    """Tell whether a value consists of mappings, lists and plain values alone, without NaN and not nested deeply."""
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(item, depth + 1) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(is_plain(item, depth + 1) for item in value)
    return value is None or isinstance(value, str | bool | os.PathLike) or _is_primitive(value, float, None)


def expected(hint: Any, number: Literal[0, 1] = 0) -> str:
    """Say what a value of this type is, in the singular (0) or the plural (1).

    >>> expected(int), expected(list[list[float]]), expected(str | None)
    ('a whole number', 'a list of lists of finite numbers', 'a string or null')
    """
    origin, arms = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in _WORDS:
        return _WORDS[origin][number]
    if origin is list:
        return f"{('a list', 'lists')[number]}{f' of {expected(arms[0], 1)}' if arms else ''}"
    if origin is dict:
        return ("a mapping of keys to plain values", "mappings")[number]
    if origin is Literal:
        return f"one of {', '.join(map(repr, arms))}"
    if hint is type(None):
        return "null"
    if section_class(hint) is not None:
        return ("a section", "sections")[number]
    return " or ".join(expected(arm, number) for arm in arms) if arms else "a plain value"


def at(section: Any, key: str) -> Any:
    """Return the value at a dotted key; None if there is none."""
    for name in key.split("."):
        if isinstance(section, Sequence) and not isinstance(section, str):
            section = section[int(name)] if name.isdecimal() and int(name) < len(section) else None
        elif dataclasses.is_dataclass(section):
            section = getattr(section, name, None)
        else:
            section = section.get(name) if isinstance(section, Mapping) else None
    return section


def default_at(section: Any, key: str) -> Any:
    """Return the default of a dotted key of a config class; that of an item of a list of sections is its class's."""
    head, _, rest = key.partition(".")
    field = fields_by_name(section).get(head)
    if field is None:
        return None
    own, default = section_class(field.type), _default_of(field)
    if own is not None and (typing.get_origin(field.type) or field.type) is list and rest:
        _, _, name = rest.partition(".")
        return default_at(own, name) if name else own()
    if own is not None and rest:
        return default_at(own, rest)
    return at(default, rest) if rest else default
