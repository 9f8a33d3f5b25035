"""The facts that preflight checks, and the freeze report, collected from a model and its data.

Both a run through Coqui's trainer (`run_start.py`) and `coqui-scl preflight` (`dry_run.py`) use it.
"""

import contextlib
import copy
import dataclasses
import functools
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from TTS.encoder.models.lstm import LSTMSpeakerEncoder
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.consistency.gradient_probe import GradientProbe, probe_gradients
from coqui_scl_plugin.consistency.reach import ModuleReach, gradient_norms, joint_gradient
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.mixed_precision import first_loss_scale, training_autocast
from coqui_scl_plugin.coqui.parts import VitsParts
from coqui_scl_plugin.coqui.row_names import rows_of_model
from coqui_scl_plugin.coqui.samples import Sample, Samples, data_loader, dataset_that_fits, small_batch
from coqui_scl_plugin.coqui.texts import read_texts, spoken_of
from coqui_scl_plugin.coqui.vits_batch import generate_pair, segment_seconds
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.coqui.vits_modules import is_used_in_speech, makes_training_waveform
from coqui_scl_plugin.encoders.audio import ResampledAudio, tile
from coqui_scl_plugin.freeze.report import FreezeReport, encoder_row, module_rows
from coqui_scl_plugin.preflight.facts import ConfigFacts, RunFacts, TrainerFacts
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.recordings import recordings_of
from coqui_scl_plugin.references.sources import ReferenceBatch

_OPTIMIZER_NAMES = ("discriminator", "generator")
_DISCRIMINATOR = "disc"
_MAX_SPEAKERS, _MAX_RECORDINGS_EACH = 8, 2
"""Recordings that represent the data set, so that the checks need not embed all of it."""


def fields_of(facts: ConfigFacts) -> dict[str, Any]:
    """Return the fields of facts by name, to which those of a later stage are added."""
    return {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}


@dataclass(frozen=True)
class DataAccess:
    """The ways to a small part of the data, which a run and `coqui-scl preflight` take differently."""

    small_batch: Callable[[], dict[str, Any]]
    """Makes a small real batch, as `train_step` would receive it."""
    prepare_references: Callable[[SpeakerConsistency], None]
    """Embeds the real speech that the checks need."""


def few_samples_alone(model: Vits, samples: Sequence[Sample]) -> DataAccess:
    """Return access to a few samples that stand for all of them, chosen when they are first needed."""

    @functools.cache
    def few() -> Samples:
        return _few_samples(dataset_that_fits(model, model.config, samples).samples)

    def prepare_references(consistency: SpeakerConsistency) -> None:
        if consistency.uses_recordings:
            consistency.embed_references(recordings_of(few()), ReferenceCache())

    return DataAccess(lambda: small_batch(model, model.config, few()), prepare_references)


def _few_samples(samples: Samples) -> Samples:
    """Return a few samples of each of the speakers with the most samples."""
    by_speaker: dict[str, Samples] = {}
    for sample in samples:
        by_speaker.setdefault(sample["speaker_name"], []).append(sample)
    speakers = sorted(by_speaker.values(), key=len, reverse=True)[:_MAX_SPEAKERS]
    return [sample for own in speakers for sample in own[:_MAX_RECORDINGS_EACH]]


def collect_facts(parts: VitsParts, known: TrainerFacts, data: DataAccess) -> RunFacts:
    """Collect the facts of the model, beside those of the trainer; costly ones are measured when first asked for."""
    model, consistency = parts.model, parts.consistency
    manager, args = model.speaker_manager, model.args

    @functools.cache
    def generate() -> tuple[Tensor, ReferenceBatch]:
        with torch.enable_grad(), training_autocast(model.config, _device_of(model)):
            return _generate_briefly(model, data.small_batch(), parts.scl, known.step)

    @functools.cache
    def gradients() -> Mapping[str, Sequence[GradientProbe]]:
        if consistency is None or not generate()[0].requires_grad:
            return {}
        return probe_gradients(consistency, *generate(), known.step)

    @functools.cache
    def reach() -> Sequence[ModuleReach]:
        return _follow(parts, consistency, generate()[0], gradients(), known.step) if consistency is not None else ()

    def prepare() -> None:
        if consistency is not None:
            consistency.eval()  # trainable encoders, too, embed references in the mode in which they are compared
            data.prepare_references(consistency)
            model.train()

    return RunFacts(
        **fields_of(known) | {"consistency": consistency},
        frozen_encoders=parts.frozen_encoders(),
        model_sizes=_model_sizes(parts),
        rows=rows_of_model(model),
        speakers=manager.speaker_names if manager is not None and args.use_speaker_embedding else None,
        d_vectors=manager.embeddings if manager is not None and args.use_d_vector_file else None,
        segment_seconds=segment_seconds(model),
        stock_cuts_gradient=_has_lstm_of_coqui(consistency),
        unfreezes_at=parts.module_rules.unfreezes_after(known.step),
        train_mode=model.train,
        count_eval_batches=lambda: len(data_loader(model, known.config, known.eval_samples or ())),
        generate=generate,
        prepare_references=prepare,
        probe_gradients=gradients,
        read_texts=functools.cache(lambda: read_texts(model, known.config, known.all_samples)),
        spoken_of=lambda text, language: spoken_of(model, text, language),
        measure_reach=reach,
    )


