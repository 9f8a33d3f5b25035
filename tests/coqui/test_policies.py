"""Policies of encoders through Coqui's trainer."""

import json
import logging
from pathlib import Path

import pytest
import torch
from quick_vits import QuickVits
from trainer import TrainerArgs
from TTS.config import load_config
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.errors import ConfigError, PreflightError
from coqui_scl_plugin.freeze import FrozenPolicy
from coqui_scl_plugin.plugins import registry
from coqui_scl_plugin.utils.fingerprint import named_tensors


def section(policy, **more):
    encoders = [{"name": "ge2e", "policy": policy}]
    return {"encoders": encoders, "reference": {"source": "segment"}, **more}


def bits_of(module):
    return {name: tensor.detach().clone().numpy().tobytes() for name, tensor in named_tensors(module).items()}


def held(optimizer):
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def encoder_of(model):
    return model.speaker_encoder_loss.encoders["ge2e"]


def ids(module):
    return {id(p) for p in module.parameters()}


# --- restore ----------------------------------------------------------------------------------------------------------


class Sharing(QuickVits):
    """A third party's model whose generator's optimizer holds the encoder, and which asks for gradients on it."""

    def train_step(self, batch, criterion, optimizer_idx=None):
        if self.training and optimizer_idx == 1:
            encoder_of(self).requires_grad_(True)
        return super().train_step(batch, criterion, optimizer_idx)

    def get_optimizer(self):
        discriminator, generator = super().get_optimizer()
        assert not held(generator) & ids(self.speaker_encoder_loss.encoders)
        parameters = list(encoder_of(self).parameters())
        generator.add_param_group({"params": parameters, "lr": 1e-2})
        generator.register_step_post_hook(lambda *_: self.after_step.append(bits_of(encoder_of(self))))
        self.after_step = []
        return [discriminator, generator]


def test_what_an_optimizer_does_to_a_restored_encoder_is_undone_after_each_step(tiny_config, make_trainer):
    config = tiny_config(section("restore"), batch_size=2, save_checkpoints=True, save_step=2)
    model, after = Sharing(config), []
    trainer = make_trainer(
        model, count=6, callbacks={"on_train_step_end": lambda trainer: after.append(bits_of(encoder_of(model)))}
    )
    start = bits_of(encoder_of(model))
    trainer.fit()
    weights = {name for name, _ in encoder_of(model).named_parameters()}
    assert len(model.after_step) == 3
    for moved in model.after_step:
        assert {name for name in start if moved[name] != start[name]} == weights
    assert after == [start] * 3
    assert bits_of(encoder_of(model)) == start
    assert all(p.grad is None for p in encoder_of(model).parameters())
    checkpoint = torch.load(Path(trainer.output_path) / "checkpoint_2.pth", weights_only=True)
    assert not [key for key in checkpoint["model"] if "speaker_encoder" in key]
    report = json.loads((trainer.output_path / "freeze_report.json").read_text())
    assert report["drift"] == []


def test_what_a_callback_does_to_a_restored_encoder_is_undone_after_each_step(tiny_config, make_trainer):
    model, during, after = QuickVits(tiny_config(section("restore"), batch_size=2)), [], []

    def spoil(trainer):
        encoder = encoder_of(trainer.model).train()
        with torch.no_grad():
            for tensor in named_tensors(encoder).values():
                tensor.add_(0.01)
        during.append(bits_of(encoder))

    def note(trainer):
        after.append(bits_of(encoder_of(trainer.model)))

    trainer = make_trainer(model, count=6, callbacks={"on_train_step_start": spoil, "on_train_step_end": note})
    start = bits_of(encoder_of(model))
    trainer.fit()
    assert all(moved[name] != start[name] for moved in during for name in start)
    assert len(during) == len(after) == 3
    assert after == [start] * 3
    assert not any(module.training for module in encoder_of(model).modules())
    assert not any(held(optimizer) & ids(encoder_of(model)) for optimizer in trainer.optimizer)


def test_the_same_optimizer_is_refused_for_a_frozen_encoder(tiny_config, make_trainer):
    with pytest.raises(PreflightError, match="Optimizer 1 holds 14 parameters"):
        make_trainer(Sharing(tiny_config(section("frozen"))))


# --- trainable --------------------------------------------------------------------------------------------------------


