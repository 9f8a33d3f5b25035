"""Plain data: what JSON can hold, within the limits of any sound config."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.shown import key_path, shown

MAX_LEVELS = 20
MAX_VALUES = 100_000
MAX_BITS = 64
MAX_TEXT = 4096
"""Characters of a text inside the section: as many as the path of a file may have."""


def check_plain(value: Any, path: str, *, strict: bool = True) -> None:
    """Check that a value is what JSON can hold, and no larger than a config has reason to be; `path` is its key.

    Args:
        value: Anything.
        path: Config key of the value; empty for a whole file.
        strict: Whether numbers must be finite, and texts no longer than `MAX_TEXT`. Coqui's configs hold infinities.

    Raises:
        ConfigError: it is not; names the path of the value that is at fault.
    """
    for count, (item, place, level) in enumerate(_walk(value, path, 1)):
        if level > MAX_LEVELS:
            raise ConfigError(f"{place}: sections and lists may be nested {MAX_LEVELS} levels deep, this is deeper.")
        if count >= MAX_VALUES:
            # aliases of YAML repeat what they stand for
            raise ConfigError(f"{path or place}: holds more than {MAX_VALUES:,} values; a config has a few hundred.")
        if (problem := _problem(item, strict=strict)) is not None:
            raise ConfigError(f"{place} = {shown(item)}: {problem}.")


def _walk(value: Any, path: str, level: int) -> Iterator[tuple[Any, str, int]]:
    yield value, path, level
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or (problem := _problem_of_text(key)) is not None:
                problem = "must be text; write it in quotes" if not isinstance(key, str) else problem
                raise ConfigError(f"{key_path(path, key)}: the key {shown(key)} cannot be used: {problem}.")
            yield from _walk(item, key_path(path, key), level + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, key_path(path, index), level + 1)


def _problem(value: Any, *, strict: bool) -> str | None:
    if value is None or isinstance(value, bool | dict | list):
        return None
    if isinstance(value, str):
        too_long = strict and len(value) > MAX_TEXT
        return f"must have at most {MAX_TEXT} characters, has {len(value)}" if too_long else _problem_of_text(value)
    if isinstance(value, int):
        return None if value.bit_length() <= MAX_BITS else f"must be an integer of at most {MAX_BITS} bits"
    if isinstance(value, float):
        return None if math.isfinite(value) or not strict else "must be a finite number"
    kind = "a section must be a dict" if isinstance(value, Mapping) else f"a {type(value).__name__} cannot be stored"
    return f"must be text, a number, true, false, null, a list or a section, as in JSON; {kind}"


def _problem_of_text(text: str) -> str | None:
    if "\0" in text:
        return "must not contain the character NUL"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "must not contain half of a surrogate pair, which no file can hold"
    return None
