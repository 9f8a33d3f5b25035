"""The similarity of a run's evaluations, one after another, and what it tells about the run."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from coqui_scl_plugin.atomic import replacing
from coqui_scl_plugin.config import EvaluationConfig
from coqui_scl_plugin.references.levels import Levels

FILE = "scl_history.csv"


@dataclass(frozen=True)
class Row:
    """One evaluation."""

    step: int
    epoch: int
    secs: dict[str, float]
    """By alias, mean cosine of generated speech and other recordings of its speaker."""
    scaled: dict[str, float]
    """The same between the encoder's floor (0) and ceiling (1), where they are known."""
    flags: str = ""
    """What gives reason for doubt; empty for a sound run."""

    def flat(self) -> dict[str, Any]:
        """One value a column, as in the file."""
        similarities = {
            f"{kind}_{alias}": round(value, 6)
            for alias in self.secs
            for kind, values in (("secs", self.secs), ("scaled", self.scaled))
            if (value := values.get(alias)) is not None
        }
        return {"step": self.step, "epoch": self.epoch, **similarities, "flags": self.flags}

    @classmethod
    def from_flat(cls, row: Mapping[str, str]) -> Self:
        """From a line of the file."""
        values: dict[str, dict[str, float]] = {"secs": {}, "scaled": {}}
        for column, value in row.items():
            kind, _, alias = column.partition("_")
            if kind in values and value:
                values[kind][alias] = float(value)
        return cls(int(row["step"]), int(row["epoch"]), values["secs"], values["scaled"], row["flags"])


def read_history(folder: Path) -> list[Row]:
    """The evaluations of a run folder; none where there is no file."""
    file = folder / FILE
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return [Row.from_flat(row) for row in csv.DictReader(stream)]


def write_history(folder: Path, rows: Sequence[Row]) -> None:
    """Write all of them, whole or not at all."""
    flat = [row.flat() for row in rows]
    columns = list(dict.fromkeys(column for row in flat for column in row if column != "flags"))
    with replacing(folder / FILE) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [*columns, "flags"])
        writer.writeheader()
        writer.writerows(flat)


def _rises(first: Row, now: Row, aliases: Sequence[str]) -> dict[str, float]:
    return {
        alias: now.secs[alias] - first.secs[alias] for alias in aliases if alias in first.secs and alias in now.secs
    }


def find_flags(
    first: Row, now: Row, roles: Mapping[str, str], ceilings: Mapping[str, float], config: EvaluationConfig
) -> str:
    """What in an evaluation, compared with the first one of the run, gives reason for doubt.

    Args:
        first: The first evaluation.
        now: The present one.
        roles: By alias, `training` or `holdout`.
        ceilings: By alias, the SECS of real speech of the same speakers.
        config: The thresholds.
    """
    flags = []
    training, holdout = ([a for a, role in roles.items() if role == wanted] for wanted in ("training", "holdout"))
    risen = {a: rise for a, rise in _rises(first, now, training).items() if rise >= config.training_rise}
    held_out = _rises(first, now, holdout)
    if risen and held_out and max(held_out.values()) < config.holdout_rise:
        changes = ", ".join(f"{alias} {rise:+.3f}" for alias, rise in (risen | held_out).items())
        flags.append(
            f"since step {first.step} the encoders trained against rise and the held-out ones do not ({changes}): the "
            "generator learns to please the encoder, not to sound like the speakers"
        )
    for alias, secs in now.secs.items():
        if alias in ceilings and secs > ceilings[alias]:
            flags.append(
                f"by {alias} generated speech ({secs:.3f}) is more alike to the speakers' recordings than real speech "
                f"of theirs is ({ceilings[alias]:.3f})"
            )
    return "; ".join(flags)


def ceilings_of(levels: Mapping[str, Levels], real: Mapping[str, float]) -> dict[str, float]:
    """By alias, the larger of the encoder's ceiling and what the recordings score that were copied."""
    return {alias: max(value, levels[alias].ceiling) for alias, value in real.items() if alias in levels}
