"""The checks of a run, without the run."""

import functools
from collections.abc import Sequence

import torch
from trainer.generic_utils import set_partial_state_dict

from coqui_scl_plugin.consistency.reach import ModuleReach
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.run_facts import (
    DataAccess,
    collect_facts,
    name_optimizers,
    read_restored,
    report_freezing,
    undisturbed,
)
from coqui_scl_plugin.coqui.samples import Samples, dataset_that_fits, list_samples, small_batch
from coqui_scl_plugin.coqui.vits import SclVits
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.freeze.report import FreezeReport
from coqui_scl_plugin.preflight.checks import run_checks
from coqui_scl_plugin.preflight.facts import TrainerFacts
from coqui_scl_plugin.preflight.generator import measured_reach
from coqui_scl_plugin.preflight.report import PreflightReport
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.recordings import recordings_of
from coqui_scl_plugin.utils.checkpoint import read_checkpoint

_MAX_SPEAKERS, _MAX_RECORDINGS_EACH = 8, 2
"""Recordings that represent the data set, so that the checks need not embed all of it."""


def check_run(
    config: SclVitsConfig, restore_path: str | None, *, names_stock_loss: bool
) -> tuple[PreflightReport, FreezeReport, Sequence[ModuleReach]]:
    """Run every check on a model of the config, and report what would train and be taught. Writes nothing.

    Args:
        config: Config of the run.
        restore_path: Readable checkpoint to start from.
        names_stock_loss: Whether the config names Coqui's own model with stock's own loss on.

    Raises:
        ConfigError: the config or the data cannot be used.
        EncoderError: an encoder cannot be loaded.
    """
    train, evaluation = list_samples(config)
    torch.manual_seed(config.training_seed)  # as `coqui-scl train` does, so that each call checks the same model
    model = SclVits(config)
    model.parts.build_consistency()
    optimizers = model.get_optimizer()
    if restore_path:
        _restore(model, restore_path)
    known = TrainerFacts(
        config=model.config,
        optimizers=name_optimizers(optimizers),
        train_samples=train,
        eval_samples=evaluation,
        restored=read_restored(restore_path, continues=False) if restore_path else None,
        names_stock_loss=names_stock_loss,
    )
    facts = collect_facts(model.parts, known, _few_samples_alone(model, train))
    model.train()
    checks = PreflightReport()
    with undisturbed(model.config):
        for costly in (False, True):
            checks = run_checks(facts, config.scl.preflight.skip, costly=costly, before=checks)
    return checks, report_freezing(model.parts, optimizers, step=0), measured_reach(facts, checks)


def _few_samples_alone(model: SclVits, samples: Samples) -> DataAccess:
    """Return access to a few samples, which are chosen when they are first needed."""

    @functools.cache
    def few() -> Samples:
        return _few_samples(dataset_that_fits(model, model.config, samples).samples)

    def prepare_references(consistency: SpeakerConsistency) -> None:
        if consistency.uses_recordings:
            consistency.embed_references(recordings_of(few()), ReferenceCache())

    return DataAccess(lambda: small_batch(model, model.config, few()), prepare_references)


def _restore(model: SclVits, path: str) -> None:
    weights = read_checkpoint(path)["model"]
    model.load_state_dict(set_partial_state_dict(model.state_dict(), weights, model.config))


def _few_samples(samples: Samples) -> Samples:
    """Return a few samples of each of the speakers with the most samples."""
    by_speaker: dict[str, Samples] = {}
    for sample in samples:
        by_speaker.setdefault(sample["speaker_name"], []).append(sample)
    speakers = sorted(by_speaker.values(), key=len, reverse=True)[:_MAX_SPEAKERS]
    return [sample for own in speakers for sample in own[:_MAX_RECORDINGS_EACH]]
