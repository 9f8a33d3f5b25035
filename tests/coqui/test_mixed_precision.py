"""Runs in mixed precision through Coqui's real trainer, and steps with a loss scale."""

import json
from pathlib import Path

import pytest
import torch
from quick_vits import QuickVits

from coqui_scl_plugin.consistency.reach import gradient_norms
from coqui_scl_plugin.coqui.mixed_precision import first_loss_scale, training_autocast

MIXED = {"mixed_precision": True, "precision": "bf16"}


class Overflowing(QuickVits):
    """Sends a gradient that is not finite at one step, as half precision does at too large a loss scale."""

    overflow_at = -1

    def train_step(self, batch, criterion, optimizer_idx=None):
        """Take the step."""
        outputs, losses = super().train_step(batch, criterion, optimizer_idx)
        if optimizer_idx == 1:
            self.seen = [*getattr(self, "seen", ()), (outputs["model_outputs"].dtype, losses["loss_spk_encoder"].dtype)]
            if self.training_run.step == self.overflow_at:
                losses["loss"] = losses["loss"] * torch.inf
        return outputs, losses


def with_scaler(trainer):
    """The trainer with a GradScaler that works on a CPU; the one that it makes is for a GPU, and off here."""
    trainer.scaler, trainer.use_amp_scaler = torch.amp.GradScaler("cpu", init_scale=16.0), True
    return trainer


def decoder_of(model):
    return {name: p.detach().clone() for name, p in model.waveform_decoder.named_parameters()}


def test_autocast_and_loss_scale_are_the_trainers(tiny_config):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for precision, scale in (("bf16", 1.0), ("fp16", 65536.0)):
        config = tiny_config(mixed_precision=True, precision=precision)
        autocast = training_autocast(config, cpu)
        assert (autocast.fast_dtype, autocast._enabled) == (torch.bfloat16, True)
        assert first_loss_scale(config, cpu) == 1.0
        assert first_loss_scale(config, cuda) == scale
    config.mixed_precision = False
    assert not training_autocast(config, cpu)._enabled
    assert first_loss_scale(config, cuda) == 1.0


def test_a_run_in_bfloat16_is_checked_and_trained_in_it(tiny_config, make_trainer, monkeypatch):
    config = tiny_config({"freeze": {"check_every": 1}}, mixed_precision=True, precision="bf16")
    model, seen = QuickVits(config), []
    forward = model.waveform_decoder.forward

    def heard(*args, **kwargs):
        seen.append((made := forward(*args, **kwargs)).dtype)
        return made

    monkeypatch.setattr(model.waveform_decoder, "forward", heard)
    trainer, before = make_trainer(model), decoder_of(model)
    assert seen == [torch.bfloat16]  # by preflight's gradient check
    preflight = json.loads((Path(trainer.output_path) / "preflight.json").read_text(encoding="utf-8"))
    assert {row["id"]: row["status"] for row in preflight["checks"]}["gradient"] == "passed"
    trainer.fit()
    assert set(seen) == {torch.bfloat16}
    assert all(p.isfinite().all() for p in model.parameters())
    assert any(not torch.equal(p, before[name]) for name, p in decoder_of(model).items())


def test_a_step_that_the_scaler_skips_is_no_fault(tiny_config, make_trainer):
    model = Overflowing(tiny_config({"freeze": {"check_every": 1}}, **MIXED))
    model.overflow_at = 1
    scales, weights = [], []

    def note(trainer):
        scales.append(trainer.scaler.get_scale())
        weights.append(decoder_of(model))

    with_scaler(make_trainer(model, count=12, callbacks={"on_train_step_end": note})).fit()
    assert model.seen == [(torch.bfloat16, torch.float32)] * 3
    assert scales == [16.0, 8.0, 8.0]  # the scaler left out step 1, and halved the scale
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[1][name], weights[2][name]) for name in weights[1])
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_gradient_that_stops_arriving_after_a_skipped_step_ends_the_run(tiny_config, make_trainer, capsys):
    model = Overflowing(tiny_config(**MIXED))
    model.overflow_at = 0

    def cut(trainer):
        encoder = model.speaker_encoder_loss.encoders["ge2e"].encoder
        encoder.forward = torch.no_grad()(encoder.forward)

    trainer = with_scaler(make_trainer(model, count=8, callbacks={"on_train_step_end": cut}))
    with pytest.raises(SystemExit):
        trainer.fit()
    assert "GradientError: At step 1 the speaker consistency loss sent no gradient" in capsys.readouterr().err


def test_without_a_scaler_a_gradient_that_is_not_finite_is_named(tiny_config, make_trainer, capsys):
    model = Overflowing(tiny_config())
    model.overflow_at = 0
    with pytest.raises(SystemExit):
        make_trainer(model, count=4).fit()
    assert (
        "GradientError: At step 0 the speaker consistency loss sent a gradient that is not" in capsys.readouterr().err
    )


def test_norms_behind_half_precision_know_the_scale():
    layer, waveform = torch.nn.Linear(4, 4, bias=False), torch.ones(2, 4)
    made = layer(waveform).half().float()
    gradient = torch.full_like(made, 1e-9)  # half precision rounds it to 0
    (plain,) = gradient_norms(layer.parameters(), made, gradient).values()
    (scaled,) = gradient_norms(layer.parameters(), made, gradient, 65536.0).values()
    assert plain == 0.0
    assert scaled == pytest.approx(2e-9 * 4, rel=1e-3)
