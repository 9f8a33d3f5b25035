"""What checks ask of Coqui itself, as plain data and functions, since nothing here imports it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Phonemizers:
    """The phonemizers that Coqui knows."""

    languages: Mapping[str, Collection[str]]
    """The languages of each one that is installed, by its name."""
    absent: Mapping[str, str]
    """How each one that is not installed is installed, by its name."""
    default: Mapping[str, str]
    """The one that Coqui takes where none is named, by language."""


@dataclass(frozen=True)
class CoquiTools:
    """Lists and constructors of Coqui and its trainer."""

    formatters: Collection[str]
    """Names of its formatters, and of those that were registered."""
    cleaners: Sequence[str]
    """Names of its text cleaners."""
    phonemizers: Callable[[], Phonemizers]
    """Lists its phonemizers, for which it may call espeak."""
    make_tokenizer: Callable[[Any], Any]
    """Makes the tokenizer of a config, which is not changed. Raises what Coqui raises."""
    make_optimizer: Callable[[Any, float, Sequence[Any]], Any]
    """Makes an optimizer from a config, a learning rate and parameters. Raises what torch raises."""
    make_scheduler: Callable[[Any, Any, Any], Any]
    """Makes a learning rate schedule from its name, its parameters and an optimizer; None without a name. Raises
    what torch raises."""