def test_a_trainable_encoder_trains_is_saved_and_is_continued(
    tiny_config, tiny_stock_config, make_trainer, caplog, capsys
):
    scl = section("trainable", holdout=[{"name": "dvector"}])
    model = QuickVits(tiny_config(scl, batch_size=2, save_checkpoints=True, save_step=1, lr_gen=1e-3))
    with caplog.at_level(logging.WARNING):
        trainer = make_trainer(model, count=4)
    assert len([r for r in caplog.records if "CHANGE THE SPEAKER ENCODER" in r.getMessage()]) == 1
    shown = capsys.readouterr().out
    (row,) = [line for line in shown.splitlines() if "speaker encoder ge2e" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")][1:4] == ["1,423,616", "TRAINS", "generator"]
    assert ids(encoder_of(model)) <= held(trainer.optimizer[1])
    assert not ids(encoder_of(model)) & held(trainer.optimizer[0])

    start = bits_of(encoder_of(model))
    held_out = bits_of(model.speaker_encoder_loss.encoders["dvector"])
    trainer.fit()
    now = bits_of(encoder_of(model))
    weights = {name for name, _ in encoder_of(model).named_parameters()}
    assert {name for name in start if now[name] != start[name]} == weights
    assert bits_of(model.speaker_encoder_loss.encoders["dvector"]) == held_out

    path = Path(trainer.output_path) / "checkpoint_1.pth"
    saved = torch.load(path, weights_only=True)["model"]
    prefix = "speaker_encoder_loss.encoders.ge2e."
    own = {key.removeprefix(prefix): value for key, value in saved.items() if "speaker_encoder" in key}
    assert own.keys() == encoder_of(model).state_dict().keys()
    assert all(torch.equal(value, own[key]) for key, value in encoder_of(model).state_dict().items())

    folder = str(trainer.output_path)
    again = QuickVits(load_config(f"{folder}/config.json"))
    make_trainer(again, count=4, args=TrainerArgs(continue_path=folder))
    assert bits_of(encoder_of(again)) == now

    stock_config = tiny_stock_config(args={"init_discriminator": False})
    stock = Vits(stock_config)
    torch.save({"model": {k: v for k, v in saved.items() if not k.startswith("disc.")}}, path)
    stock.load_checkpoint(stock_config, str(path), eval=True, strict=True)
    assert all(torch.equal(value, saved[key]) for key, value in stock.state_dict().items())


@pytest.mark.parametrize("policy", ["frozen", "restore"])
def test_a_checkpoint_of_a_run_that_trained_the_encoder_does_not_reach_a_frozen_one(
    tiny_config, make_trainer, tmp_path, policy
):
    trained = QuickVits(tiny_config(section("trainable")))
    trained.parts.build_consistency()
    start = bits_of(encoder_of(trained))
    with torch.no_grad():
        for p in trained.parameters():
            p.add_(0.01)
    path = tmp_path / "trained.pth"
    torch.save({"model": trained.state_dict(), "step": 7, "epoch": 1}, path)
    assert any("encoders.ge2e" in key for key in trained.state_dict())
    model = QuickVits(tiny_config(section(policy)))
    make_trainer(model, args=TrainerArgs(restore_path=str(path)))
    assert bits_of(encoder_of(model)) == start
    assert torch.equal(model.emb_g.weight, trained.emb_g.weight)


def test_a_held_out_encoder_may_not_train(tiny_config):
    with pytest.raises(ConfigError, match=r"scl\.holdout\.0\.policy = 'trainable': a held-out encoder"):
        QuickVits(tiny_config({"holdout": [{"name": "dvector", "policy": "trainable"}]}))


# --- of a third party -------------------------------------------------------------------------------------------------


class Counting(FrozenPolicy):
    """Frozen, and counts."""

    def __init__(self):
        self.applied = 0

    def apply(self, encoder):
        self.applied += 1
        super().apply(encoder)


class Shaken:
    """Registers a change at each forward, and takes it back when it is applied."""

    trainable = False
    undoes_changes = True
    kept = None

    def apply(self, encoder):
        encoder.eval().requires_grad_(False)
        state = {name: tensor.detach() for name, tensor in named_tensors(encoder).items()}
        if self.kept is None:
            self.kept = {name: tensor.clone() for name, tensor in state.items()}
        for name, tensor in state.items():
            if not torch.equal(tensor, self.kept[name]):
                tensor.copy_(self.kept[name])


class Loose:
    """Trains, and forgets to be asked."""

    trainable = True

    def apply(self, encoder):
        pass


@pytest.fixture
def register(monkeypatch):
    def add(name, policy):
        entries = registry.installed().freeze_policies
        monkeypatch.setitem(entries, name, registry.Entry(policy, "a test"))

    return add


def applied(model):
    return model.speaker_encoder_loss.encoders.policies["ge2e"].applied


def test_a_policy_of_a_third_party_is_applied_before_and_after_each_step(tiny_config, make_trainer, register):
    register("counting", Counting)
    model = QuickVits(tiny_config(section("counting"), batch_size=2))
    counts = []
    trainer = make_trainer(
        model,
        count=6,
        callbacks={
            "on_train_step_start": lambda _: counts.append(applied(model)),
            "on_train_step_end": lambda _: counts.append(applied(model)),
        },
    )
    trainer.fit()
    assert len(counts) == 6
    for before, after in zip(counts[::2], counts[1::2], strict=True):
        assert after - before >= 2
    report = json.loads((trainer.output_path / "freeze_report.json").read_text())
    (row,) = report["encoders"]
    assert (row["policy"], row["trainable"], row["optimizer"], row["mode"]) == ("counting", 0, "none", "eval")


def test_one_that_undoes_changes_may_have_its_encoder_in_an_optimizer(tiny_config, make_trainer, register):
    register("shaken", Shaken)

    class Writing(QuickVits):
        def train_step(self, *args):
            with torch.no_grad():
                encoder_of(self).encoder.linear.bias.add_(1)
            return super().train_step(*args)

    model = Writing(tiny_config(section("shaken", freeze={"check_every": 1}), batch_size=2))
    trainer = make_trainer(model, count=4)
    start = bits_of(encoder_of(model))
    trainer.fit()
    assert trainer.total_steps_done == 2
    assert bits_of(encoder_of(model)) == start


def test_one_that_trains_is_reported_as_such(tiny_config, make_trainer, register, capsys):
    register("loose", Loose)
    model = QuickVits(tiny_config(section("loose"), batch_size=2))
    trainer = make_trainer(model, count=2)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "speaker encoder ge2e" in line]
    assert "TRAINS" in row
    assert ids(encoder_of(model)) <= held(trainer.optimizer[1])


def test_one_without_the_attribute_trainable_is_refused(tiny_config, register):
    class Nameless:
        def apply(self, encoder):
            encoder.eval().requires_grad_(False)

    register("nameless", Nameless)
    with pytest.raises(ConfigError, match=r"'nameless'.*trainable"):
        QuickVits(tiny_config(section("nameless")))
