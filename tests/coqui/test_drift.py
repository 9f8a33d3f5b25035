"""An encoder that is changed while training is found, and what then happens is what `on_drift` says."""

import json
import logging

import pytest
import torch
from quick_vits import QuickVits

from coqui_scl_plugin import SclVits
from coqui_scl_plugin.utils.fingerprint import named_tensors


def change_at(step, change):
    def callback(trainer):
        if trainer.total_steps_done == step:
            with torch.no_grad():
                change(trainer.model.speaker_encoder_loss.encoders["ge2e"].encoder)

    return {"on_train_step_end": callback}


def test_a_weight_that_moves_is_named_within_check_every_steps(tiny_config, make_trainer, capsys):
    model = SclVits(tiny_config({"freeze": {"check_every": 2}}))
    callbacks = change_at(2, lambda encoder: encoder.linear.bias.add_(1e-6))
    trainer = make_trainer(model, count=40, callbacks=callbacks)
    with pytest.raises(SystemExit) as ended:
        trainer.fit()
    assert ended.value.code == 1
    assert trainer.total_steps_done == 3
    said = capsys.readouterr().err
    assert "DriftError" in said
    assert "'ge2e' changed between step 1 and step 3" in said
    assert "encoder.linear.bias" in said


def test_a_buffer_that_moves_is_found_at_the_end_of_the_epoch(tiny_config, make_trainer, capsys):
    model = SclVits(tiny_config())
    trainer = make_trainer(model, count=8, callbacks=change_at(1, lambda encoder: encoder.mel.mel_scale.fb.mul_(1.01)))
    with pytest.raises(SystemExit):
        trainer.fit()
    assert "encoder.mel.mel_scale.fb" in capsys.readouterr().err


def test_nothing_is_saved_once_it_moved(tiny_config, make_trainer, tmp_path):
    model = SclVits(tiny_config(save_best_after=0))
    trainer = make_trainer(model, count=8, callbacks=change_at(1, lambda encoder: encoder.linear.bias.zero_()))
    with pytest.raises(SystemExit):
        trainer.fit()
    assert not list(tmp_path.rglob("best_model*.pth"))


def test_a_callback_that_unfreezes_is_overruled(tiny_config, make_trainer):
    def unfreeze(trainer):
        encoder = trainer.model.speaker_encoder_loss.encoders["ge2e"]
        encoder.requires_grad_(True)
        encoder.train()

    model = SclVits(tiny_config({"freeze": {"check_every": 1}}))
    trainer = make_trainer(model, count=8, callbacks={"on_train_step_end": unfreeze})
    trainer.fit()
    assert trainer.total_steps_done == 2


def test_a_gradient_that_stops_arriving_ends_the_run(tiny_config, make_trainer, capsys):
    def cut(trainer):
        encoder = trainer.model.speaker_encoder_loss.encoders["ge2e"].encoder
        encoder.forward = torch.no_grad()(encoder.forward)

    model = SclVits(tiny_config({"freeze": {"check_every": 1}}))
    trainer = make_trainer(model, count=12, callbacks={"on_train_step_end": cut})
    with pytest.raises(SystemExit):
        trainer.fit()
    assert "GradientError: At step 1 the speaker consistency loss sent no gradient" in capsys.readouterr().err
    assert trainer.total_steps_done == 2


# --- who changes it, and what on_drift says ---------------------------------------------------------------------------

CHANGED, FOUND = 1, 4  # the step that changes it, and the step of the check that finds it, each 3 steps


def bits_of(module):
    return {name: tensor.detach().clone().numpy().tobytes() for name, tensor in named_tensors(module).items()}


def ge2e_of(model):
    return model.speaker_encoder_loss.encoders["ge2e"].encoder


class ByCallback(QuickVits):
    """A callback adds to a bias."""

    names = ("encoder.linear.bias",)
    size = "encoder.linear.bias 5.0e-01"

    def callback(self, trainer):
        if trainer.total_steps_done == CHANGED + 1:
            with torch.no_grad():
                ge2e_of(self).linear.bias[3] += 0.5


