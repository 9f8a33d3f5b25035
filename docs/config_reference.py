"""The reference of the section `scl`, made from its schema each time the docs are built."""

import dataclasses
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from coqui_scl_plugin.config.schema import SclConfig

_SIGNS = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}"}
_TITLES = {"": "scl", "encoders.N": "scl.encoders, scl.holdout", "freeze.modules.N": "scl.freeze.modules"}


def write(file: Path) -> None:
    """Write the tables, one for each section, in Markdown."""
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(_table(path, section) for path, section in _sections(SclConfig)), encoding="utf-8")


def _sections(section: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dataclass of the schema once, with its path."""
    yield path, section
    seen: list[Any] = []
    for name, kind in _kinds(section).items():
        for inner in (kind, *get_args(kind)):
            if dataclasses.is_dataclass(inner) and inner not in seen:
                seen.append(inner)
                yield from _sections(inner, ".".join(filter(None, (path, name + ".N" * (inner is not kind)))))


def _kinds(section: Any) -> dict[str, Any]:
    hints = get_type_hints(section)
    return {field.name: hints[field.name] for field in dataclasses.fields(section)}


def _table(path: str, section: Any) -> str:
    kinds = _kinds(section)
    rows = [
        f"| `{field.name}` | {_type(kinds[field.name])} | {_default(field)} | {_help(field, kinds[field.name])} |"
        for field in dataclasses.fields(section)
    ]
    title = _TITLES.get(path, f"scl.{path}")
    head = ["| key | type | default | meaning |", "|---|---|---|---|"]
    return "\n".join([f"### {title}", "", section.__doc__.strip(), "", *head, *rows, ""])


def _type(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return "section"
    if origin is Literal:
        return "one of " + ", ".join(f"`{json.dumps(value)}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join("`null`" if one is type(None) else _type(one) for one in inner)
    if origin is list:
        return f"list of {_type(inner[0])}s"
    names = {bool: "`true` or `false`", str: "text", float: "number", int: "integer"}
    return "object" if origin is dict else names[kind]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{json.dumps(field.default)}`"
    value = field.default_factory()  # type: ignore[misc]  # one of both is there
    if dataclasses.is_dataclass(value):
        return "below"
    plain = [{"name": one.name} if dataclasses.is_dataclass(one) else one for one in value] if value else value
    return f"`{json.dumps(plain)}`"


def _help(field: dataclasses.Field[Any], kind: Any) -> str:
    """Return its help and its range, or for a section where to read on."""
    inner = next((one for one in (kind, *get_args(kind)) if dataclasses.is_dataclass(one)), None)
    text = field.metadata.get("help") or inner.__doc__.strip()
    bounds = ", ".join(_SIGNS[name].format(value) for name, value in field.metadata.items() if name in _SIGNS)
    if "min_length" in field.metadata:
        bounds = "not empty" if "max_length" not in field.metadata else f"{field.metadata['max_length']} numbers"
    return f"{text} ({bounds})" if bounds else text
