"""The similarity of a run's evaluations, one after another, and what it tells about the run."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from coqui_scl_plugin.config import EvaluationConfig
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.utils.atomic import replacing

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


def _gaming(earlier: Sequence[Row], since: int, now: Row, roles: Mapping[str, str], config: EvaluationConfig) -> str:
    """Whether training encoders rose over all that they said up to an evaluation, and no held-out one since then."""

    def rises(role: str, rows: Sequence[Row]) -> dict[str, float]:
        known = [alias for alias, own in roles.items() if own == role and all(alias in r.secs for r in (*rows, now))]
        return {alias: now.secs[alias] - max(row.secs[alias] for row in rows) for alias in known}

    risen = {a: r for a, r in rises("training", earlier[: since + 1]).items() if r >= config.training_rise}
    held_out = rises("holdout", [earlier[since]])
    if not risen or not held_out or max(held_out.values()) >= config.holdout_rise:
        return ""
    changes = ", ".join(f"{alias} {rise:+.3f}" for alias, rise in (risen | held_out).items())
    return (
        f"since step {earlier[since].step} the encoders trained against rise and the held-out ones do not ({changes}): "
        "the generator learns to please the encoder, not to sound like the speakers"
    )


def find_flags(
    earlier: Sequence[Row], now: Row, roles: Mapping[str, str], ceilings: Mapping[str, float], config: EvaluationConfig
) -> str:
    """What in an evaluation gives reason for doubt.

    It is compared with the first one of the run, and with the one at which the held-out encoders were best: a run that
    starts to game its encoder late, or after both rose, is found as well.

    Args:
        earlier: The evaluations before.
        now: The present one.
        roles: By alias, `training` or `holdout`.
        ceilings: By alias, the SECS of real speech of the same speakers.
        config: The thresholds.
    """
    held_out = [alias for alias, role in roles.items() if role == "holdout"]
    best = max(range(len(earlier)), key=lambda i: sum(earlier[i].secs.get(a, -1.0) for a in held_out), default=None)
    baselines = [] if best is None else dict.fromkeys((best, 0))
    flags = [flag for since in baselines if (flag := _gaming(earlier, since, now, roles, config))][:1]
    for alias, secs in now.secs.items():
        if alias in ceilings and secs > ceilings[alias]:
            flags.append(
                f"by {alias} generated speech ({secs:.3f}) is more alike to the speakers' recordings than real speech "
                f"of theirs is ({ceilings[alias]:.3f})"
            )
    return "; ".join(flags)


def ceilings_of(levels: Mapping[str, Calibration], real: Mapping[str, float]) -> dict[str, float]:
    """By alias, the larger of the encoder's ceiling and what the recordings score that were copied."""
    return {alias: max(value, levels[alias].ceiling) for alias, value in real.items() if alias in levels}
