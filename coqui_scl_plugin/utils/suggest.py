"""Suggestions for messages about an unknown name."""

import difflib
from collections.abc import Iterable
from typing import Any

from coqui_scl_plugin.utils.shown import MAX_SHOWN


def nearest(name: Any, known: Iterable[str], limit: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return up to `limit` known names that are close to what a user wrote, whatever its case; the closest is first.

    >>> nearest("adamw", ["Adam", "AdamW"]), nearest("SCL", ["scl", "audio"]), nearest(3, ["scl"])
    (['AdamW'], ['scl'], [])
    """
    if not isinstance(name, str) or len(name) > MAX_SHOWN:
        return []
    by_lower: dict[str, str] = {}
    for one in known:
        by_lower.setdefault(one.lower(), one)
    return [by_lower[hit] for hit in difflib.get_close_matches(name.lower(), list(by_lower), n=limit, cutoff=cutoff)]


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return the known names as a sentence and, if one is close to `name`, suggest it.

    `name` may be whatever a user wrote in the place of a name.

    >>> did_you_mean("cosin", ["contrastive", "cosine"])
    "Did you mean 'cosine'? Known: contrastive, cosine."
    >>> did_you_mean("zzz", ["cosine"])
    'Known: cosine.'
    """
    names = sorted(known)
    near = nearest(name, names)
    listing = f"Known: {', '.join(names)}." if names else "None is known."
    return f"Did you mean {near[0]!r}? {listing}" if near else listing
