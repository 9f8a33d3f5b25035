"""The nearest known name, for messages about a name that is not known."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that lists the known names and, where one is close to `name`, proposes it.

    >>> did_you_mean("cosin", ["contrastive", "cosine"])
    "Did you mean 'cosine'? Known: contrastive, cosine."
    >>> did_you_mean("zzz", ["cosine"])
    'Known: cosine.'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    listing = f"Known: {', '.join(names)}." if names else "None is known."
    return f"Did you mean {near[0]!r}? {listing}" if near else listing
