"""Does a speaker consistency loss make a voice more alike? Same start, same steps, several seeds, held-out judges.

Trains a start without the loss, then every arm from it, judges all, and writes what docs/ablation.md shows.
What is done stays done: begin again after an interruption, or in the background. Needs libri10, and the wheels of
`make setup`.
"""

import argparse
import json
import logging
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.ablation_judging import INDEPENDENT, JUDGES, judge_all
from benchmarks.ablation_training import ARMS, Arm, train_all, train_start
from benchmarks.speech import FOLDER, need_speech
from coqui_scl_plugin.demo.corpus_files import Corpus
from coqui_scl_plugin.evaluation.metrics import Interval, bootstrap_mean
from coqui_scl_plugin.utils.atomic import replacing

_MEASURE, _CALIBRATED = "cross_utterance", "calibrated_cross_utterance"
_COLOURS = {"ge2e": "#0072B2", "dvector": "#D55E00", INDEPENDENT: "#000000"}
_MARKERS = {"ge2e": "o", "dvector": "s", INDEPENDENT: "D"}


class Outcome:
    """All that came out, by arm and seed."""

    def __init__(self, folder: Path) -> None:
        """Read what is there: of an unfinished ablation, the runs that were judged."""
        self.start = json.loads((folder / "start" / "judged.json").read_text(encoding="utf-8"))
        self.runs: dict[str, dict[int, dict[str, Any]]] = {arm.name: {} for arm in ARMS}
        for file in sorted(folder.glob("runs/*/judged.json")):
            run = {**json.loads(file.with_name("run.json").read_text()), **json.loads(file.read_text())}
            self.runs[run["arm"]][run["seed"]] = run
        self.arms = [arm for arm in ARMS if self.runs[arm.name]]

    def values(self, arm: Arm, way: str, judge: str, measure: str) -> list[float]:
        """One a seed; similarities are means over speakers."""
        found = [run[way][judge][measure] for run in self.runs[arm.name].values()]
        return [value[0] if isinstance(value, list) else value for value in found]

    def gains_of_speakers(self, arm: Arm, way: str, judge: str) -> list[dict[str, float]]:
        """Return an arm's calibrated similarity minus that without the loss, by seed and speaker."""
        gains = []
        for seed, run in self.runs[arm.name].items():
            if without := self.runs["none"].get(seed):
                ours, theirs = (one[way][judge]["speakers"] for one in (run, without))
                gains.append({speaker: ours[speaker][_CALIBRATED] - theirs[speaker][_CALIBRATED] for speaker in theirs})
        return gains

    def gain(self, arm: Arm, way: str, judge: str) -> Interval:
        """Return the mean over speakers, each the mean of seeds, and its interval over speakers."""
        gains = self.gains_of_speakers(arm, way, judge)
        means = [statistics.mean(seed[speaker] for seed in gains) for speaker in gains[0]]
        return bootstrap_mean(means, seed=0, resamples=9999)


# --- tables -----------------------------------------------------------------------------------------------------------


