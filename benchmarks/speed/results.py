"""The file of figures: what was measured, when, of which revision and on what machine."""

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.timing import Effort, Spread
from coqui_scl_plugin.utils.atomic import replacing

FILE = Path(__file__).parents[1] / "results.json"
_FORMAT = 1
_MEASURED = ("coqui_scl_plugin", "benchmarks/speed")
"""What a figure depends on, in the repository."""


class CannotMeasureError(Exception):
    """This machine lacks what a figure is about."""


Row = dict[str, Any]
"""A line of a figure: `case`, and by name numbers or a `Spread`, which the file holds as an object."""


def revision(*paths: str) -> str:
    """Return the last commit that changed what is measured, or these paths; `-changed` if it was changed since."""
    what = paths or _MEASURED
    is_changed = bool(_git("status", "--porcelain", "--", *what))
    return _git("log", "-1", "--format=%h", "--", *what) + "-changed" * is_changed


def _git(*arguments: str) -> str:
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def machine() -> dict[str, Any]:
    """Describe the machine and the libraries."""
    packages = ("torch", "coqui-tts", "transformers", "speechbrain")
    return {
        "python": platform.python_version(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def measured(rows: list[Row], effort: Effort, seconds: float, of_revision: str) -> dict[str, Any]:
    """Return the record of a figure that was measured just now.

    Args:
        rows: Its lines.
        effort: How it was measured.
        seconds: How long that took.
        of_revision: The revision when it began.
    """
    now = datetime.datetime.now(datetime.UTC)
    return {
        "rows": [{key: _plain(value) for key, value in row.items()} for row in rows],
        "revision": of_revision, "when": now.isoformat(timespec="minutes"), "took_seconds": round(seconds, 1),
        **dataclasses.asdict(effort), **machine(),
    }  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, Spread):
        return {key: _plain(part) for key, part in dataclasses.asdict(value).items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def read(file: Path = FILE) -> dict[str, Any]:
    """Return the records by figure; empty if there is no file, or one of another form."""
    if not file.is_file():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    figures: dict[str, Any] = content["figures"] if content.get("format") == _FORMAT else {}
    return figures


def merge(figures: Mapping[str, Any], file: Path = FILE) -> None:
    """Put records in the place of former ones of the same figures, and leave the others; whole or not at all."""
    content = {"format": _FORMAT, "figures": dict(sorted({**read(file), **figures}.items()))}
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
