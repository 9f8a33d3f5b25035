"""How checks fail, and how all of them are run."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from coqui_scl_plugin.utils.suggest import did_you_mean

Factory = Callable[[], Any]
"""Makes a new object of what is tested at each call."""
Check = Callable[[Factory], None]
"""Raises an AssertionError unless what the factory makes conforms."""


def require(condition: bool, message: str) -> None:
    """Raise an AssertionError with the message unless the condition holds, also under `python -O`."""
    if not condition:
        raise AssertionError(message)


@contextlib.contextmanager
def calling(subject: object, case: str) -> Iterator[None]:
    """Turn what a third party's code raises within the block into an AssertionError that names the case."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        msg = f"{type(subject).__name__} raised {type(error).__name__} with {case}: {error}"
        raise AssertionError(msg) from error


def run_checks(checks: Sequence[Check], make: Factory, skip: Collection[str]) -> None:
    """Run all checks that are not skipped.

    Raises:
        AssertionError: some checks fail; the message has the name and the message of each.
        ValueError: `skip` names no check.
    """
    names = [check.__name__ for check in checks]
    for name in skip:
        if name not in names:
            raise ValueError(f"skip = {name!r}: no check has this name. {did_you_mean(name, names)}")
    failures = {}
    for check in checks:
        if check.__name__ not in skip:
            try:
                check(make)
            except AssertionError as error:
                failures[check.__name__] = error
    if failures:
        listing = "\n".join(f"- {name}: {error}" for name, error in failures.items())
        count = f"{len(failures)} of {len(checks) - len(skip)} checks fail"
        raise AssertionError(f"{count}:\n{listing}") from next(iter(failures.values()))
