"""Overrides of single values on a command line, `--coqpit.KEY VALUE`, as strict as a file.

Coqpit's own parser ends the program where a value does not fit, takes the beginning of a name for the name, replaces
values that are not given by defaults, and cannot set a value to null.
"""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.shown import shortened


class StrictParser(argparse.ArgumentParser):
    """A parser that raises a ConfigError where argparse would print its usage and end the program."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(f"{shortened(message.removeprefix('argument '))}.")


def made_strict(parser: argparse.ArgumentParser, prefix: str) -> argparse.ArgumentParser:
    """Change a parser to yield only what is given; values of keys that begin with `prefix` are left to our checks."""
    for action in parser._actions:
        action.default = argparse.SUPPRESS
        if action.dest.startswith(prefix) and not isinstance(action.type, _Lenient):
            action.type, action.choices = _Lenient(action.type), None
    return parser


class _Lenient:
    """Converts an argument as Coqpit would, `null` to None, and leaves what cannot be converted as it is."""

    def __init__(self, convert: Any) -> None:
        self.convert: Callable[[str], Any] = convert or str

    def __call__(self, text: str) -> Any:
        if text == "null":
            return None
        try:
            return self.convert(text)
        except (TypeError, ValueError, RecursionError):  # the check of the value names its key and what is allowed
            return text


def with_null_lists(given: argparse.Namespace) -> argparse.Namespace:
    """Return what was given, with None where `null` stands in the place of a whole list."""
    return argparse.Namespace(**{key: None if value == [None] else value for key, value in vars(given).items()})


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Turn what Coqpit raises for an override of a key that is not there into a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ConfigError(f"An override cannot be applied: {shortened(str(error))}.") from error
