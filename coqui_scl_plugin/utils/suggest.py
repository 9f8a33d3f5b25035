"""Suggestions for messages about an unknown name."""

import difflib
from collections.abc import Iterable
from typing import Any

from coqui_scl_plugin.utils.shown import MAX_SHOWN


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return the known names as a sentence and, if one is close to `name`, suggest it.

    `name` may be whatever a user wrote in the place of a name.

    >>> did_you_mean("cosin", ["contrastive", "cosine"])
    "Did you mean 'cosine'? Known: contrastive, cosine."
    >>> did_you_mean("zzz", ["cosine"])
    'Known: cosine.'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1) if isinstance(name, str) and len(name) <= MAX_SHOWN else []
    listing = f"Known: {', '.join(names)}." if names else "None is known."
    return f"Did you mean {near[0]!r}? {listing}" if near else listing
