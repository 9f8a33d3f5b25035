"""Coqui's logs, turned down for a while."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def log_level(level: int, *names: str) -> Iterator[None]:
    """Let the loggers of these names say only what is at least of this level, and put them back afterwards."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, original in zip(loggers, before, strict=True):
            logger.setLevel(original)
