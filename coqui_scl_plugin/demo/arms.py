"""One run of the demo: train a small VITS through Coqui's trainer, under a progress bar."""

import random
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from trainer import Trainer, TrainerArgs
from trainer.io import save_model
from trainer.logging import ConsoleLogger

from coqui_scl_plugin.demo.corpus_files import Corpus, Sample
from coqui_scl_plugin.demo.small_vits import small_config
from coqui_scl_plugin.freeze import fingerprint
from coqui_scl_plugin.vits import SclVits

TRAINING_ENCODER = "ge2e"
ARMS = {"without_scl": "without SCL", "with_scl": "with SCL"}


@dataclass(frozen=True)
class DemoOptions:
    """What the command line asks for."""

    data: Path | None
    steps: int
    batch_size: int
    weight: float
    seed: int
    out: Path


@dataclass
class Arm:
    """One of the two runs, and what was seen of it."""

    name: str
    start: str = ""
    encoder_before: str | None = None
    encoder_after: str | None = None
    seconds_per_step: float = 0.0
    history: dict[str, list[float]] = field(default_factory=dict)
    secs: dict[str, list[float]] = field(default_factory=dict)
    model: str = ""


class _ProgressConsole(ConsoleLogger):
    """Coqui's console logger, which here moves a progress bar and keeps the losses instead of printing them."""

    kept = ("loss_mel", "loss_spk_encoder", f"secs_{TRAINING_ENCODER}")

    def __init__(self, arm: Arm, progress: Progress, steps: int) -> None:
        super().__init__()
        self._arm, self._progress = arm, progress
        self._task = progress.add_task(ARMS[arm.name], total=steps)

    @staticmethod
    def log_with_flush(msg: str) -> None:
        """Print nothing."""

    def print_train_step(
        self, batch_steps: int, step: int, global_step: int, loss_dict: Any, avg_loss_dict: Any
    ) -> None:
        """Count a step."""
        for key in self.kept:
            if key in loss_dict:
                self._arm.history.setdefault(key, []).append(float(loss_dict[key]))
        self._progress.advance(self._task)


class _Stopwatch:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def start(self, trainer: Trainer) -> None:
        self._started = time.perf_counter()

    def stop(self, trainer: Trainer) -> None:
        self.seconds.append(time.perf_counter() - self._started)


def training_list(samples: list[Sample], count: int, seed: int) -> list[Sample]:
    """`count` samples: the whole list in a random order, over and over."""
    order = random.Random(seed)
    chosen: list[Sample] = []
    while len(chosen) < count:
        chosen += order.sample(samples, len(samples))
    return [dict(sample) for sample in chosen[:count]]


def train_arm(name: str, options: DemoOptions, corpus: Corpus, progress: Progress) -> tuple[Arm, SclVits]:
    """Train the arm `name` of `ARMS` for `options.steps` steps; what was seen of it, and the model in eval mode.

    The same options give the same start, order and slices, whichever the arm.
    """
    arm, watch = Arm(name), _Stopwatch()
    config = small_config(
        corpus, steps=options.steps, batch_size=options.batch_size, seed=options.seed, runs=options.out / "runs"
    )
    config.run_name = name
    config.scl.enabled = name == "with_scl"
    config.scl.weight = options.weight if config.scl.enabled else 0.0
    torch.manual_seed(options.seed)
    model = SclVits(config)
    arm.start = fingerprint(model)
    trainer = Trainer(
        TrainerArgs(), config, config.output_path, model=model,
        train_samples=training_list(corpus.train, options.steps * options.batch_size, options.seed), eval_samples=[],
        c_logger=_ProgressConsole(arm, progress, options.steps), parse_command_line_args=False,
        callbacks={"on_train_step_start": watch.start, "on_train_step_end": watch.stop},
    )  # fmt: skip
    encoder = model.speaker_encoder_loss.encoders[TRAINING_ENCODER] if model.speaker_encoder_loss else None
    arm.encoder_before = fingerprint(encoder) if encoder else None
    trainer.fit()
    arm.encoder_after = fingerprint(encoder) if encoder else None
    arm.seconds_per_step = statistics.median(watch.seconds)
    arm.model = str(trainer.output_path / "model.pth")
    save_model(config, model, arm.model, current_step=trainer.total_steps_done, epoch=trainer.epochs_done)
    return arm, model.eval()
