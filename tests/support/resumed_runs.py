"""Runs of a tiny model on four recordings that are stopped, continued and compared bit by bit."""

import json
from pathlib import Path
from typing import Any

import torch
from quick_vits import QuickVits
from trainer import Trainer, TrainerArgs
from TTS.config import load_config

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.demo import corpus_files

BATCHES = 2
"""Batches of an epoch, which has two recordings each."""


def samples_of(speakers: int = 2) -> list[dict[str, Any]]:
    """Return two bundled recordings of each of the first speakers."""
    loaded = corpus_files.load_samples(corpus_files.BUNDLED)
    names = sorted({sample["speaker_name"] for sample in loaded})[:speakers]
    return [dict(s) for name in names for s in [s for s in loaded if s["speaker_name"] == name][:2]]


def run_of(config: SclVitsConfig, *, callbacks: dict[str, Any] | None = None, **args: Any) -> Trainer:
    """Return Coqui's trainer for a config, ready to `fit`, with weights that are the same at each start."""
    torch.manual_seed(0)
    model = QuickVits(config)
    samples = samples_of()
    return Trainer(
        TrainerArgs(**args), model.config, model=model, parse_command_line_args=False, train_samples=samples,
        eval_samples=[dict(s) for s in samples[:2]], callbacks=callbacks or {},
    )  # fmt: skip


def continued(folder: Path, epochs: int, **changes: Any) -> Trainer:
    """Return the trainer of a run that continues another one, with its own config."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"epochs": epochs}))
    return run_of(load_config(str(file)), continue_path=str(folder), **changes)


def state_of(trainer: Trainer) -> dict[str, Any]:
    """Return all that a checkpoint holds of a run."""
    return {
        "model": dict(trainer.model.state_dict()),
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizer],
        "schedulers": [scheduler.state_dict() for scheduler in trainer.scheduler],
    }


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Return the paths at which two nested states differ in any bit."""
    if isinstance(one, torch.Tensor):
        same = isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [path]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{path}: keys"]
        return [found for key in one for found in differences(one[key], other[key], f"{path}.{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [f"{path}: length"]
        return [f for i, pair in enumerate(zip(one, other, strict=True)) for f in differences(*pair, f"{path}.{i}")]
    return [] if one == other else [path]