def _generate_briefly(model: Vits, batch: dict[str, Any], scl: SclConfig, step: int) -> tuple[Tensor, ReferenceBatch]:
    """Do what `generate_pair` does, but decode a window no longer than Coqui's slice, and repeat it to its length.

    The generator is the same at each place, and a gradient through two seconds of a large one takes many. The encoders
    hear as much as in a training step.
    """
    brief, seconds = copy.copy(scl), segment_seconds(model)
    brief.window = copy.copy(scl.window)
    brief.window.seconds = min(scl.window.seconds, seconds)
    generated, real = generate_pair(model, batch, brief, step)
    if scl.window.seconds <= seconds:
        return generated, real
    rate = model.config.audio.sample_rate
    length = max(generated.shape[1], min(round(scl.window.seconds * rate), *(len(one) for one in real.utterances)))
    segments = ResampledAudio(tile(real.segments.at(rate), length), rate)
    return tile(generated, length), dataclasses.replace(real, segments=segments)


def _device_of(model: Vits) -> torch.device:
    return next(model.parameters()).device


def _follow(
    parts: VitsParts,
    consistency: SpeakerConsistency,
    waveform: Tensor,
    probes: Mapping[str, Sequence[GradientProbe]],
    step: int,
) -> list[ModuleReach]:
    """Follow the gradient of the loss from the generated waveform into each module of the generator."""
    gradient = joint_gradient(probes, consistency.loss.weights, waveform)
    if gradient is None:
        return []
    modules = {name: module for name, module in parts.own_modules().items() if name != _DISCRIMINATOR}
    parameters = [p for module in modules.values() for p in module.parameters()]
    norms = gradient_norms(parameters, waveform, gradient, first_loss_scale(parts.model.config, waveform.device))
    return [
        ModuleReach.of(
            name,
            module,
            norms,
            used_in_speech=is_used_in_speech(name),
            makes_waveform=makes_training_waveform(name),
            until_step=parts.module_rules.first_unfreeze(name, step),
        )
        for name, module in modules.items()
        if any(True for _ in module.parameters())
    ]


def _model_sizes(parts: VitsParts) -> dict[str, Sequence[int]]:
    state = parts.model.state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.startswith("speaker_encoder")}


def _has_lstm_of_coqui(consistency: SpeakerConsistency | None) -> bool:
    encoders = consistency.encoders.segment_encoders.values() if consistency is not None else ()
    return any(isinstance(getattr(encoder.encoder, "model", None), LSTMSpeakerEncoder) for encoder in encoders)


def name_optimizers(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, torch.optim.Optimizer]:
    """Return the trainer's optimizers by name."""
    names = [*_OPTIMIZER_NAMES, *(f"optimizer {index}" for index in range(len(_OPTIMIZER_NAMES), len(optimizers)))]
    return dict(zip(names, optimizers, strict=False))


@contextlib.contextmanager
def undisturbed(config: SclVitsConfig) -> Iterator[None]:
    """Preserve random states and Coqui's phoneme cache within the block, so that checks do not change a run.

    Coqui takes an existing phoneme cache to be complete; the checks would create one with a few entries.
    """
    python, numpy, own = random.getstate(), np.random.get_state(), config.phoneme_cache_path
    with tempfile.TemporaryDirectory() as folder:
        config.phoneme_cache_path = folder if own else own
        try:
            with torch.random.fork_rng():
                yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            config.phoneme_cache_path = own


def report_freezing(parts: VitsParts, optimizers: Sequence[torch.optim.Optimizer], step: int) -> FreezeReport:
    """Report what trains and what is frozen in a training step."""
    scl, consistency, named = parts.scl, parts.consistency, name_optimizers(optimizers)
    encoders = []
    if consistency is not None:
        bank = consistency.encoders
        encoders += [
            encoder_row(spec.label, bank.roles[spec.label], spec.policy, bank[spec.label], named)
            for spec in (*scl.encoders, *scl.holdout)
        ]
    if (stock := parts.stock_encoder()) is not None:
        encoders.append(encoder_row("stock", "d-vectors", "frozen", stock, named))
    return FreezeReport(
        step=step,
        modules=module_rows(parts.own_modules(), parts.module_rules, named, step),
        encoders=encoders,
        rules=[rule.to_dict() for rule in parts.module_rules.rules],
        guard={"check_every": scl.freeze.check_every, "on_drift": scl.freeze.on_drift},
    )