class ByCheckpoint(QuickVits):
    """A callback loads weights of another encoder of the same shape."""

    names = ("encoder.lstm.bias_hh_l0", "encoder.lstm.bias_hh_l1")
    size = "encoder.lstm.weight_hh_l1 "

    def callback(self, trainer):
        if trainer.total_steps_done == CHANGED + 1:
            with torch.random.fork_rng(devices=[]):
                other = torch.nn.LSTM(40, 256, 3, batch_first=True)
            with torch.no_grad():
                other.weight_hh_l1[0, 0] = 7.0
            ge2e_of(self).lstm.load_state_dict(other.state_dict())


class ByModel(QuickVits):
    """A third party's model writes to it within its step."""

    names = ("encoder.linear.weight", "encoder.mel.mel_scale.fb")
    size = "encoder.linear.weight 2.5e-01, encoder.mel.mel_scale.fb"

    def train_step(self, batch, criterion, optimizer_idx=None):
        if self.training and self.training_run.step == CHANGED and optimizer_idx == 1:
            encoder = ge2e_of(self)
            with torch.no_grad():
                encoder.linear.weight[1, 2] += 0.25
                encoder.mel.mel_scale.fb.mul_(1.001)
        return super().train_step(batch, criterion, optimizer_idx)

    def callback(self, trainer):
        pass


WAYS = {"callback": ByCallback, "checkpoint": ByCheckpoint, "model": ByModel}


@pytest.fixture
def drifting_run(tiny_config, make_trainer):
    """Train up to 6 steps; the trainer, the encoder's bits at the start, and the end of the run, if it was ended."""

    def run(cls, on_drift, **fields):
        freeze = {"check_every": 3, "on_drift": on_drift}
        model = cls(tiny_config({"reference": {"source": "segment"}, "freeze": freeze}, batch_size=2, **fields))
        trainer = make_trainer(
            model, count=12, callbacks={"on_train_step_end": lambda trainer: model.callback(trainer)}
        )
        start, ended = bits_of(ge2e_of(model)), None
        try:
            trainer.fit()
        except SystemExit as end:
            ended = end.code
        return trainer, start, ended

    return run


def drifts_in(trainer):
    return json.loads((trainer.output_path / "freeze_report.json").read_text())["drift"]


def assert_message(message, cls):
    assert f"'ge2e' changed between step {CHANGED} and step {FOUND}: " in message
    for part in (*cls.names, cls.size, "Largest changes of a value: ", "Code outside this package wrote to it"):
        assert part in message


@pytest.mark.parametrize("cls", WAYS.values(), ids=WAYS)
def test_raise_ends_the_run_at_the_next_check(drifting_run, capsys, cls):
    trainer, _, ended = drifting_run(cls, "raise")
    assert ended == 1
    assert trainer.total_steps_done == FOUND
    (message,) = [line for line in capsys.readouterr().err.splitlines() if "DriftError: " in line]
    assert_message(message, cls)
    assert "The run stops here" in message


@pytest.mark.parametrize("cls", WAYS.values(), ids=WAYS)
def test_restore_puts_every_bit_back_and_goes_on(drifting_run, caplog, cls):
    with caplog.at_level(logging.WARNING, "coqui_scl_plugin"):
        trainer, start, ended = drifting_run(cls, "restore")
    assert ended is None
    assert trainer.total_steps_done == 6
    assert bits_of(ge2e_of(trainer.model)) == start
    (drift,) = drifts_in(trainer)
    assert (drift["encoder"], drift["after_step"], drift["step"]) == ("ge2e", CHANGED, FOUND)
    assert set(cls.names) <= set(drift["tensors"]) <= {f"encoder.{name}" for name in start}
    assert_message(drift["message"], cls)
    assert [r.getMessage() for r in caplog.records if "changed between" in r.getMessage()] == [drift["message"]]


@pytest.mark.parametrize("cls", WAYS.values(), ids=WAYS)
def test_warn_says_it_once_and_goes_on_with_the_changed_encoder(drifting_run, caplog, cls):
    with caplog.at_level(logging.WARNING, "coqui_scl_plugin"):
        trainer, start, ended = drifting_run(cls, "warn")
    assert ended is None
    assert trainer.total_steps_done == 6
    now = bits_of(ge2e_of(trainer.model))
    (drift,) = drifts_in(trainer)
    assert {f"encoder.{name}" for name in start if now[name] != start[name]} == set(drift["tensors"])
    assert_message(drift["message"], cls)
    assert [r.getMessage() for r in caplog.records if "changed between" in r.getMessage()] == [drift["message"]]


