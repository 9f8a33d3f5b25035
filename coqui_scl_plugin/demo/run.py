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

from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.demo import report
from coqui_scl_plugin.demo.arms import ARMS, Arm, train_arm
from coqui_scl_plugin.demo.corpus_files import BUNDLED, Corpus
from coqui_scl_plugin.demo.options import DemoOptions
from coqui_scl_plugin.demo.scores import score, write_audio
from coqui_scl_plugin.demo.small_vits import demo_section
from coqui_scl_plugin.demo.speech import Speech, speech_of
from coqui_scl_plugin.demo.start import Start
from coqui_scl_plugin.encoders.loading.packaged import get_command
from coqui_scl_plugin.utils.log_level import log_level


def _train_both(
    options: DemoOptions, corpus: Corpus, start: Start, section: SclConfig, console: Console, *, as_json: bool
) -> tuple[list[Arm], dict[str, Speech]]:
    """Train both arms; return their records, and their speech by arm."""
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    arms, speech = [], {}
    with (
        contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(),
        log_level(logging.WARNING, "trainer", "TTS"),
        Progress(*columns, console=console) as progress,
    ):
        for name in ARMS:
            arm, model = train_arm(name, options, corpus, start, section, progress)
            speech[name] = speech_of(model, corpus, options.seed)
            arms.append(arm)
    return arms, speech


def _results(
    options: DemoOptions,
    corpus: Corpus,
    section: SclConfig,
    arms: Sequence[Arm],
    real_speech: dict[str, dict[str, float]],
) -> dict[str, Any]:
    names = ("coqui-scl-plugin", "coqui-tts", "coqui-tts-trainer", "torch", "torchaudio")
    return {
        "options": {**asdict(options), "data": str(options.data or "bundled"), "out": str(options.out)},
        "versions": {name: importlib.metadata.version(name) for name in names},
        "speakers": len(corpus.speakers),
        "recordings": {"train": len(corpus.train), "held_out": len(corpus.held_out)},
        "held_out": [sample["audio_unique_name"] for sample in corpus.held_out],
        "encoders": {
            "training": [spec.label for spec in section.encoders],
            "holdout": [spec.label for spec in section.holdout],
        },
        "every_n_steps": section.window.every_n_steps,
        "real_speech": real_speech,
        "arms": {arm.name: asdict(arm) for arm in arms},
        "encoder_moved": any(arm.encoders_before != arm.encoders_after for arm in arms),
    }


def _announce(options: DemoOptions, corpus: Corpus, start: Start, section: SclConfig, console: Console) -> None:
    console.print(
        f"{len(corpus.speakers)} speakers, {len(corpus.train)} recordings to train on, {len(corpus.held_out)} held "
        f"out, {options.steps} steps of {options.batch_size} segments for each of two runs.",
        highlight=False,
    )
    if len(section.encoders) == 1:
        console.print(
            f"The loss trains against {section.encoders[0].label} alone: the weights of campplus are missing. To fetch "
            f"them: {get_command(['campplus'])}",
            highlight=False,
        )
    if misfits := start.misfits(corpus):
        console.print(misfits, highlight=False, markup=False)


def run_demo(options: DemoOptions, *, as_json: bool) -> None:
    """Run the demo: print a table, and write `results.json`, `demo.png`, `audio/` and `runs/` to `options.out`.

    Raises:
        ConfigError: the data cannot be used.
        EncoderError: the weights of an encoder are missing.
        PreflightError: no gradient arrived.
        SystemExit: with 1, an encoder moved.
    """
    console = Console(stderr=as_json)
    corpus, start = Corpus.load((options.data or BUNDLED).resolve()), Start.load()
    section = demo_section(corpus)
    _announce(options, corpus, start, section, console)
    arms, speech = _train_both(options, corpus, start, section, console, as_json=as_json)
    secs, real_speech = score(write_audio(options.out / "audio", corpus, speech), section)
    for arm in arms:
        arm.secs = secs[arm.name]
    results = _results(options, corpus, section, arms, real_speech)
    report.write(options.out, results)
    if as_json:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")
    else:
        report.show(console, results, options.out)
    if results["encoder_moved"]:
        sys.exit(1)
