"""The two runs of the demo, trained by Coqui's trainer."""

import copy
import random
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.progress import Progress
from trainer import Trainer, TrainerArgs
from trainer.io import save_model

from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.demo.corpus_files import Corpus, Sample
from coqui_scl_plugin.demo.loss_recorder import LossRecorder
from coqui_scl_plugin.demo.options import DemoOptions
from coqui_scl_plugin.demo.small_vits import SmallVits, small_config
from coqui_scl_plugin.demo.start import Start
from coqui_scl_plugin.utils.fingerprint import fingerprint

ARMS = {"without_scl": "without SCL", "with_scl": "with SCL"}


@dataclass
class Arm:
    """One of the two runs, and what was recorded of it."""

    name: str
    start: str = ""
    """Fingerprint of the model before training."""
    encoders_before: dict[str, str] = field(default_factory=dict)
    """Fingerprint of each training encoder; empty without the loss."""
    encoders_after: dict[str, str] = field(default_factory=dict)
    seconds_per_step: float = 0.0
    history: dict[str, list[float]] = field(default_factory=dict)
    """Losses of each step by name."""
    secs: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """SECS of each held-out recording, by kind of speech and encoder."""
    run: str = ""
    """Run folder."""


class _Stopwatch:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def start(self, trainer: Trainer) -> None:
        self._started = time.perf_counter()

    def stop(self, trainer: Trainer) -> None:
        self.seconds.append(time.perf_counter() - self._started)

    def seconds_per_step(self, cycle: int) -> float:
        """Return the median over cycles of so many steps, of which the first alone has the loss."""
        cycles = [self.seconds[at : at + cycle] for at in range(0, len(self.seconds), cycle)]
        return statistics.median(map(statistics.mean, cycles))


def training_list(samples: list[Sample], count: int, seed: int) -> list[Sample]:
    """Return `count` samples: the whole list in a random order, over and over."""
    order = random.Random(seed)
    chosen: list[Sample] = []
    while len(chosen) < count:
        chosen += order.sample(samples, len(samples))
    return [dict(sample) for sample in chosen[:count]]


def train(
    model: SmallVits,
    corpus: Corpus,
    recorder: LossRecorder,
    callbacks: dict[str, Callable[[Trainer], None]] | None = None,
) -> Trainer:
    """Train a model by Coqui's trainer as its config says, and save it as `model.pth`, without optimizer state.

    The run folder records which recordings are held out, so that `coqui-scl evaluate` scores these.
    """
    config: SclVitsConfig = model.config
    count = config.batch_group_size * config.batch_size
    trainer = Trainer(
        TrainerArgs(), config, config.output_path, model=model,
        train_samples=training_list(corpus.train, count, config.training_seed),
        eval_samples=[dict(sample) for sample in corpus.held_out],
        c_logger=recorder, parse_command_line_args=False, callbacks=callbacks,
    )  # fmt: skip
    trainer.fit()
    file = trainer.output_path / "model.pth"
    save_model(config, model, str(file), current_step=trainer.total_steps_done, epoch=trainer.epochs_done)
    return trainer


def _fingerprints(model: SmallVits) -> dict[str, str]:
    """Return the fingerprint of each training encoder by alias."""
    consistency = model.speaker_encoder_loss
    if consistency is None:
        return {}
    return {spec.label: fingerprint(consistency.encoders[spec.label]) for spec in model.config.scl.encoders}


def _kept(section: SclConfig) -> Sequence[str]:
    return ("loss_mel", "loss_spk_encoder", *(f"reference_cosine_{spec.label}" for spec in section.encoders))


def train_arm(
    name: str, options: DemoOptions, corpus: Corpus, start: Start, section: SclConfig, progress: Progress
) -> tuple[Arm, SmallVits]:
    """Train the arm `name` of `ARMS` for `options.steps` steps; return its record, and the model in eval mode.

    The same options give both arms the same start, order and slices.
    """
    arm, watch, runs = Arm(name), _Stopwatch(), options.out / "runs"
    task = progress.add_task(ARMS[name], total=options.steps)
    recorder = LossRecorder(_kept(section), on_step=lambda: progress.advance(task))
    config = small_config(corpus, steps=options.steps, batch_size=options.batch_size, seed=options.seed, runs=runs)
    config.run_name = name
    config.scl = copy.deepcopy(section)
    config.scl.enabled = name == "with_scl"
    config.scl.weight = options.weight if config.scl.enabled else 0.0
    torch.manual_seed(options.seed)
    model = SmallVits(config)
    start.fill(model)
    arm.start = fingerprint(model)
    model.parts.build_consistency()
    arm.encoders_before = _fingerprints(model)
    trainer = train(model, corpus, recorder, {"on_train_step_start": watch.start, "on_train_step_end": watch.stop})
    arm.encoders_after = _fingerprints(model)
    arm.history = recorder.history
    arm.seconds_per_step = watch.seconds_per_step(config.scl.window.every_n_steps)
    arm.run = str(_named(Path(trainer.output_path), runs / name))
    return arm, model.eval()


def _named(dated: Path, folder: Path) -> Path:
    """Move a run folder from the dated name that Coqui gives it, in place of the former demo's."""
    shutil.rmtree(folder, ignore_errors=True)
    return dated.rename(folder)
