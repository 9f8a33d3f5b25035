"""A tiny VITS on the bundled speech, through Coqui's real trainer."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_vits import PLAIN, SIZES
from trainer import Trainer, TrainerArgs
from TTS.config.shared_configs import BaseAudioConfig
from TTS.tts.configs.vits_config import VitsArgs, VitsConfig

from coqui_scl_plugin import SclVits, SclVitsConfig
from coqui_scl_plugin.demo import corpus_files

RATE = 16_000


def tiny_args(**changes: Any) -> VitsArgs:
    return VitsArgs(**(SIZES | changes))


def common_fields(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "audio": BaseAudioConfig(sample_rate=RATE),
        "datasets": [corpus_files.dataset_config(corpus_files.BUNDLED)],
        "speakers": sorted({sample["speaker_name"] for sample in samples}),
        "text_cleaner": "basic_cleaners",
        "batch_size": 4,
        "eval_batch_size": 4,
        "batch_group_size": 4,
        "num_loader_workers": 0,
        "num_eval_loader_workers": 0,
        "epochs": 1,
        "run_eval": False,
        "test_delay_epochs": 99,
        "print_step": 1,
        "plot_step": 1,
        "save_checkpoints": False,
        "save_best_after": 10_000,
    }


@pytest.fixture(scope="session")
def samples() -> list[dict[str, Any]]:
    """Bundled recordings, the speakers in turn, so that each batch of four has four speakers."""
    loaded = corpus_files.load_samples(corpus_files.BUNDLED)
    return sorted(loaded, key=lambda s: (Path(s["audio_file"]).stem.rpartition("_")[2], s["speaker_name"]))


@pytest.fixture
def tiny_config(samples: list[dict[str, Any]], tmp_path: Path) -> Callable[..., SclVitsConfig]:
    """Make a config; `scl` is a section as in JSON beside `PLAIN`, other arguments are fields of the config."""

    def make(scl: dict[str, Any] | None = None, args: dict[str, Any] | None = None, **fields: Any) -> SclVitsConfig:
        config = SclVitsConfig(
            **{
                "model_args": tiny_args(**(args or {})),
                "output_path": str(tmp_path / "runs"),
                **common_fields(samples),
                **fields,
            }
        )
        if scl is not None or not config.model_args.use_speaker_encoder_as_loss:
            config.from_dict({"scl": PLAIN | (scl or {})})
        return config

    return make


@pytest.fixture
def tiny_stock_config(samples: list[dict[str, Any]], tmp_path: Path) -> Callable[..., VitsConfig]:
    """Make a stock VitsConfig."""

    def make(args: dict[str, Any] | None = None, **fields: Any) -> VitsConfig:
        shared = {**common_fields(samples), "output_path": str(tmp_path / "runs"), **fields}
        return VitsConfig(model_args=tiny_args(**(args or {})), **shared)

    return make


@pytest.fixture
def make_trainer(samples: list[dict[str, Any]]) -> Callable[..., Trainer]:
    """Coqui's trainer for a model and `count` recordings, some of them more than once, ready to `fit`."""

    def make(model: SclVits, count: int = 8, speakers: set[str] | None = None, **kwargs: Any) -> Trainer:
        known = [s for s in samples if speakers is None or s["speaker_name"] in speakers]
        chosen = [dict(s) for s in itertools.islice(itertools.cycle(known), count)]
        args = kwargs.pop("args", None) or TrainerArgs()
        given = {"train_samples": chosen, "eval_samples": [dict(s) for s in samples[-4:]], **kwargs}
        return Trainer(args, model.config, model=model, parse_command_line_args=False, **given)

    return make


@pytest.fixture
def batch_of(samples: list[dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A batch as the trainer would give it to `train_step`."""

    def make(model: torch.nn.Module, count: int = 4) -> dict[str, Any]:
        loader = model.get_data_loader(model.config, is_eval=True, samples=[dict(s) for s in samples[:count]])
        items = [loader.dataset[index] for index in range(count)]
        return model.format_batch_on_device(model.format_batch(loader.dataset.collate_fn(items)))

    return make
