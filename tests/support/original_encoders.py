"""The packages that the weights of `ge2e`, `dvector` and `campplus` come from, whose code ours is compared with.

`make setup` puts them into a folder of the environment that Python does not look into.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

FOLDER = Path(sys.prefix) / "originals"


def find_original(package: str) -> ModuleSpec:
    """Return where a package is. Raises ModuleNotFoundError, which says what to do, if it is not there."""
    if (spec := PathFinder.find_spec(package, [str(FOLDER)])) is None:
        raise ModuleNotFoundError(f"The package {package} to compare with is not in {FOLDER}: run make setup")
    return spec


def make_importable() -> None:
    """Let these packages be imported, and their versions be found."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
