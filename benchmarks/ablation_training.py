"""The runs of the ablation: one start, then the same steps for every arm, through Coqui's trainer."""

import itertools
import json
import logging
import math
import random
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import soundfile
import torch
from torch import Tensor
from trainer import Trainer, TrainerArgs
from trainer.io import save_model

from benchmarks.processes import in_processes
from coqui_scl_plugin import SclVits, SclVitsConfig, build_encoder
from coqui_scl_plugin.config import EncoderConfig, LossConfig, SclConfig
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.vits_batch import generate_pair
from coqui_scl_plugin.demo.arms import training_list
from coqui_scl_plugin.demo.corpus_files import Corpus, Sample, load_beginning
from coqui_scl_plugin.demo.loss_recorder import LossRecorder
from coqui_scl_plugin.demo.small_vits import SmallVits, small_config
from coqui_scl_plugin.encoders.audio import ResampledAudio, resample
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.recordings import recordings_of
from coqui_scl_plugin.utils.atomic import replacing
from coqui_scl_plugin.utils.fingerprint import fingerprint, named_tensors, same_bits

ENCODERS = ("ge2e", "dvector")
LOSSES = ("cosine", "angular_margin", "contrastive")
BATCH_SIZE = 4
COSINE_WEIGHT = 9.0  # YourTTS's alpha
_START_RATES = {"early": 5e-4, "late": 2e-4}
_RATE = 2e-4  # Coqui's default
_LONGEST = {"start": 8.0, "arm": 6.0}  # seconds
_FEWEST = 3
_BLOCK = 500  # steps
_KEPT = ("loss_mel", "loss_spk_encoder", *(f"reference_cosine_{encoder}" for encoder in ENCODERS))


@dataclass(frozen=True)
class Arm:
    """What distinguishes a run from the others of its seed."""

    kind: str
    """`none`, `stock`, `ensemble` or a loss."""
    encoders: tuple[str, ...]
    """That it trains against."""

    @property
    def name(self) -> str:
        """Unique among the arms."""
        return "-".join([self.kind, *self.encoders]) if self.kind in ("stock", *LOSSES) else self.kind


ARMS = (
    Arm("none", ()),
    *(Arm("stock", (encoder,)) for encoder in ENCODERS),
    *(Arm(loss, (encoder,)) for loss in LOSSES for encoder in ENCODERS),
    Arm("ensemble", ENCODERS),
)


def section(arm: Arm, weight: float, cache: Path) -> SclConfig:
    """Return the `scl` section of an arm; keys that it does not set have their defaults."""
    if arm.kind == "none":
        return SclConfig(enabled=False, weight=0.0)
    scl = SclConfig(weight=weight, encoders=[EncoderConfig(name=encoder) for encoder in arm.encoders])
    scl.reference.cache = str(cache.resolve())
    if arm.kind == "stock":  # coqui-tts 0.28: the encoder is in the generator's optimizer, and gets bare slices
        scl.encoders[0].policy = "trainable"
        scl.reference.source = "segment"
    else:
        scl.loss = LossConfig(name=arm.kind)
        scl.segment.min_seconds = 1.0  # the default when docs/ablation.md was measured
    return scl


def _config(corpus: Corpus, scl: SclConfig, *, steps: int, seed: int, rate: float, runs: Path) -> SclVitsConfig:
    config = small_config(corpus, steps=steps, batch_size=BATCH_SIZE, seed=seed, runs=runs)
    config.lr_gen = config.lr_disc = rate
    config.plot_step = config.print_step = 10
    config.scl = scl
    return config


def model_config(corpus: Corpus, folder: Path) -> SclVitsConfig:
    """Return a config with the architecture of all runs, to load a model with."""
    return _config(corpus, section(ARMS[0], 0.0, folder), steps=1, seed=0, rate=_RATE, runs=folder)


@dataclass
class _Trained:
    model: SclVits
    history: dict[str, list[float]]
    seconds_per_step: float


def training_samples(corpus: Corpus, longest: float) -> list[Sample]:
    """Those of at most `longest` seconds, of which a batch costs less; of each speaker at least three."""
    kept, by_length = [], sorted((soundfile.info(s["audio_file"]).duration, s["audio_file"], s) for s in corpus.train)
    for speaker in corpus.speakers:
        own = [(seconds, sample) for seconds, _, sample in by_length if sample["speaker_name"] == speaker]
        kept += [sample for rank, (seconds, sample) in enumerate(own) if seconds <= longest or rank < _FEWEST]
    return kept


