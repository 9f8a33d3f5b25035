"""Coqui's trainer as `coqui-scl train` runs it: errors reach the caller, and no file of a run is lost or half there."""

import contextlib
import errno
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from quick_vits import QuickVits
from trainer import TrainerArgs
from trainer import trainer as trainer_module

from coqui_scl_plugin.coqui import command_trainer
from coqui_scl_plugin.coqui.command_trainer import CommandTrainer
from coqui_scl_plugin.errors import ConfigError, DriftError


@pytest.fixture
def make(tiny_config: Callable[..., Any], samples: list[dict[str, Any]]) -> Callable[..., CommandTrainer]:
    """Make the trainer of a run on eight recordings, with a callback at the end of each step."""

    numbers = itertools.count()

    def make(each_step: Callable[[Any], None] | None = None, args: TrainerArgs | None = None) -> CommandTrainer:
        name = f"run-{next(numbers)}"  # two of one name cannot begin in one minute
        model = QuickVits(tiny_config({"freeze": {"check_every": 1}}, run_eval=False, run_name=name))
        return CommandTrainer(
            args or TrainerArgs(), model.config, model.config.output_path, model=model,
            train_samples=[dict(sample) for sample in samples[:8]], eval_samples=[], parse_command_line_args=False,
            callbacks={"on_train_step_end": each_step} if each_step else {},
        )  # fmt: skip

    return make


def move(trainer: Any) -> None:
    with torch.no_grad():
        trainer.model.speaker_encoder_loss.encoders["ge2e"].encoder.linear.bias.add_(1e-6)


def fill(trainer: Any) -> None:
    """Fail as `torch.save` does where the disk is full."""
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")


def test_an_error_reaches_the_caller_and_is_not_printed(
    make: Callable[..., CommandTrainer], capfd: pytest.CaptureFixture[str]
) -> None:
    trainer = make(move)
    with pytest.raises(DriftError, match="'ge2e' changed between step 1 and step 2"):
        trainer.train()
    assert "Traceback" not in capfd.readouterr().err

    trainer = make(fill)
    with pytest.raises(RuntimeError) as caught:
        trainer.train()
    assert isinstance(caught.value.__context__, OSError)
    assert caught.value.__context__.filename == str(trainer.output_path)
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_that_ends_well_raises_nothing_and_its_config_survives_a_full_disk(
    make: Callable[..., CommandTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make()
    with pytest.raises(ConfigError, match="is being trained by another process"):
        make(args=TrainerArgs(continue_path=str(trainer.output_path)))
    trainer.train()
    assert [path for path in trainer.output_path.parent.iterdir() if path.suffix == ".lock"] == []
    assert trainer.total_steps_done == 2
    trainer.save_checkpoint()
    config = trainer.output_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "mine": 1}))
    before = config.read_bytes()

    def fail(self: Any, *args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(CommandTrainer, "_setup_logger_config", fail)  # called when the config has been written anew
    with pytest.raises(OSError, match="No space left") as caught:
        make(args=TrainerArgs(continue_path=str(trainer.output_path)))
    assert caught.value.filename == str(trainer.output_path)
    assert config.read_bytes() == before


def test_two_runs_that_start_in_one_minute_do_not_share_a_folder(
    make: Callable[..., CommandTrainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "run-at-some-minute"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("another's")
    for module in (command_trainer, trainer_module):
        monkeypatch.setattr(module, "get_experiment_folder_path", lambda *_: folder)
    with pytest.raises(ConfigError, match=r"run-at-some-minute is that of another run.*--coqpit\.run_name"):
        make()
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("config.json", "another's")]


def test_the_folder_of_a_run_that_does_not_start_is_removed(
    make: Callable[..., CommandTrainer], tmp_path: Path
) -> None:
    def fail(self: Any, *args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(QuickVits, "get_optimizer", fail)
        make()
    assert not list((tmp_path / "runs").iterdir())
