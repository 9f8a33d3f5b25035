"""The two runs of the demo, trained by Coqui's trainer."""

import random
import statistics
import time
from dataclasses import dataclass, field

import torch
from rich.progress import Progress
from trainer import Trainer, TrainerArgs
from trainer.io import save_model

from coqui_scl_plugin.coqui.vits import SclVits
from coqui_scl_plugin.demo.corpus_files import Corpus, Sample
from coqui_scl_plugin.demo.loss_recorder import LossRecorder
from coqui_scl_plugin.demo.options import DemoOptions
from coqui_scl_plugin.demo.small_vits import small_config
from coqui_scl_plugin.utils.fingerprint import fingerprint

TRAINING_ENCODER = "ge2e"
ARMS = {"without_scl": "without SCL", "with_scl": "with SCL"}
_KEPT = ("loss_mel", "loss_spk_encoder", f"reference_cosine_{TRAINING_ENCODER}")


@dataclass
class Arm:
    """One of the two runs, and what was recorded of it."""

    name: str
    start: str = ""
    """Fingerprint of the model before training."""
    encoder_before: str | None = None
    """Fingerprint of the training encoder; None without the loss."""
    encoder_after: str | None = None
    seconds_per_step: float = 0.0
    history: dict[str, list[float]] = field(default_factory=dict)
    """Losses of each step by name."""
    secs: dict[str, list[float]] = field(default_factory=dict)
    """SECS of each held-out recording by encoder."""
    model: str = ""
    """Path of the trained model."""


class _Stopwatch:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def start(self, trainer: Trainer) -> None:
        self._started = time.perf_counter()

    def stop(self, trainer: Trainer) -> None:
        self.seconds.append(time.perf_counter() - self._started)


def training_list(samples: list[Sample], count: int, seed: int) -> list[Sample]:
    """Return `count` samples: the whole list in a random order, over and over."""
    order = random.Random(seed)
    chosen: list[Sample] = []
    while len(chosen) < count:
        chosen += order.sample(samples, len(samples))
    return [dict(sample) for sample in chosen[:count]]


def train_arm(name: str, options: DemoOptions, corpus: Corpus, progress: Progress) -> tuple[Arm, SclVits]:
    """Train the arm `name` of `ARMS` for `options.steps` steps; return its record, and the model in eval mode.

    The same options give both arms the same start, order and slices.
    """
    arm, watch = Arm(name), _Stopwatch()
    task = progress.add_task(ARMS[name], total=options.steps)
    recorder = LossRecorder(_KEPT, on_step=lambda: progress.advance(task))
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
        c_logger=recorder, parse_command_line_args=False,
        callbacks={"on_train_step_start": watch.start, "on_train_step_end": watch.stop},
    )  # fmt: skip
    encoder = model.speaker_encoder_loss.encoders[TRAINING_ENCODER] if model.speaker_encoder_loss else None
    arm.encoder_before = fingerprint(encoder) if encoder else None
    trainer.fit()
    arm.encoder_after = fingerprint(encoder) if encoder else None
    arm.history = recorder.history
    arm.seconds_per_step = statistics.median(watch.seconds)
    arm.model = str(trainer.output_path / "model.pth")
    save_model(config, model, arm.model, current_step=trainer.total_steps_done, epoch=trainer.epochs_done)
    return arm, model.eval()
