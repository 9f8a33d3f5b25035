"""Describe the parameters of a registered class in a user's words, from its constructor's signature and docstring."""

import inspect
import math
import re
import types
import typing
from dataclasses import dataclass
from typing import Any

from coqui_scl_plugin.plugins.parameters import signature_of

_PLAIN = {bool: "true or false", int: "integer", float: "number", str: "text", type(None): "null"}
_LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a constructor."""

    name: str
    values: str
    """Type and range; empty if the constructor does not say."""
    default: Any
    is_required: bool
    meaning: str
    """What the docstring says; empty if it says nothing."""


def parameters_of(cls: type) -> list[Parameter]:
    """Return the parameters of a class's constructor, as `params` of a config gives them."""
    meanings = _meanings(inspect.getdoc(inspect.getattr_static(cls, "__init__")) or "")
    return [
        Parameter(
            name,
            "" if p.annotation is p.empty else values_of(p.annotation),
            None if p.default is p.empty else p.default,
            p.default is p.empty,
            meanings.get(name, ""),
        )
        for name, p in signature_of(cls).parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name != "self"
    ]


def values_of(annotation: Any) -> str:
    """Return what values an annotation allows, as a phrase.

    >>> from pydantic import Field
    >>> values_of(typing.Annotated[float, Field(ge=0, lt=1)]), values_of(str | None)
    ('number, at least 0, below 1', 'text or null')
    >>> values_of(typing.Literal["batch", "centroid"])
    'batch or centroid'
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return ", ".join([values_of(arguments[0]), *_limits(arguments[1:])])
    if origin is typing.Literal:
        return " or ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(values_of, arguments)))
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    base = origin or annotation
    if not isinstance(base, type):
        return ""
    return "list" if issubclass(base, list | tuple) else "section"


def _limits(metadata: tuple[Any, ...]) -> list[str]:
    """Return the limits that `pydantic.Field` keeps."""
    constraints = [one for field in metadata for one in getattr(field, "metadata", ())]
    limits = []
    for constraint in constraints:
        for name, words in _LIMITS.items():
            if (limit := getattr(constraint, name, None)) is not None:
                limits.append(f"{words} {'π/2' if limit == math.pi / 2 else f'{limit:g}'}")
    return limits


def _meanings(docstring: str) -> dict[str, str]:
    """Return what the section `Args:` of a docstring in Google's style says, by parameter."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", docstring, re.DOTALL | re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", section[1] if section else "", re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
