"""An encoder that is changed while training stops the run."""

import pytest
import torch

from coqui_scl_plugin import SclVits


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
