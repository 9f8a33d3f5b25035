"""What commands on run folders share: overrides at the end of the line, and checks of paths before any work."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.shown import shorten


def split_overrides(arguments: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """Split arguments, which typer takes for paths, into paths and the `--coqpit.KEY VALUE` after them.

    >>> split_overrides(["RUN", "--coqpit.a", "1"])
    ([PosixPath('RUN')], ['--coqpit.a', '1'])
    """
    texts = [str(argument) for argument in arguments]
    overrides = list(itertools.dropwhile(lambda text: not text.startswith("--"), texts))
    return [Path(text) for text in texts[: len(texts) - len(overrides)]], overrides


def check_name(path: Path) -> None:
    """Check that a path can be looked up, whether it exists or not. Raises ConfigError."""
    try:
        path.exists()
    except OSError as error:
        raise ConfigError(f"{shorten(path)}: cannot be opened: {error.strerror}.") from error


def check_out(out: Path) -> None:
    """Check that `--out` is or can become a folder that can be written to. Raises ConfigError."""
    try:
        nearest = next(path for path in (out, *out.parents) if path.exists())
    except OSError as error:
        raise ConfigError(f"--out {shorten(out)}: cannot be a folder: {error.strerror}.") from error
    if not nearest.is_dir():
        raise ConfigError(f"--out {shorten(out)}: {shorten(nearest)} is not a folder.")
    if not os.access(nearest, os.W_OK):
        raise ConfigError(f"--out {shorten(out)}: the folder {shorten(nearest)} cannot be written to.")
