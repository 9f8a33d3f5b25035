"""Write a config as JSON with `//` comments, which this package and Coqui read."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

_INDENT, _WIDTH = 4, 100


def commented_json(config: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Return a config as JSON, one key a line, with comments above keys.

    Args:
        config: The config.
        comments: Comments by key, with dots between levels, such as `scl.holdout`.

    >>> print(commented_json({"model": "scl_vits", "scl": {"holdout": []}}, {"scl.holdout": "only score"}))
    {
        "model": "scl_vits",
        "scl": {
            // only score
            "holdout": []
        }
    }
    """
    return "\n".join(_lines(config, comments, "", 1))


def _lines(section: Mapping[str, Any], comments: Mapping[str, str], path: str, level: int) -> Iterator[str]:
    margin = " " * _INDENT * level
    yield "{"
    for number, (key, value) in enumerate(section.items(), start=1):
        place, comma = f"{path}{key}", "," if number < len(section) else ""
        for line in textwrap.wrap(comments.get(place, ""), _WIDTH - len(margin) - 3):
            yield f"{margin}// {line}"
        start = f"{margin}{json.dumps(key, ensure_ascii=False)}: "
        if isinstance(value, Mapping) and any(name.startswith(f"{place}.") for name in comments):
            first, *others = _lines(value, comments, f"{place}.", level + 1)
            yield start + first
            yield from others[:-1]
            yield others[-1] + comma
        else:
            text = json.dumps(value, ensure_ascii=False, indent=_INDENT if _is_long(value, start) else None)
            yield start + text.replace("\n", "\n" + margin) + comma
    yield " " * _INDENT * (level - 1) + "}"


def _is_long(value: Any, start: str) -> bool:
    return isinstance(value, Mapping | list) and len(start) + len(json.dumps(value, ensure_ascii=False)) > _WIDTH
