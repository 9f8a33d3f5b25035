"""The demo as a whole: train twice from one start, without and with the loss, score both, and write the results."""

import contextlib
import importlib.metadata
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import Tensor

from coqui_scl_plugin.coqui.vits import SclVits
from coqui_scl_plugin.coqui.vits_audio import reconstruct, speaker_conditioning, spectrogram_for
from coqui_scl_plugin.demo import report
from coqui_scl_plugin.demo.arms import ARMS, TRAINING_ENCODER, Arm, train_arm
from coqui_scl_plugin.demo.corpus_files import BUNDLED, Corpus, load_beginning
from coqui_scl_plugin.demo.options import DemoOptions
from coqui_scl_plugin.demo.scores import HELD_OUT_ENCODER, score, write_audio
from coqui_scl_plugin.utils.log_level import log_level


def _reconstruct_all(model: SclVits, corpus: Corpus) -> list[Tensor]:
    """Reconstruct the beginning of each held-out recording, `[T]`, in its speaker's voice. No random draw."""
    return [
        reconstruct(
            model,
            spectrogram_for(model, load_beginning(sample), corpus.rate),
            speaker_conditioning(model, sample["speaker_name"]),
        ).cpu()
        for sample in corpus.held_out
    ]


def _train_both(
    options: DemoOptions, corpus: Corpus, console: Console, *, as_json: bool
) -> tuple[list[Arm], dict[str, list[Tensor]]]:
    """Train both arms; return their records, and by arm one waveform for each held-out recording."""
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    arms, reconstructed = [], {}
    with (
        contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(),
        log_level(logging.WARNING, "trainer", "TTS"),
        Progress(*columns, console=console) as progress,
    ):
        for name in ARMS:
            arm, model = train_arm(name, options, corpus, progress)
            reconstructed[name] = _reconstruct_all(model, corpus)
            arms.append(arm)
    return arms, reconstructed


def _results(
    options: DemoOptions, corpus: Corpus, arms: Sequence[Arm], real_speech: dict[str, dict[str, float]]
) -> dict[str, Any]:
    names = ("coqui-scl-plugin", "coqui-tts", "coqui-tts-trainer", "torch", "torchaudio")
    return {
        "options": {**asdict(options), "data": str(options.data or "bundled"), "out": str(options.out)},
        "versions": {name: importlib.metadata.version(name) for name in names},
        "speakers": len(corpus.speakers),
        "recordings": {"train": len(corpus.train), "held_out": len(corpus.held_out)},
        "held_out": [sample["audio_unique_name"] for sample in corpus.held_out],
        "encoders": {"training": TRAINING_ENCODER, "held_out": HELD_OUT_ENCODER},
        "real_speech": real_speech,
        "arms": {arm.name: asdict(arm) for arm in arms},
        "encoder_moved": any(arm.encoder_before != arm.encoder_after for arm in arms),
    }


def run_demo(options: DemoOptions, *, as_json: bool) -> None:
    """Run the demo: print a table, and write `results.json`, `demo.png`, `audio/` and `runs/` to `options.out`.

    Raises:
        ConfigError: the data cannot be used.
        EncoderError: the weights of an encoder are not installed.
        PreflightError: no gradient arrived.
        SystemExit: with 1, an encoder moved.
    """
    console = Console(stderr=as_json)
    corpus = Corpus.load((options.data or BUNDLED).resolve())
    console.print(
        f"{len(corpus.speakers)} speakers, {len(corpus.train)} recordings to train on, {len(corpus.held_out)} held "
        f"out, {options.steps} steps of {options.batch_size} segments for each of two runs.",
        highlight=False,
    )
    arms, reconstructed = _train_both(options, corpus, console, as_json=as_json)
    secs, real_speech = score(write_audio(options.out / "audio", corpus, reconstructed))
    for arm in arms:
        arm.secs = secs[arm.name]
    results = _results(options, corpus, arms, real_speech)
    report.write(options.out, results)
    if as_json:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")
    else:
        report.show(console, results, options.out)
    if results["encoder_moved"]:
        sys.exit(1)
