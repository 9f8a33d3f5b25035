"""The runs of the ablation: one start, then the same steps for every arm, through Coqui's trainer."""

import itertools
import json
import logging
import math
import random
import shutil
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import soundfile
import torch
from torch import Tensor
from trainer import Trainer, TrainerArgs
from trainer.io import save_model

from benchmarks.ablation.arms import BASE, Arm, arm_named
from benchmarks.ablation.model import BATCH_SIZE, Ablated
from benchmarks.ablation.prior import PriorVits
from benchmarks.processes import in_processes
from coqui_scl_plugin import SclVits, SclVitsConfig, build_encoder
from coqui_scl_plugin.config import ModuleRuleConfig, SclConfig
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.vits_batch import generate_pair
from coqui_scl_plugin.demo.arms import training_list
from coqui_scl_plugin.demo.corpus_files import Corpus, Sample, load_beginning
from coqui_scl_plugin.demo.loss_recorder import LossRecorder
from coqui_scl_plugin.demo.small_vits import SmallVits
from coqui_scl_plugin.encoders.audio import ResampledAudio, resample
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.recordings import recordings_of
from coqui_scl_plugin.utils.atomic import replacing
from coqui_scl_plugin.utils.fingerprint import fingerprint, named_tensors, same_bits

YOURTTS_WEIGHT = 9.0
_LONGEST = 6.0  # seconds, of the runs
_FEWEST = 3
_KEPT = (
    "loss_mel", "loss_spk_encoder", "scl_weight", "scl_gradient_share",
    *(f"reference_cosine_{encoder}" for encoder in ("ge2e", "campplus")),
)  # fmt: skip


def section(arm: Arm, weight: float, cache: Path, frozen: Sequence[str] = ()) -> SclConfig:
    """Return the `scl` section of an arm; keys that it does not set have their defaults."""
    config = SclVitsConfig()
    given = dict(arm.section) if "gradient_share" in arm.section else {**arm.section, "weight": weight}
    config.from_dict({"model": config.model, "scl": given})
    if config.scl.enabled:
        config.scl.reference.cache = str(cache.resolve())
    config.scl.freeze.modules = [ModuleRuleConfig(pattern=pattern) for pattern in frozen]
    return config.scl


@dataclass
class _Trained:
    model: SclVits
    history: dict[str, list[float]]
    seconds_per_step: float


def training_samples(corpus: Corpus, longest: float = _LONGEST) -> list[Sample]:
    """Return those of at most `longest` seconds, of which a batch costs less; of each speaker at least three."""
    kept, by_length = [], sorted((soundfile.info(s["audio_file"]).duration, s["audio_file"], s) for s in corpus.train)
    for speaker in corpus.speakers:
        own = [(seconds, sample) for seconds, _, sample in by_length if sample["speaker_name"] == speaker]
        kept += [sample for rank, (seconds, sample) in enumerate(own) if seconds <= longest or rank < _FEWEST]
    return kept


def _train(
    config: SclVitsConfig, samples: list[Sample], steps: int, start: Path | None, *, prior: bool = False
) -> _Trained:
    torch.manual_seed(config.training_seed)
    model = PriorVits(config) if prior else SmallVits(config)
    recorder, ticks = LossRecorder(_KEPT), []
    trainer = Trainer(
        TrainerArgs(restore_path=str(start) if start else ""), config, config.output_path, model=model,
        train_samples=training_list(samples, steps * BATCH_SIZE, config.training_seed), eval_samples=[],
        c_logger=recorder, parse_command_line_args=False,
        callbacks={"on_train_step_end": lambda _: ticks.append(time.perf_counter())},
    )  # fmt: skip
    trainer.fit()
    return _Trained(model, recorder.history, statistics.median(b - a for a, b in itertools.pairwise(ticks)))


# --- the start --------------------------------------------------------------------------------------------------------


