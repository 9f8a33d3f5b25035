"""Scores of the ablation's runs: what all judges find in the speech that each model makes, in its `judged.json`.

A run costs about 80 CPU seconds: see `judge_model`.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.ablation.bench import Bench, BySpeaker, mean_by_speaker
from benchmarks.ablation.real import RealSpeech, real_recordings
from benchmarks.ablation.synthesis import Made, load_model, make_speech
from benchmarks.ablation.voice_measures import voice_of
from benchmarks.processes import in_processes
from coqui_scl_plugin.demo.corpus_files import Corpus
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SyntheticRecording
from coqui_scl_plugin.evaluation.verification import EmbeddedRecording, verify
from coqui_scl_plugin.utils.atomic import replacing

FORMAT = 2
"""Of `judged.json`; files of another format are written anew."""
_WITH_QUALITY = ("reconstruction", "text")
_LAST = 3  # logged values of the reference cosine that count as its end


def real_file(folder: Path) -> Path:
    """Return the file in an ablation's folder that keeps what real speech measured."""
    return folder / "real.json"


# --- one way ----------------------------------------------------------------------------------------------------------


def _measure(values: BySpeaker) -> dict[str, Any]:
    known = [value for value in values.values() if value is not None]
    return {"mean": statistics.mean(known) if known else None, "speakers": values}


def _voice_measures(real: RealSpeech, synthetic: Sequence[SyntheticRecording]) -> dict[str, BySpeaker]:
    waveforms: dict[str, list[Any]] = {}
    rate = 0
    for one in synthetic:
        waveform, rate = one.load()
        waveforms.setdefault(one.speaker, []).append(waveform.numpy())
    return real.voice_measures([(speaker, voice_of(own, rate)) for speaker, own in waveforms.items()])


def _judge_way(way: str, made: Made, bench: Bench, real: RealSpeech, corpus: Corpus) -> dict[str, Any]:
    synthetic, recordings = made.recordings[way], real_recordings(corpus)
    memory: dict[Path, EmbeddedRecording] = {one.path: real.embedded[one.name] for one in recordings}
    verification = verify(
        EvaluationSet(way, {}, list(recordings), synthetic), bench.encoders, resamples=99, memory=memory
    )
    measures = _voice_measures(real, synthetic)
    if way == "reconstruction":
        measures["mel_loss"] = mean_by_speaker((who, loss) for who, own in made.mel_losses.items() for loss in own)
    if way in _WITH_QUALITY:
        measures["dnsmos"] = bench.quality_of(synthetic)
    if way == "text" and bench.recogniser is not None:
        measures["cer"] = bench.errors_of(synthetic)
    return {
        "encoders": {
            alias: {key: value for key, value in asdict(scores).items() if key != "matrix"}
            for alias, scores in verification.scores.items()
        },
        "measures": {measure: _measure(values) for measure, values in measures.items()},
    }


# --- a run ------------------------------------------------------------------------------------------------------------


def _training(out: Path) -> dict[str, Any] | None:
    """Return what the page shows of a run's training, from its `run.json`; None for the start."""
    if not (file := out / "run.json").is_file():
        return None
    run = json.loads(file.read_text(encoding="utf-8"))
    history = run["history"]
    weights, shares = history.get("scl_weight"), history.get("scl_gradient_share")
    cosine = "reference_cosine_"
    return {
        **{key: run[key] for key in ("arm", "seed", "steps", "model")},
        "drift": run.get("drift", {}),
        "weight": statistics.mean(weights) if weights else run["weight"],
        "gradient_share": statistics.mean(shares) if shares else None,
        "reported_cosines": {
            key.removeprefix(cosine): statistics.mean(values[-_LAST:])
            for key, values in history.items()
            if key.startswith(cosine)
        },
    }


@torch.inference_mode()
def judge_model(out: Path, corpus: Corpus, real: Path, asr: str | None) -> None:
    """Score one model by all judges, and write `judged.json` to `out`.

    CPU seconds by part: making the speech of three ways 13, three speaker encoders 33, fundamental frequency and
    spectrum 18, and DNSMOS of one recording of each speaker in two ways 12. A recogniser comes on top.

    Args:
        out: Folder of the run: its `model.pth` and `config.json`.
        corpus: The data that all models trained on.
        real: File of `RealSpeech.kept`.
        asr: The recogniser, if character errors are wanted.

    Raises:
        ConfigError: a judge cannot be loaded.
    """
    torch.set_num_threads(1)
    training = _training(out)
    bench = Bench.of_this_process(asr)
    real_speech = RealSpeech.kept(corpus, asr, real)
    made = make_speech(load_model(out), corpus, out / "audio")
    ends = real_speech.ends()
    found = {
        "format": FORMAT, "asr": asr, "training": training,
        "real": {end: {measure: _measure(values) for measure, values in own.items()} for end, own in ends.items()},
        "ways": {way: _judge_way(way, made, bench, real_speech, corpus) for way in made.recordings},
    }  # fmt: skip
    with replacing(out / "judged.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1), encoding="utf-8")


def is_judged(out: Path, asr: str | None) -> bool:
    """Tell whether a run has all scores, of the model that is there now, and by the recogniser if one is given."""
    if not (file := out / "judged.json").is_file():
        return False
    judged = json.loads(file.read_text(encoding="utf-8"))
    if judged.get("format") != FORMAT or asr not in (None, judged["asr"]):
        return False
    training = _training(out)
    return training is None or judged["training"]["model"] == training["model"]


def judge_all(corpus: Corpus, folder: Path, jobs: int, asr: str | None = None) -> None:
    """Score the start and every run without scores, `jobs` at a time; shows a progress bar. Raises ConfigError."""
    wanted = [folder / "start", *(file.parent for file in sorted(folder.glob("runs/*/run.json")))]
    missing = [out for out in wanted if not is_judged(out, asr)]
    if missing:
        real = real_file(folder)
        RealSpeech.kept(corpus, asr, real)  # once, before several processes would
        in_processes(judge_model, [(out, corpus, real, asr) for out in missing], jobs, "judging")
