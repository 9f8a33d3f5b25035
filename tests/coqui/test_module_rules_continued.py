"""A run that is killed and continued ends as the run that was not: unfreezes, rates, weights and optimizers.

Coqui restores neither random numbers nor the position within an epoch. Here an epoch is one batch, and each step draws
its random numbers from its own number, so that a step does the same whenever it is done.
"""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from quick_vits import QuickVits
from resumed_runs import differences, state_of
from trainer import Trainer, TrainerArgs
from TTS.config import load_config

from coqui_scl_plugin.demo import corpus_files

THAW, KILLED, STEPS, SAVED = 20, 15, 23, 14
RULES = [
    {"pattern": "text_encoder", "until_step": THAW},
    {"pattern": "disc.nets.0", "until_step": THAW},
    {"pattern": "waveform_decoder.ups.*", "lr_scale": 0.1, "until_step": THAW + 1},
    {"pattern": "flow", "lr_scale": 0.5},
    {"pattern": "duration_predictor"},
]
SECTION = {"reference": {"source": "segment"}, "freeze": {"modules": RULES, "check_every": 10}}


class Recorder:
    """Callbacks of a run; notes at which steps the modules with rules moved."""

    def __init__(self, kill_in: int | None = None) -> None:
        self.kill_in = kill_in
        self.moved: dict[int, set[str]] = {}

    def callbacks(self):
        return {"on_train_step_start": self.start, "on_train_step_end": self.end}

    def start(self, trainer):
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(1000 + trainer.total_steps_done)
        self.before = self._weights(trainer.model)

    def end(self, trainer):
        step = trainer.total_steps_done - 1
        now = self._weights(trainer.model)
        self.moved[step] = {name for name in now if not torch.equal(now[name], self.before[name])}
        if step == self.kill_in:
            os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def _weights(model):
        names = ("text_encoder.", "disc.nets.0.", "flow.", "duration_predictor.")
        return {n: p.detach().clone() for n, p in model.named_parameters() if n.startswith(names)}


def train(config, recorder, args=None, steps=None):
    """Coqui's trainer on one batch of two recordings; `steps` ends a run that continues another."""
    torch.manual_seed(0)
    model = QuickVits(config)
    samples = corpus_files.load_samples(corpus_files.BUNDLED)
    two = [next(dict(s) for s in samples if s["speaker_name"] == name) for name in config.speakers[:2]]
    trainer = Trainer(
        args or TrainerArgs(), model.config, model=model, parse_command_line_args=False, train_samples=two,
        eval_samples=[dict(s) for s in two], callbacks=recorder.callbacks(),
    )  # fmt: skip
    if steps is not None:
        trainer.config.epochs = trainer.epochs_done + steps - trainer.total_steps_done
    trainer.fit()
    return trainer


def killed_run(path):
    """In a process of its own."""
    torch.set_num_threads(1)
    train(load_config(path), Recorder(kill_in=KILLED))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.nightly  # test_killed_runs.py kills at more moments
def test_killed_and_continued_it_ends_as_the_run_that_was_not(tiny_config, tmp_path):
    config = tiny_config(
        SECTION, batch_size=2, eval_batch_size=2, epochs=STEPS, save_checkpoints=True, save_step=SAVED,
        optimizer="AdamW", optimizer_params={"weight_decay": 0.1}, lr_gen=1e-3, lr_disc=1e-3,
        lr_scheduler_gen="ExponentialLR", lr_scheduler_gen_params={"gamma": 0.97},
        lr_scheduler_disc="ExponentialLR", lr_scheduler_disc_params={"gamma": 0.97}, scheduler_after_epoch=False,
    )  # fmt: skip
    config.output_path = str(tmp_path / "killed")
    path = tmp_path / "config.json"
    config.save_json(path)
    own = Path(__file__).parent
    paths = [str(own.with_name("support")), str(own), os.environ.get("PYTHONPATH", "")]
    program = f"import test_module_rules_continued as t; t.killed_run({str(path)!r})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    config.output_path = str(tmp_path / "whole")
    whole = Recorder()
    expected = train(config, whole)
    shown, _ = process.communicate(timeout=240)
    assert process.returncode == -signal.SIGKILL, shown

    (folder,) = (tmp_path / "killed").glob("*/")
    assert [checkpoint.name for checkpoint in folder.glob("checkpoint_*.pth")] == [f"checkpoint_{SAVED}.pth"]
    continued = Recorder()
    trainer = train(load_config(str(folder / "config.json")), continued, TrainerArgs(continue_path=str(folder)), STEPS)
    assert expected.total_steps_done == trainer.total_steps_done == STEPS
    assert sorted(whole.moved) == list(range(STEPS))
    assert sorted(continued.moved) == list(range(KILLED, STEPS))
    assert trainer.optimizer is not expected.optimizer
    assert differences(state_of(expected), state_of(trainer)) == []

    for moved in (whole.moved, continued.moved):
        for step, names in moved.items():
            parts = {name.partition(".")[0] for name in names}
            assert parts == ({"text_encoder", "disc", "flow"} if step >= THAW else {"flow"}), step
    rates = [group["lr"] for group in trainer.optimizer[1].param_groups]
    assert [rate / rates[0] for rate in rates[1:]] == pytest.approx([1.0, 0.5])