# --- when it is checked -----------------------------------------------------------------------------------------------


def test_a_checkpoint_that_is_due_after_a_drift_is_not_written(drifting_run, capsys):
    trainer, _, ended = drifting_run(ByCallback, "raise", save_checkpoints=True, save_step=1, save_n_checkpoints=9)
    assert ended == 1
    assert [path.name for path in trainer.output_path.glob("*_[0-9]*.pth")] == ["checkpoint_1.pth"]
    assert "'ge2e' changed between step 1 and step 2" in capsys.readouterr().err


def test_what_is_saved_under_restore_comes_after_the_repair(drifting_run):
    trainer, start, ended = drifting_run(ByCallback, "restore", save_checkpoints=True, save_step=1)
    assert ended is None
    (drift,) = drifts_in(trainer)
    assert (drift["after_step"], drift["step"]) == (1, 2)
    assert bits_of(ge2e_of(trainer.model)) == start


# --- the likely cause -------------------------------------------------------------------------------------------------


def test_an_optimizer_that_got_hold_of_it_is_named(drifting_run, capsys):
    class Asking(QuickVits):
        def train_step(self, batch, criterion, optimizer_idx=None):
            outcome = super().train_step(batch, criterion, optimizer_idx)
            ge2e_of(self).requires_grad_(True)
            return outcome

        def callback(self, trainer):
            if trainer.total_steps_done == CHANGED:
                trainer.optimizer[1].add_param_group({"params": list(ge2e_of(self).parameters())})

    trainer, _, ended = drifting_run(Asking, "raise")
    assert ended == 1
    assert trainer.total_steps_done == FOUND
    assert "Optimizer 1 of the trainer holds some of them" in capsys.readouterr().err


def test_train_mode_is_named_where_running_statistics_moved(tiny_config, make_trainer, coqui_files, capsys):
    class Waking(QuickVits):
        steps = False

        def train_step(self, *args, **kwargs):
            self.steps = True
            return super().train_step(*args, **kwargs)

        def forward(self, *args, **kwargs):
            if self.steps:  # within a step, after the policy was applied and before the term
                self.speaker_encoder_loss.encoders["resnet"].encoder.train()
            return super().forward(*args, **kwargs)

    section = {
        "encoders": [{"name": "coqui", "alias": "resnet", "params": coqui_files["resnet"].params()}],
        "reference": {"source": "segment"},
        "segment": {"min_seconds": 0.3},
        "freeze": {"check_every": 1},
    }
    with pytest.raises(SystemExit):
        make_trainer(Waking(tiny_config(section, batch_size=2)), count=4).fit()
    said = capsys.readouterr().err
    assert "'resnet' changed between step 0 and step 1" in said
    assert "These are running statistics, which a forward pass in train mode updates" in said


def test_half_is_named_and_cannot_be_put_back(drifting_run, capsys):
    class Halved(QuickVits):
        def on_train_step_end(self, trainer):
            if trainer.total_steps_done == FOUND:
                ge2e_of(self).half()
            super().on_train_step_end(trainer)

        def callback(self, trainer):
            pass

    trainer, _, ended = drifting_run(Halved, "restore")
    assert ended == 1
    assert trainer.total_steps_done == FOUND
    said = capsys.readouterr().err
    assert "Tensors have another type or shape: look for half()" in said
    assert "The run stops here" in said


# --- callbacks that undo what keeps it still --------------------------------------------------------------------------


def test_a_callback_right_before_the_step_is_overruled_too(tiny_config, make_trainer, coqui_files):
    def wake(trainer):
        model = trainer.model
        for module in (model.speaker_encoder_loss.encoders["resnet"], model.text_encoder):
            module.train().requires_grad_(True)

    section = {
        "encoders": [{"name": "coqui", "alias": "resnet", "params": coqui_files["resnet"].params()}],
        "reference": {"source": "segment"},
        "segment": {"min_seconds": 0.3},
        "freeze": {"check_every": 1, "modules": [{"pattern": "text_encoder", "until_step": 99}]},
    }
    model = QuickVits(tiny_config(section, batch_size=2))
    start = bits_of(model.text_encoder)
    trainer = make_trainer(model, count=4, callbacks={"on_train_step_start": wake})
    trainer.fit()
    assert trainer.total_steps_done == 2
    assert bits_of(model.text_encoder) == start
