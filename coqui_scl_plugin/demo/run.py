"""Train twice from one start, without and with the loss, judge both, and write what came out."""

import contextlib
import importlib.metadata
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import soundfile
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import Tensor

from coqui_scl_plugin.api import build_encoder
from coqui_scl_plugin.demo import judge, report
from coqui_scl_plugin.demo.arms import ARMS, TRAINING_ENCODER, Arm, DemoOptions, train_arm
from coqui_scl_plugin.demo.corpus_files import BUNDLED, Corpus
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.losses.calibration import measure_calibration
from coqui_scl_plugin.utils.log_level import log_level

HELD_OUT_ENCODER = "dvector"
_AUDIO_EXAMPLES = 2

Reconstructed = Mapping[str, Sequence[Tensor]]
"""By arm, one waveform for each held-out recording."""


def _train_both(
    options: DemoOptions, corpus: Corpus, console: Console, *, as_json: bool
) -> tuple[list[Arm], Reconstructed]:
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    arms, reconstructed = [], {}
    with (
        contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(),
        log_level(logging.WARNING, "trainer", "TTS"),
        Progress(*columns, console=console) as progress,
    ):
        for name in ARMS:
            arm, model = train_arm(name, options, corpus, progress)
            reconstructed[name] = [
                judge.reconstruct(model, judge.load_waveform(sample), sample["speaker_name"]).clone()
                for sample in corpus.held_out
            ]
            arms.append(arm)
    return arms, reconstructed


def _judge(arms: Sequence[Arm], reconstructed: Reconstructed, corpus: Corpus) -> dict[str, dict[str, float]]:
    """Fill in the SECS of each arm; by encoder, the levels of real speech.

    The encoders are loaded anew: nothing of the training can have touched them.
    """
    real = [judge.load_waveform(sample) for sample in corpus.held_out]
    levels = {}
    for name in (TRAINING_ENCODER, HELD_OUT_ENCODER):
        encoder = SegmentEncoder(build_encoder(name))
        FrozenPolicy().apply(encoder)
        embedded = judge.embed_all(encoder, real, corpus.rate)
        measured = measure_calibration(embedded, [sample["speaker_name"] for sample in corpus.held_out])
        levels[name] = measured._asdict() if measured else {}
        for arm in arms:
            generated = judge.embed_all(encoder, reconstructed[arm.name], corpus.rate)
            arm.secs[name] = (generated * embedded).sum(dim=-1).tolist()
    return levels


def _write_audio(folder: Path, reconstructed: Reconstructed, corpus: Corpus) -> None:
    """A held-out recording of each of the first speakers, and what the arms made of it."""
    folder.mkdir(parents=True, exist_ok=True)
    firsts = {sample["speaker_name"]: index for index, sample in reversed(list(enumerate(corpus.held_out)))}
    for speaker in corpus.speakers[:_AUDIO_EXAMPLES]:
        sample = corpus.held_out[firsts[speaker]]
        waveforms = {"real": judge.load_waveform(sample)}
        waveforms |= {name: waveform[firsts[speaker]] for name, waveform in reconstructed.items()}
        for kind, waveform in waveforms.items():
            file = folder / f"{Path(sample['audio_file']).stem}_{kind}.wav"
            soundfile.write(file, waveform.clamp(-1, 1).numpy(), corpus.rate)


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
    """Do the whole job: prints a table, writes `results.json`, `demo.png`, `audio/` and the runs below `options.out`.

    Raises:
        ConfigError: the data cannot be used.
        EncoderError: the weights of an encoder are not installed.
        PreflightError: no gradient came through.
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
    results = _results(options, corpus, arms, _judge(arms, reconstructed, corpus))
    _write_audio(options.out / "audio", reconstructed, corpus)
    report.write(options.out, results)
    if as_json:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")
    else:
        report.show(console, results, options.out)
    if results["encoder_moved"]:
        sys.exit(1)
