"""A temporary log level, which quiets Coqui's loggers."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def log_level(level: int, *names: str) -> Iterator[None]:
    """Set the level of the named loggers, and restore it when the block ends."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, original in zip(loggers, before, strict=True):
            logger.setLevel(original)