def train_start(model: Ablated, folder: Path, steps: int) -> Path:
    """Train without any speaker consistency loss, and keep the weights alone.

    A block that was interrupted begins again; those before it are kept.
    """
    start = folder / "start" / "model.pth"
    if start.is_file():
        return start
    start.parent.mkdir(parents=True, exist_ok=True)
    corpus, before = model.corpus(folder), None
    for index in range(max(1, steps // model.block)):
        done = index * model.block
        checkpoint = folder / f"start_{done + model.block}.pth"
        scl, rate = _control(model, folder), model.start_rate(done)
        config = model.config(corpus, scl, steps=model.block, seed=index, rate=rate, runs=folder / "runs")
        config.run_name = f"start-{index}"
        if index == 0:
            before = _initial(model, config, corpus, folder)
        if not checkpoint.is_file():
            trained = _train(config, training_samples(corpus, model.longest), model.block, before)
            with replacing(checkpoint) as temporary:
                save_model(config, trained.model, str(temporary), current_step=0, epoch=0)
            mel = statistics.mean(trained.history["loss_mel"][-5:])
            print(f"{checkpoint.name}: mel loss {mel:.2f}, {trained.seconds_per_step:.2f} s a step", flush=True)  # noqa: T201  # progress
        before = checkpoint
    _save_config(config, start.parent)
    with replacing(start) as temporary:
        shutil.copy(checkpoint, temporary)
    return start


def _control(model: Ablated, folder: Path) -> SclConfig:
    return section(arm_named("none"), 0.0, folder, model.frozen)


def _initial(model: Ablated, config: SclVitsConfig, corpus: Corpus, folder: Path) -> Path | None:
    """Write the weights with which the start begins, if they are not there yet; None for random ones."""
    file = folder / "start_0.pth"
    if not file.is_file():
        torch.manual_seed(0)
        if (weights := model.initial(config, corpus)) is None:
            return None
        with replacing(file) as temporary:
            torch.save({"model": weights, "step": 0, "epoch": 0}, temporary)
    return file


def _save_config(config: SclVitsConfig, folder: Path) -> None:
    with replacing(folder / "config.json") as temporary:
        config.save_json(str(temporary))


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


def _gradient_norm(arm: Arm, ablated: Ablated, folder: Path) -> float:
    """Return the norm, a median of batches, of the unweighted loss's gradient at the weights of the generator."""
    corpus, cache = ablated.corpus(folder), folder / "references.safetensors"
    samples, scl = training_samples(corpus), section(arm, 1.0, cache, ablated.frozen)
    config = ablated.config(corpus, scl, steps=1, seed=0, rate=ablated.rate, runs=folder)
    model = SmallVits(config)
    model.load_state_dict(torch.load(folder / "start" / "model.pth", map_location="cpu", weights_only=True)["model"])
    model.parts.build_consistency()
    consistency = cast(SpeakerConsistency, model.train().speaker_encoder_loss)
    consistency.embed_references(recordings_of(samples), ReferenceCache.load(cache))
    generator = [*model.posterior_encoder.parameters(), *model.waveform_decoder.parameters(), *model.emb_g.parameters()]
    norms = []
    for index, batch in enumerate(_spread_batches(model, samples)):
        torch.manual_seed(index)
        generated, real = generate_pair(model, batch, model.config.scl, index)
        term = consistency(ResampledAudio(generated, model.config.audio.sample_rate), real, index)
        gradients = torch.autograd.grad(term.loss, generator, allow_unused=True)
        norms.append(math.sqrt(sum(float(g.double().square().sum()) for g in gradients if g is not None)))
    return statistics.median(norms)  # a batch of silences would drive a mean


def _weight_of(arm: Arm, model: Ablated, folder: Path) -> float:
    """Return the weight of an arm; its norm is measured once, and kept in `norms/`.

    One weight for all would compare gradients of different strength rather than losses.
    """
    if arm.strength is None:
        return float(arm.section.get("weight", 0.0))
    if arm.section == arm_named(BASE).section:
        return arm.strength * YOURTTS_WEIGHT
    norms = [_kept_norm(one, model, folder) for one in (arm_named(BASE), arm)]
    return arm.strength * YOURTTS_WEIGHT * norms[0] / norms[1]


def _kept_norm(arm: Arm, model: Ablated, folder: Path) -> float:
    file = folder / "norms" / f"{arm.name}.json"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        norm = _gradient_norm(arm, model, folder)
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(norm), encoding="utf-8")
    return float(json.loads(file.read_text(encoding="utf-8")))


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


def train_run(arm: Arm, seed: int, steps: int, model: Ablated, folder: Path) -> None:
    """One run of an arm: `model.pth`, `config.json`, and `run.json`, which says that the run is whole."""
    torch.set_num_threads(1)
    for name in ("trainer", "TTS"):
        logging.getLogger(name).setLevel(logging.WARNING)
    own, corpus = folder / "runs" / f"{arm.name}-{seed}", model.corpus(folder)
    weight = _weight_of(arm, model, folder)
    scl = section(arm, weight, folder / "references.safetensors", model.frozen)
    config = model.config(corpus, scl, steps=steps, seed=seed, rate=model.rate, runs=own)
    config.run_name = arm.name
    samples, start = training_samples(corpus), folder / "start" / "model.pth"
    trained = _train(config, samples, steps, start, prior=arm.prior)
    consistency = trained.model.speaker_encoder_loss
    encoders = consistency.encoders.segment_encoders if consistency is not None else {}
    with replacing(own / "model.pth") as temporary:
        save_model(config, trained.model, str(temporary), current_step=steps, epoch=0)
    _save_config(config, own)
    run = {
        "arm": arm.name, "section": arm.section, "encoders": arm.encoders, "seed": seed, "steps": steps,
        "weight": weight, "model": fingerprint(trained.model),
        "drift": {name: _drift(name, encoder, corpus) for name, encoder in encoders.items()},
        "history": {key: [round(value, 5) for value in values] for key, values in trained.history.items()},
    }  # fmt: skip
    with replacing(own / "run.json") as temporary:
        temporary.write_text(json.dumps(run, indent=1), encoding="utf-8")


def train_all(
    model: Ablated, folder: Path, arms: Sequence[Arm], *, steps: int, seeds: Iterable[int], jobs: int
) -> None:
    """Every run of the arms that is missing, `jobs` at a time, under a progress bar.

    A seed after the other, so that what is there can be compared at any time.
    """
    wanted = [(arm, seed) for seed in seeds for arm in arms]
    missing = [
        (arm, seed) for arm, seed in wanted if not (folder / "runs" / f"{arm.name}-{seed}" / "run.json").is_file()
    ]
    in_processes(train_run, [(arm, seed, steps, model, folder) for arm, seed in missing], jobs, "training")
