"""Make the start of the demo: train its small VITS from random weights on the bundled speech, without the loss.

    python scripts/make_demo_start.py WORK

WORK keeps a checkpoint a block of steps (`start_500.pth`, ...). An interrupted block begins again, those before it are
kept, so use another folder for other arguments. Each block has a seed of its own, the seed plus its index, and makes
its optimizers anew. The result is `coqui_scl_plugin/demo/start.safetensors`, in half precision. One thread, so that
the order of sums does not depend on the machine's cores: 6000 steps take an hour.
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

import torch
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.demo.arms import train
from coqui_scl_plugin.demo.corpus_files import BUNDLED, Corpus
from coqui_scl_plugin.demo.loss_recorder import LossRecorder
from coqui_scl_plugin.demo.small_vits import START_RATES, SmallVits, small_config
from coqui_scl_plugin.demo.start import START, Start
from coqui_scl_plugin.utils.checkpoint import read_checkpoint

BATCH_SIZE = 4


def train_block(
    corpus: Corpus, before: Path | None, checkpoint: Path, *, steps: int, seed: int, rate: float, progress: Progress
) -> None:
    """Train `steps` steps from a checkpoint, or from random weights, and write the next one."""
    task = progress.add_task(checkpoint.name, total=steps)
    config = small_config(corpus, steps=steps, batch_size=BATCH_SIZE, seed=seed, runs=checkpoint.parent / "runs")
    config.run_name = checkpoint.stem
    config.lr_gen = config.lr_disc = rate
    config.scl = SclConfig(enabled=False, weight=0.0)
    torch.manual_seed(seed)
    model = SmallVits(config)
    if before is not None:
        model.load_state_dict(read_checkpoint(str(before))["model"])
    recorder = LossRecorder(("loss_mel",), on_step=lambda: progress.advance(task))
    trainer = train(model, corpus, recorder)
    recent = recorder.history["loss_mel"][-50:]
    progress.console.print(f"{checkpoint.name}: mel loss {sum(recent) / len(recent):.2f}")
    (trainer.output_path / "model.pth").replace(checkpoint)


def train_start(work: Path, *, steps: int, block: int, seed: int, progress: Progress) -> Path:
    """Train all blocks that are missing; return the last checkpoint."""
    corpus, blocks, before = Corpus.load(BUNDLED), steps // block, None
    for index in range(blocks):
        checkpoint = work / f"start_{(index + 1) * block}.pth"
        if not checkpoint.is_file():
            rate = START_RATES["early" if index < blocks * 3 // 4 else "late"]
            train_block(corpus, before, checkpoint, steps=block, seed=seed + index, rate=rate, progress=progress)
        before = checkpoint
    if before is None:
        raise SystemExit(f"--steps {steps}: must be at least one block of {block} steps")
    return before


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path, help="folder of the checkpoints")
    parser.add_argument("--out", type=Path, default=START, help="file to write (default: the one in the package)")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--block", type=int, default=500, help="steps between checkpoints (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for name in ("trainer", "TTS"):
        logging.getLogger(name).setLevel(logging.WARNING)
    steps, block, seed = arguments.steps, arguments.block, arguments.seed
    with Progress(*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        checkpoint = train_start(arguments.work, steps=steps, block=block, seed=seed, progress=progress)
    corpus = Corpus.load(BUNDLED)
    start = Start(read_checkpoint(str(checkpoint))["model"], corpus.speakers, corpus.rate)
    made = {"script": "scripts/make_demo_start.py", "seed": seed, "steps": steps, "block": block, "threads": 1}
    start.save(arguments.out, **made, torch=torch.__version__)
    sys.stdout.write(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
