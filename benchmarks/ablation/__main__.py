"""Does a speaker consistency loss make a voice more alike? Same start, same steps, several seeds, held-out judges.

Trains a start without the loss, then every arm from it, judges all, and writes tables and figures.
What is done stays done: begin again after an interruption, or in the background. Needs libri10, and what
`make ablation` installs. One seed of all arms screens them, three confirm those that --arms names, and a
pretrained voice shows whether a real decoder agrees:

    python -m benchmarks.ablation --seeds 1
    python -m benchmarks.ablation --seeds 3 --arms both-2s
    python -m benchmarks.ablation --model voice --seeds 1 --arms stock both-2s
"""

import argparse
import logging
import warnings
from pathlib import Path

import torch

from benchmarks.ablation.arms import ARMS
from benchmarks.ablation.judging import judge_all
from benchmarks.ablation.model import Ablated, SmallModel
from benchmarks.ablation.outcome import Outcome
from benchmarks.ablation.page import write_page
from benchmarks.ablation.pretrained_voice import PretrainedVoice
from benchmarks.ablation.training import train_all, train_start
from benchmarks.speech import need_speech

MODELS: dict[str, type[Ablated]] = {"small": SmallModel, "voice": PretrainedVoice}


def _options() -> argparse.Namespace:
    names = [arm.name for arm in ARMS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", choices=MODELS, default="small", help="the demo's small VITS (default), or a pretrained voice"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of runs, to begin or go on with; by default ablation_out/MODEL"
    )
    parser.add_argument("--docs", type=Path, help="folder of the tables and figures; by default docs/ablation/MODEL")
    parser.add_argument("--start-steps", type=int, help="of the start, without the loss; by default the model's")
    parser.add_argument("--steps", type=int, help="of each run; by default the model's")
    parser.add_argument(
        "--arms", nargs="+", choices=names, default=names, metavar="ARM",
        help=f"to train now beside `none`, by default all; the page shows all that were judged: {', '.join(names)}",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3, help="runs of each of these arms")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first of them")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, on a core each")
    parser.add_argument(
        "--asr", metavar="MODEL",
        help="recogniser of transformers, a folder or a name on the hub, that counts character errors of speech from "
        "text; runs that it has not heard are judged again",
    )  # fmt: skip
    parser.add_argument("--skip-training", action="store_true", help="judge the runs that are there and write the page")
    return parser.parse_args()


def main() -> None:
    """Do what is missing."""
    options = _options()
    need_speech()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for name in ("trainer", "TTS"):
        logging.getLogger(name).setLevel(logging.WARNING)
    model = MODELS[options.model]()
    out = options.out or Path("ablation_out") / options.model
    if not options.skip_training:
        arms = [arm for arm in ARMS if arm.name in ("none", *options.arms)]
        train_start(model, out, options.start_steps or model.start_steps)
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        train_all(model, out, arms, steps=options.steps or model.steps, seeds=seeds, jobs=options.jobs)
    judge_all(model.corpus(out), out, options.jobs, options.asr)
    write_page(Outcome(out, ARMS), options.docs or Path("docs/ablation") / options.model)


if __name__ == "__main__":
    main()