def _spread(values: Sequence[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def gains_table(outcome: Outcome, way: str) -> str:
    """Return the gains in calibrated similarity over training without the loss, by judge."""
    rows = []
    for arm in outcome.arms[1:]:
        cells = []
        for judge in JUDGES:
            gain = outcome.gain(arm, way, judge)
            of_seeds = [statistics.mean(seed.values()) for seed in outcome.gains_of_speakers(arm, way, judge)]
            seeds = " ".join(f"{value:+.3f}" for value in of_seeds)
            mark = "**" if gain.excludes_zero() else ""
            trained = " †" if judge in arm.encoders else ""
            cells.append(f"{mark}{gain.mean:+.3f}{mark} [{gain.low:+.3f}, {gain.high:+.3f}] ({seeds}){trained}")
        rows.append([f"`{arm.name}`", *cells])
    return _rows(["arm", *(f"judged by {judge}" for judge in JUDGES)], rows)


def levels_table(outcome: Outcome, way: str) -> str:
    """Similarities and equal error rates as they are."""
    start = [
        "`start`",
        *(f"{outcome.start[way][judge][_MEASURE][0]:.3f}" for judge in JUDGES),
        *(f"{outcome.start[way][judge]['eer']:.1f}" for judge in JUDGES),
    ]
    rows = [
        [
            f"`{arm.name}`",
            *(_spread(outcome.values(arm, way, judge, _MEASURE), 3) for judge in JUDGES),
            *(_spread(outcome.values(arm, way, judge, "eer"), 1) for judge in JUDGES),
        ]
        for arm in outcome.arms
    ]
    scores = outcome.start[way]
    ends = [
        [f"real speech, {name}", *(f"{scores[judge][end]:.3f}" for judge in JUDGES), *last]
        for name, end, last in (
            ("other speakers", "floor", [""] * len(JUDGES)),
            ("same speaker", "ceiling", [f"{scores[judge]['real_eer']:.2f}" for judge in JUDGES]),
        )
    ]
    return _rows(
        ["arm", *(f"cross-utterance {j}" for j in JUDGES), *(f"EER % {j}" for j in JUDGES)], [*ends, start, *rows]
    )


def costs_table(outcome: Outcome) -> str:
    """Return what else changed: the weight, mel loss, the encoders, time."""
    rows = []
    for arm in outcome.arms:
        runs = list(outcome.runs[arm.name].values())
        drifts = [drift for run in runs for drift in run["drift"].values()]
        moved = f"{max(d['moved'] for d in drifts)} of {drifts[0]['tensors']}" if drifts else "–"
        cosine = f"{statistics.mean(d['cosine_of_embeddings'] for d in drifts):.3f}" if drifts else "–"
        own = [run["history"][f"reference_cosine_{arm.encoders[0]}"][-3:] for run in runs] if arm.encoders else []
        said = f"{statistics.mean(value for values in own for value in values):.3f}" if own else "–"
        rows.append(
            [
                f"`{arm.name}`", str(len(runs)), f"{runs[0]['weight']:.2f}",
                _spread([run["mel_loss"] for run in runs], 3), said, moved,
                cosine, f"{statistics.median(run['seconds_per_step'] for run in runs):.2f}",
            ]
        )  # fmt: skip
    columns = (
        "arm", "seeds", "weight", "mel loss, held out", "cosine that the loss reports at the end",
        "encoder tensors that moved",
        "cosine of its embeddings before and after", "s a step",
    )  # fmt: skip
    return _rows(columns, rows)


def plot(outcome: Outcome, way: str) -> Figure:
    """Gains by arm and judge; hollow where the arm trained against the judge."""
    figure = Figure(figsize=(8, 0.55 * len(outcome.arms) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    arms = outcome.arms[1:]
    for row, arm in enumerate(arms):
        for shift, judge in zip((-0.22, 0.0, 0.22), JUDGES, strict=True):
            gain = outcome.gain(arm, way, judge)
            axes.errorbar(
                gain.mean, row + shift, xerr=[[gain.mean - gain.low], [gain.high - gain.mean]],
                fmt=_MARKERS[judge], color=_COLOURS[judge], capsize=3, markersize=7,
                markerfacecolor="white" if judge in arm.encoders else _COLOURS[judge],
            )  # fmt: skip
    for judge in JUDGES:
        axes.plot([], [], _MARKERS[judge], color=_COLOURS[judge], label=f"judged by {judge}")
    axes.plot([], [], "o", color="grey", markerfacecolor="white", label="hollow: trained against this judge")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(yticks=range(len(arms)), yticklabels=[arm.name for arm in arms], xlabel=(
        "calibrated similarity (0: other speakers, 1: the same) minus that without the loss,\n"
        "95 % intervals over speakers"
    ))  # fmt: skip
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def write_page(outcome: Outcome, docs: Path) -> None:
    """Write the tables and plots that docs/ablation.md includes."""
    parts = {
        "reconstruction": gains_table(outcome, "reconstruction"), "conversion": gains_table(outcome, "conversion"),
        "levels": levels_table(outcome, "reconstruction"), "levels_conversion": levels_table(outcome, "conversion"),
        "costs": costs_table(outcome),
    }  # fmt: skip
    for name, table in parts.items():
        with replacing(docs / f"ablation_{name}.md") as temporary:
            temporary.write_text(f"<!-- made by `python -m benchmarks.ablation` -->\n{table}", encoding="utf-8")
    for way in ("reconstruction", "conversion"):
        with replacing(docs / f"ablation_{way}.svg") as temporary:
            plot(outcome, way).savefig(temporary, metadata={"Date": None})


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("ablation_out"), help="folder of runs, to begin or go on with")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the tables and plots")
    parser.add_argument(
        "--start-steps", type=int, default=1500, help="of the start, without the loss; in blocks of 500"
    )
    parser.add_argument("--steps", type=int, default=300, help="of each run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each arm, at least two")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, on a core each")
    options = parser.parse_args()
    need_speech()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for name in ("trainer", "TTS"):
        logging.getLogger(name).setLevel(logging.WARNING)
    corpus = Corpus.load(FOLDER.resolve())
    train_start(corpus, options.out, options.start_steps)
    train_all(corpus, options.out, steps=options.steps, seeds=options.seeds, jobs=options.jobs)
    judge_all(corpus, options.out, options.jobs)
    write_page(Outcome(options.out), options.docs)


if __name__ == "__main__":
    main()
