"""What came out of the ablation: scores of all runs by arm and seed, read from their `judged.json` files."""

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ablation.arms import Arm
from benchmarks.ablation.bench import ENCODERS, BySpeaker
from benchmarks.ablation.judging import FORMAT
from coqui_scl_plugin.evaluation.metrics import Interval, bootstrap_mean

CONFIRMED = 3
"""Seeds from which on an arm counts as confirmed; with one, it was screened."""


Judged = Mapping[str, Any]
"""A `judged.json`."""


def by_speaker(judged: Judged, way: str, judge: str) -> BySpeaker:
    """Return the calibrated similarity by an encoder, or another measure, of each speaker; empty if not measured."""
    scores = judged["ways"][way]
    if judge in ENCODERS:
        speakers = scores["encoders"][judge]["speakers"]
        return {speaker: own["calibrated_cross_utterance"] for speaker, own in speakers.items()}
    found: BySpeaker = scores["measures"].get(judge, {}).get("speakers", {})
    return found


def mean(values: BySpeaker) -> float | None:
    """Return the mean over speakers whose value is known; None if there is none."""
    known = [value for value in values.values() if value is not None]
    return statistics.mean(known) if known else None


class Outcome:
    """Scores of the start and of all runs that were judged."""

    def __init__(self, folder: Path, arms: Sequence[Arm]) -> None:
        """Read what is there of these arms; runs of an unfinished ablation that were not judged are left out.

        Args:
            folder: The ablation's folder.
            arms: In the order of the page, `none` first.

        Raises:
            ValueError: a run was judged by a former version.
        """
        self.start: Judged = _read(folder / "start" / "judged.json")
        self.runs: dict[str, dict[int, Judged]] = {arm.name: {} for arm in arms}
        for file in sorted(folder.glob("runs/*/judged.json")):
            judged = _read(file)
            arm, seed = judged["training"]["arm"], judged["training"]["seed"]
            if arm in self.runs:
                self.runs[arm][seed] = judged
        self.arms = [arm for arm in arms if self.runs[arm.name]]

    def groups(self) -> list[tuple[str, list[Arm]]]:
        """Return the arms that were judged by group, in order of first appearance."""
        order = list(dict.fromkeys(arm.group for arm in self.arms))
        by_group = sorted(self.arms, key=lambda arm: order.index(arm.group))
        return [(group, list(arms)) for group, arms in itertools.groupby(by_group, lambda arm: arm.group)]

    def pairs(self, arm: Arm) -> list[tuple[Judged, Judged]]:
        """Return runs of an arm and of `none` with the same seed, by seed."""
        without = self.runs["none"]
        return [(run, without[seed]) for seed, run in sorted(self.runs[arm.name].items()) if seed in without]

    def gains_of_seeds(self, arm: Arm, way: str, judge: str) -> list[BySpeaker]:
        """Return an arm's values minus those of `none`, by seed and speaker; None where one of the two is unknown."""
        gains = []
        for run, without in self.pairs(arm):
            ours, theirs = by_speaker(run, way, judge), by_speaker(without, way, judge)
            gains.append({speaker: _difference(ours.get(speaker), theirs[speaker]) for speaker in theirs})
        return gains

    def gain(self, arm: Arm, way: str, judge: str) -> Interval | None:
        """Return the mean over speakers, each the mean of seeds, and its 95 % interval over speakers.

        Speakers whose gain is unknown in a seed are left out. None if that leaves nobody, or no seed has both runs.
        """
        seeds = self.gains_of_seeds(arm, way, judge)
        by_name = [[seed[speaker] for seed in seeds] for speaker in (seeds[0] if seeds else ())]
        means = [
            statistics.mean(known)
            for own in by_name
            if len(known := [value for value in own if value is not None]) == len(seeds)
        ]
        return bootstrap_mean(means, seed=0, resamples=9999) if means else None

    def levels(self, arm: Arm, way: str, judge: str) -> list[float]:
        """Return the mean over speakers of a measure as it is, by seed where it is known."""
        found = [mean(by_speaker(run, way, judge)) for _, run in sorted(self.runs[arm.name].items())]
        return [value for value in found if value is not None]

    def unknown(self, arm: Arm, way: str, judge: str) -> int:
        """Return the number of speakers for whom a measure cannot be told, over all seeds."""
        runs = self.runs[arm.name].values()
        return sum(value is None for run in runs for value in by_speaker(run, way, judge).values())

    def error_rates(self, arm: Arm, way: str, encoder: str) -> list[float]:
        """Return the equal error rates in percent, by seed."""
        return [run["ways"][way]["encoders"][encoder]["eer"] for _, run in sorted(self.runs[arm.name].items())]

    def training(self, arm: Arm, key: str) -> list[Any]:
        """Return what is known of the training of each run, by seed."""
        return [run["training"][key] for _, run in sorted(self.runs[arm.name].items())]

    def seeds(self, arm: Arm) -> str:
        """Return the number of seeds, and what it makes of the arm: `1, screened` or `3, confirmed`."""
        count = len(self.runs[arm.name])
        if arm.name == "none":
            return str(count)
        return f"{count}, confirmed" if count >= CONFIRMED else f"{count}, screened"


def _difference(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _read(file: Path) -> Judged:
    judged: Judged = json.loads(file.read_text(encoding="utf-8"))
    if judged.get("format") != FORMAT:
        raise ValueError(f"{file} is not of this version's judges: run `python -m benchmarks.ablation` to judge again.")
    return judged
