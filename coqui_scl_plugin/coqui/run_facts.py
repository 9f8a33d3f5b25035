"""A model and its data, as the checks before step 1 and the freeze report look at them.

For a run through Coqui's trainer (`training_run.py`) and for `coqui-scl preflight` alike.
"""

import contextlib
import copy
import functools
import io
import logging
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.freeze.report import FreezeReport, encoder_row, module_rows
from coqui_scl_plugin.preflight.facts import RunFacts, Sample
from coqui_scl_plugin.utils.log_level import log_level

if TYPE_CHECKING:
    from coqui_scl_plugin.coqui.vits import SclVits
    from coqui_scl_plugin.coqui.vits_config import SclVitsConfig

_BATCH = 4
_LOOKED_AT = 200  # recordings of which the small batch is taken
_OPTIMIZERS = ("discriminator", "generator")


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave the random numbers of Python, numpy and torch as they were, so that checks do not change a run."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def phonemes_left_alone(config: "SclVitsConfig") -> Iterator[None]:
    """Write no phonemes of a few samples to Coqui's cache of them, which it takes to be complete once it is there."""
    own = config.phoneme_cache_path
    with tempfile.TemporaryDirectory() as folder:
        config.phoneme_cache_path = folder if own else own
        try:
            yield
        finally:
            config.phoneme_cache_path = own


def _data_loader(model: "SclVits", config: "SclVitsConfig", samples: Sequence[Sample], **changes: Any) -> Any:
    """Coqui's loader for evaluation, without its bars, and without phonemes of all samples computed beforehand."""
    config = copy.copy(config)
    for name, value in {"precompute_num_workers": 0, **changes}.items():
        setattr(config, name, value)
    with log_level(logging.WARNING, "TTS"), contextlib.redirect_stderr(io.StringIO()):
        return model.get_data_loader(config, is_eval=True, samples=[dict(s) for s in samples], verbose=False)


def dataset_that_fits(model: "SclVits", config: "SclVitsConfig", samples: Sequence[Sample]) -> Any:
    """A data set of recordings that Coqui does not leave out for their length; not all, since it opens each file."""
    try:
        spread = samples[:: max(1, len(samples) // _LOOKED_AT)]
        return _data_loader(model, config, spread, use_weighted_sampler=False).dataset
    except RuntimeError:  # No samples left
        return _data_loader(model, config, samples, use_weighted_sampler=False).dataset


def small_batch(model: "SclVits", config: "SclVitsConfig", samples: Sequence[Sample]) -> dict[str, Any]:
    """A small real batch on the model's device, of different speakers where there are some."""
    dataset = dataset_that_fits(model, config, samples)
    by_speaker: dict[str, int] = {}
    for index, sample in enumerate(dataset.samples):
        by_speaker.setdefault(sample["speaker_name"], index)
    batch = model.format_batch(dataset.collate_fn([dataset[index] for index in list(by_speaker.values())[:_BATCH]]))
    device = next(model.parameters()).device
    moved = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
    formatted: dict[str, Any] = model.format_batch_on_device(moved)
    return formatted


def _segment_seconds(model: "SclVits") -> float:
    factor = int(model.interpolate_factor) if model.args.encoder_sample_rate else 1
    audio = model.config.audio
    return float(model.spec_segment_size * factor * audio.hop_length / audio.sample_rate)


def named_optimizers(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, torch.optim.Optimizer]:
    """Those of the trainer, by name."""
    names = [*_OPTIMIZERS, *(f"optimizer {index}" for index in range(len(_OPTIMIZERS), len(optimizers)))]
    return dict(zip(names, optimizers, strict=False))


def collect_facts(
    model: "SclVits",
    config: "SclVitsConfig",
    optimizers: Sequence[torch.optim.Optimizer],
    samples: tuple[Sequence[Sample] | None, Sequence[Sample] | None],
    batch: Callable[[], dict[str, Any]],
    prepare_references: Callable[[SpeakerConsistency], None],
    step: int = 0,
    **more: Any,
) -> RunFacts:
    """What the checks look at.

    Args:
        model: With its encoders and its loss.
        config: The trainer's, which need not be the object that the model has.
        optimizers: The trainer's.
        samples: To train on, and to evaluate with.
        batch: Makes a small real batch, as `train_step` would get it.
        prepare_references: Lets the encoders hear real speech, as far as the checks need it.
        step: The first training step.
        more: Further fields of `RunFacts`.
    """
    manager, args = model.speaker_manager, model.args

    @functools.cache
    def generate() -> tuple[Tensor, Any]:
        with torch.enable_grad():
            return model.generate_pair(batch())

    def prepare() -> None:
        if model.speaker_encoder_loss is not None:
            model.speaker_encoder_loss.eval()  # also encoders that train hear references as they will be heard
            prepare_references(model.speaker_encoder_loss)
            model.train()

    return RunFacts(
        config=config,
        consistency=model.speaker_encoder_loss,
        frozen_encoders=model.frozen_encoders(),
        optimizers=named_optimizers(optimizers),
        train_samples=samples[0],
        eval_samples=samples[1],
        model_sizes={k: v.numel() for k, v in model.state_dict().items() if not k.startswith("speaker_encoder")},
        speakers=manager.speaker_names if manager is not None and args.use_speaker_embedding else None,
        d_vectors=manager.embeddings if manager is not None and args.use_d_vector_file else None,
        segment_seconds=_segment_seconds(model),
        train_mode=model.train,
        count_eval_batches=lambda: len(_data_loader(model, config, samples[1] or ())),
        generate=generate,
        prepare_references=prepare,
        thaws_at=[
            rule.until_step
            for rule in model.module_rules.rules
            if rule.lr_scale == 0.0 and rule.until_step is not None and rule.until_step > step
        ],
        **more,
    )


def freeze_report(model: "SclVits", optimizers: Mapping[str, torch.optim.Optimizer], step: int) -> FreezeReport:
    """What trains and what is frozen in a training step."""
    scl = model.config.scl
    consistency = model.speaker_encoder_loss
    encoders = []
    if consistency is not None:
        for role, specs in (("training", scl.encoders), ("holdout", scl.holdout)):
            encoders += [
                encoder_row(spec.label, role, spec.policy, consistency.encoders[spec.label], optimizers)
                for spec in specs
            ]
    if (stock := model.stock_encoder()) is not None:
        encoders.append(encoder_row("stock", "d-vectors", "frozen", stock, optimizers))
    return FreezeReport(
        step=step,
        modules=module_rows(model.own_modules(), model.module_rules, optimizers, step),
        encoders=encoders,
        rules=[rule.to_dict() for rule in model.module_rules.rules],
        guard={"check_every": scl.freeze.check_every, "on_drift": scl.freeze.on_drift},
    )
