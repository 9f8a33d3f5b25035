"""History of a run: the similarities of its evaluations, kept in `scl_history.csv`."""

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from coqui_scl_plugin.utils.atomic import replacing

logger = logging.getLogger(__name__)

FILE = "scl_history.csv"
CROSS_UTTERANCE, CALIBRATED = "cross_utterance_", "calibrated_cross_utterance_"
"""Prefixes of the names of similarities in logs and files; an encoder's alias follows."""

_FORMER_PREFIXES = {"secs_": CROSS_UTTERANCE, "scaled_": CALIBRATED}
"""Prefixes in the file of a run that began with an earlier version and is continued."""


def named_similarities(cross_utterance: Mapping[str, float], calibrated: Mapping[str, float]) -> dict[str, float]:
    """Name similarities by alias as logs and files do.

    >>> named_similarities({"ge2e": 0.5, "dvector": 0.25}, {"ge2e": 0.125})
    {'cross_utterance_ge2e': 0.5, 'calibrated_cross_utterance_ge2e': 0.125, 'cross_utterance_dvector': 0.25}
    """
    return {
        f"{prefix}{alias}": value
        for alias in cross_utterance
        for prefix, values in ((CROSS_UTTERANCE, cross_utterance), (CALIBRATED, calibrated))
        if (value := values.get(alias)) is not None
    }


@dataclass(frozen=True)
class Row:
    """One evaluation."""

    step: int
    epoch: int
    cross_utterance: dict[str, float]
    """Mean cosine of generated speech and other recordings of its speaker, by alias."""
    calibrated: dict[str, float]
    """The same, calibrated, by alias of the encoders whose floor and ceiling are known."""
    flags: str = ""
    """Reasons for doubt; empty for a sound run."""

    def flat(self) -> dict[str, Any]:
        """Return one value per column of the file."""
        named = named_similarities(self.cross_utterance, self.calibrated)
        similarities = {name: round(value, 6) for name, value in named.items()}
        return {"step": self.step, "epoch": self.epoch, **similarities, "flags": self.flags}

    @classmethod
    def from_flat(cls, row: Mapping[str, str]) -> Self:
        """Read a line of the file. Raises an error of any kind for one that is torn."""
        if row["flags"] is None or None in row:
            raise ValueError
        values: dict[str, dict[str, float]] = {CROSS_UTTERANCE: {}, CALIBRATED: {}}
        for column, value in row.items():
            prefix = next((p for p in (*values, *_FORMER_PREFIXES) if column.startswith(p)), None)
            if prefix is not None and value:
                values[_FORMER_PREFIXES.get(prefix, prefix)][column.removeprefix(prefix)] = float(value)
        return cls(int(row["step"]), int(row["epoch"]), values[CROSS_UTTERANCE], values[CALIBRATED], row["flags"])


def read_history(folder: Path) -> list[Row]:
    """Read the evaluations of a run folder; none if it has no file of them. A line that is torn is left out."""
    rows, torn = _read(folder / FILE)
    if torn:
        logger.warning("%s is cut off or damaged: %d of its lines are left out.", folder / FILE, torn)
    return rows


def take_up_history(folder: Path) -> list[Row]:
    """Do the same for a run that writes the file anew; a torn file is set aside, so that nothing in it is lost."""
    rows, torn = _read(folder / FILE)
    if torn:
        aside = (folder / FILE).replace(folder / f"torn_{FILE}.aside")
        if rows:
            write_history(folder, rows)
        logger.warning(
            "%s is cut off or damaged. It was set aside as %s, and the run goes on with %d of its %d lines.",
            folder / FILE, aside.name, len(rows), len(rows) + torn,
        )  # fmt: skip
    return rows


def _read(file: Path) -> tuple[list[Row], int]:
    """Return the lines of the file, and how many of them cannot be read."""
    if not file.is_file():
        return [], 0
    rows, torn = [], 0
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        lines = csv.DictReader(stream)
        try:
            torn += int(any(column not in (lines.fieldnames or ("step", "flags")) for column in ("step", "flags")))
            for line in lines:
                try:
                    rows.append(Row.from_flat(line))
                except (AttributeError, KeyError, TypeError, ValueError):
                    torn += 1
        except csv.Error:  # a line without an end
            torn += 1
    return rows, torn


def write_history(folder: Path, rows: Sequence[Row]) -> None:
    """Write all evaluations, whole or not at all."""
    flat = [row.flat() for row in rows]
    columns = list(dict.fromkeys(column for row in flat for column in row if column != "flags"))
    with replacing(folder / FILE) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [*columns, "flags"])
        writer.writeheader()
        writer.writerows(flat)