def _train(config: SclVitsConfig, samples: list[Sample], steps: int, seed: int, start: Path | None) -> _Trained:
    torch.manual_seed(seed)
    model, recorder, ticks = SmallVits(config), LossRecorder(_KEPT), []
    trainer = Trainer(
        TrainerArgs(restore_path=str(start) if start else ""), config, config.output_path, model=model,
        train_samples=training_list(samples, steps * BATCH_SIZE, seed), eval_samples=[],
        c_logger=recorder, parse_command_line_args=False,
        callbacks={"on_train_step_end": lambda _: ticks.append(time.perf_counter())},
    )  # fmt: skip
    trainer.fit()
    return _Trained(model, recorder.history, statistics.median(b - a for a, b in itertools.pairwise(ticks)))


# --- the start --------------------------------------------------------------------------------------------------------


def train_start(corpus: Corpus, folder: Path, steps: int) -> Path:
    """Train from random weights without any speaker consistency loss, and keep the weights alone.

    A block that was interrupted begins again; those before it are kept.
    """
    start = folder / "start.pth"
    if start.is_file():
        return start
    before, blocks = None, max(1, steps // _BLOCK)
    for index in range(blocks):
        checkpoint = folder / f"start_{(index + 1) * _BLOCK}.pth"
        if not checkpoint.is_file():
            rate = _START_RATES["early" if index < blocks * 3 // 4 else "late"]
            scl = SclConfig(enabled=False, weight=0.0)
            config = _config(corpus, scl, steps=_BLOCK, seed=index, rate=rate, runs=folder / "runs")
            config.run_name = f"start-{index}"
            trained = _train(config, training_samples(corpus, _LONGEST["start"]), _BLOCK, index, before)
            with replacing(checkpoint) as temporary:
                save_model(config, trained.model, str(temporary), current_step=0, epoch=0)
            mel = statistics.mean(trained.history["loss_mel"][-5:])
            print(f"{checkpoint.name}: mel loss {mel:.2f}, {trained.seconds_per_step:.2f} s a step", flush=True)  # noqa: T201  # progress
        before = checkpoint
    with replacing(start) as temporary:
        shutil.copy(checkpoint, temporary)
    return start


# --- how strongly each loss is weighted -------------------------------------------------------------------------------


def _spread_batches(model: SclVits, samples: list[Sample]) -> list[dict[str, Any]]:
    """Eight batches from all over the training set, as `train_step` gets them."""
    spread = random.Random(0).sample(samples, 8 * BATCH_SIZE)
    loader = model.get_data_loader(model.config, is_eval=True, samples=[dict(s) for s in spread], verbose=False)
    items = [loader.dataset[index] for index in range(len(spread))]
    return [
        model.format_batch_on_device(model.format_batch(loader.dataset.collate_fn(items[at : at + BATCH_SIZE])))
        for at in range(0, len(items), BATCH_SIZE)
    ]


def _gradient_norm(arm: Arm, corpus: Corpus, start: Path, cache: Path) -> float:
    """Mean norm of the gradient that the unweighted loss sends to the waveform that the start generates."""
    samples = training_samples(corpus, _LONGEST["arm"])
    model = SmallVits(_config(corpus, section(arm, 1.0, cache), steps=1, seed=0, rate=_RATE, runs=cache.parent))
    model.load_state_dict(torch.load(start, map_location="cpu", weights_only=True)["model"])
    model.parts.build_consistency()
    consistency = cast(SpeakerConsistency, model.train().speaker_encoder_loss)
    consistency.embed_references(recordings_of(samples), ReferenceCache.load(cache))
    norms = []
    for index, batch in enumerate(_spread_batches(model, samples)):
        torch.manual_seed(index)
        generated, real = generate_pair(model, batch, model.config.scl)
        waveform = generated.detach().requires_grad_()
        term = consistency(ResampledAudio(waveform, model.config.audio.sample_rate), real)
        norms.append(float(torch.autograd.grad(term.loss, waveform)[0].norm()))
    return statistics.mean(norms)


def measure_weights(corpus: Corpus, start: Path, folder: Path) -> dict[str, float]:
    """By arm, the weight with which its loss sends as strong a gradient to the start's speech as cosine with 9.

    One weight for all would compare gradients of different strength rather than losses.
    """
    file, cache = folder / "weights.json", folder / "references.safetensors"
    if file.is_file():
        found: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
        return found
    weights = {arm.name: COSINE_WEIGHT * bool(arm.encoders) for arm in ARMS}
    measured = {arm: _gradient_norm(arm, corpus, start, cache) for arm in ARMS if arm.kind not in ("none", "stock")}
    of_cosine = {arm.encoders[0]: norm for arm, norm in measured.items() if arm.kind == "cosine"}
    for arm, norm in measured.items():
        weights[arm.name] *= statistics.mean(of_cosine[encoder] for encoder in arm.encoders) / norm
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(weights, indent=2), encoding="utf-8")
    return weights


# --- one run ----------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def _embed_all(encoder: SegmentEncoder, waveforms: Sequence[Tensor], sample_rate: int) -> Tensor:
    """Embed each waveform, of any length: `[N, D]`."""
    return torch.cat([encoder(resample(waveform[None], sample_rate, encoder.sample_rate)) for waveform in waveforms])


def _drift(name: str, encoder: SegmentEncoder, corpus: Corpus) -> dict[str, Any]:
    """How far an encoder moved from what it was when it was loaded."""
    fresh = SegmentEncoder(build_encoder(name), encoder.min_samples / encoder.sample_rate)
    for module in (fresh, encoder):
        FrozenPolicy().apply(module)
    before, after = named_tensors(fresh.encoder), named_tensors(encoder.encoder)
    distance = math.sqrt(sum(float((after[key] - value).double().square().sum()) for key, value in before.items()))
    size = math.sqrt(sum(float(value.double().square().sum()) for value in before.values()))
    speech = [load_beginning(sample) for sample in corpus.held_out]
    embedded = [_embed_all(module, speech, corpus.rate) for module in (fresh, encoder)]
    return {
        "tensors": len(before),
        "moved": sum(not same_bits(value, after[key]) for key, value in before.items()),
        "relative_l2": distance / size,
        "cosine_of_embeddings": float((embedded[0] * embedded[1]).sum(dim=-1).mean()),
    }


def train_run(arm: Arm, seed: int, steps: int, corpus: Corpus, folder: Path, weight: float) -> None:
    """One run of an arm: its weights as `model.pth`, and `run.json`, which says that the run is whole."""
    torch.set_num_threads(1)
    for name in ("trainer", "TTS"):
        logging.getLogger(name).setLevel(logging.WARNING)
    own = folder / "runs" / f"{arm.name}-{seed}"
    config = _config(
        corpus, section(arm, weight, folder / "references.safetensors"), steps=steps, seed=seed, rate=_RATE, runs=own
    )
    config.run_name = arm.name
    trained = _train(config, training_samples(corpus, _LONGEST["arm"]), steps, seed, folder / "start.pth")
    consistency = trained.model.speaker_encoder_loss
    encoders = consistency.encoders.segment_encoders if consistency is not None else {}
    with replacing(own / "model.pth") as temporary:
        save_model(config, trained.model, str(temporary), current_step=steps, epoch=0)
    run = {
        **asdict(arm), "arm": arm.name, "seed": seed, "steps": steps, "weight": weight,
        "seconds_per_step": trained.seconds_per_step, "model": fingerprint(trained.model),
        "drift": {name: _drift(name, encoder, corpus) for name, encoder in encoders.items()},
        "history": {key: [round(value, 5) for value in values] for key, values in trained.history.items()},
    }  # fmt: skip
    with replacing(own / "run.json") as temporary:
        temporary.write_text(json.dumps(run, indent=1), encoding="utf-8")


def missing_runs(folder: Path, seeds: int) -> list[tuple[Arm, int]]:
    """Those not done yet, a seed after the other, so that what is there can be compared at any time."""
    return [
        (arm, seed)
        for seed in range(seeds)
        for arm in ARMS
        if not (folder / "runs" / f"{arm.name}-{seed}" / "run.json").is_file()
    ]


def train_all(corpus: Corpus, folder: Path, *, steps: int, seeds: int, jobs: int) -> None:
    """Every run that is missing, `jobs` at a time, under a progress bar."""
    weights = measure_weights(corpus, folder / "start.pth", folder)
    missing = missing_runs(folder, seeds)
    runs = [(arm, seed, steps, corpus, folder, weights[arm.name]) for arm, seed in missing]
    in_processes(train_run, runs, jobs, "training")
