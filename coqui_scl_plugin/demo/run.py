"""Train twice from one start, without and with the loss, judge both, and write what came out."""

import contextlib
import importlib.metadata
import json
import logging
import os
import random
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # Coqui's bars for every data loader would tear the demo's own

import soundfile
import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import Tensor
from trainer import Trainer, TrainerArgs
from trainer.io import save_model
from trainer.logging import ConsoleLogger

from coqui_scl_plugin.api import build_encoder
from coqui_scl_plugin.demo import corpus_files, judge, report
from coqui_scl_plugin.demo.small_vits import small_config
from coqui_scl_plugin.encoders.resampled import ResampledEncoder
from coqui_scl_plugin.freeze import FrozenPolicy, fingerprint
from coqui_scl_plugin.quiet import quiet
from coqui_scl_plugin.vits import SclVits

TRAINING_ENCODER, HELD_OUT_ENCODER = "ge2e", "dvector"
ARMS = {"without_scl": "without SCL", "with_scl": "with SCL"}
_AUDIO_EXAMPLES = 2


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


def _training_list(samples: list[corpus_files.Sample], count: int, seed: int) -> list[corpus_files.Sample]:
    """`count` samples: the whole list in a random order, over and over."""
    order = random.Random(seed)
    chosen: list[corpus_files.Sample] = []
    while len(chosen) < count:
        chosen += order.sample(samples, len(samples))
    return [dict(sample) for sample in chosen[:count]]


def _train_arm(
    name: str, options: DemoOptions, data: Path, rate: int, train: list[corpus_files.Sample], progress: Progress
) -> tuple[Arm, SclVits]:
    arm, watch = Arm(name), _Stopwatch()
    speakers = sorted({sample["speaker_name"] for sample in train})
    config = small_config(
        data=data, rate=rate, speakers=speakers, steps=options.steps, batch_size=options.batch_size,
        seed=options.seed, runs=options.out / "runs",
    )  # fmt: skip
    config.run_name = name
    config.scl.enabled = name == "with_scl"
    config.scl.weight = options.weight
    torch.manual_seed(options.seed)
    model = SclVits(config)
    arm.start = fingerprint(model)
    trainer = Trainer(
        TrainerArgs(), config, config.output_path, model=model,
        train_samples=_training_list(train, options.steps * options.batch_size, options.seed), eval_samples=[],
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


def _judges(rate: int) -> dict[str, ResampledEncoder]:
    """The encoders that judge, loaded anew: nothing of the training can have touched them."""
    judges = {}
    for name in (TRAINING_ENCODER, HELD_OUT_ENCODER):
        judges[name] = ResampledEncoder(build_encoder(name), rate)
        FrozenPolicy().apply(judges[name])
    return judges


def _write_audio(folder: Path, sample: corpus_files.Sample, waveforms: dict[str, Tensor], rate: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, waveform in waveforms.items():
        soundfile.write(folder / f"{Path(sample['audio_file']).stem}_{kind}.wav", waveform.clamp(-1, 1).numpy(), rate)


def _versions() -> dict[str, str]:
    names = ("coqui-scl-plugin", "coqui-tts", "coqui-tts-trainer", "torch", "torchaudio")
    return {name: importlib.metadata.version(name) for name in names}


def run_demo(options: DemoOptions, *, as_json: bool) -> None:
    """Do the whole job: prints a table, writes `results.json`, `demo.png`, `audio/` and the runs below `options.out`.

    Raises:
        ConfigError: the data cannot be used.
        PreflightError: no gradient came through.
        SystemExit: with 1, an encoder moved (the trainer ends the process).
    """
    console = Console(stderr=as_json)
    data = (options.data or corpus_files.BUNDLED).resolve()
    samples = corpus_files.load_samples(data)
    rate = corpus_files.sample_rate(samples)
    train, held_out = corpus_files.split(samples)
    judges = _judges(rate)
    speakers = [sample["speaker_name"] for sample in held_out]
    console.print(
        f"{len(set(speakers))} speakers, {len(train)} recordings to train on, {len(held_out)} held out, "
        f"{options.steps} steps of {options.batch_size} segments for each of two runs.",
        highlight=False,
    )
    arms, reconstructed = [], {}
    with (
        contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(),
        quiet(logging.WARNING, "trainer", "TTS"),
        Progress(
            *Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn(), console=console
        ) as progress,
    ):
        for name in ARMS:
            arm, model = _train_arm(name, options, data, rate, train, progress)
            reconstructed[name] = [
                judge.reconstruct(model, judge.load_waveform(s), s["speaker_name"]).clone() for s in held_out
            ]
            arms.append(arm)
    real = [judge.load_waveform(sample) for sample in held_out]
    embedded = {name: judge.embed_all(encoder, real) for name, encoder in judges.items()}
    for arm in arms:
        for name, encoder in judges.items():
            cosine = judge.embed_all(encoder, reconstructed[arm.name]) * embedded[name]
            arm.secs[name] = cosine.sum(dim=-1).tolist()
    for speaker in sorted(set(speakers))[:_AUDIO_EXAMPLES]:
        index = speakers.index(speaker)
        spoken = {name: waveforms[index] for name, waveforms in reconstructed.items()}
        _write_audio(options.out / "audio", held_out[index], {"real": real[index], **spoken}, rate)
    results = {
        "options": {**asdict(options), "data": str(options.data or "bundled"), "out": str(options.out)},
        "versions": _versions(),
        "speakers": len(set(speakers)),
        "recordings": {"train": len(train), "held_out": len(held_out)},
        "held_out": [sample["audio_unique_name"] for sample in held_out],
        "encoders": {"training": TRAINING_ENCODER, "held_out": HELD_OUT_ENCODER},
        "real_speech": {name: judge.floor_and_ceiling(vectors, speakers) for name, vectors in embedded.items()},
        "arms": {arm.name: asdict(arm) for arm in arms},
        "encoder_moved": arms[1].encoder_before != arms[1].encoder_after,
    }
    report.write(options.out, results)
    if as_json:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")
    else:
        report.show(console, results, options.out)
    if results["encoder_moved"]:
        sys.exit(1)
