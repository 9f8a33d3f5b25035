"""Imports of many large modules, as a command makes them before it works."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import what the block imports without a look for garbage, and let later looks pass by all that there is then.

    What modules hold stays until the end, and Python would go through all of it every time it has grown by a quarter.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
