"""Side by side: stock moves its speaker encoder, SclVits does not, with the same files."""

from pathlib import Path

import torch
from TTS.tts.models.vits import Vits

from coqui_scl_plugin import SclVits
from coqui_scl_plugin.utils.fingerprint import named_tensors


def tensors_of(module):
    return {name: tensor.detach().clone() for name, tensor in named_tensors(module).items()}


def changed(before, module):
    now = named_tensors(module)
    assert before.keys() == now.keys()
    return [name for name in before if not torch.equal(before[name], now[name])]


def held_by(optimizers, module):
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    return sum(id(tensor) in held for tensor in named_tensors(module).values())


class Recording(SclVits):
    """Notes, at the moment when gradients exist, which tensors have one."""

    def before_gradient_clipping(self):
        super().before_gradient_clipping()
        encoder, decoder = self.speaker_encoder_loss.encoders, self.waveform_decoder
        self.seen = getattr(self, "seen", [])
        self.seen.append(
            {
                "encoder": sum(p.grad is not None for p in encoder.parameters()),
                "decoder": sum(p.grad is not None for p in decoder.parameters()),
                "modes": {module.training for module in encoder.modules() if module is not encoder},
            }
        )


def three_steps_of_stock(model, batch):
    optimizers, criteria = model.get_optimizer(), model.get_criterion()
    model.train()
    for _ in range(3):
        for index in (0, 1):
            _, losses = model.train_step(batch, criteria[index], index)
            losses["loss"].backward()
            optimizers[index].step()
            optimizers[index].zero_grad(set_to_none=True)
    return optimizers


def test_stock_moves_the_encoder_in_three_steps_and_scl_vits_does_not_in_fifty(
    tiny_config, tiny_stock_config, coqui_files, batch_of, make_trainer
):
    files = coqui_files["resnet"]
    torch.manual_seed(0)
    stock = Vits(tiny_stock_config(args=files.stock_loss()))
    encoder = stock.speaker_manager.encoder
    before = tensors_of(encoder)
    optimizers = three_steps_of_stock(stock, batch_of(stock, 2))
    assert held_by(optimizers, encoder) == len(list(encoder.parameters()))
    assert len(changed(before, encoder)) > 0.9 * len(before)
    assert encoder.training

    section = {
        "encoders": [{"name": "coqui", "alias": "resnet", "params": files.params()}],
        "segment": {"min_seconds": 0.3},
        "freeze": {"check_every": 10},
    }
    config = tiny_config(
        section, batch_size=2, eval_batch_size=2, run_eval=True, run_eval_steps=20, save_checkpoints=True, save_step=25
    )
    assert config.optimizer == "AdamW"
    assert config.optimizer_params["weight_decay"] > 0
    model = Recording(config)
    trainer = make_trainer(model, count=100, callbacks={"on_train_step_end": lambda trainer: trainer.model.train()})
    encoder, decoder = model.speaker_encoder_loss.encoders["resnet"], model.waveform_decoder
    before, decoder_before = tensors_of(encoder), tensors_of(decoder)
    trainer.fit()
    assert trainer.total_steps_done == 50
    assert changed(before, encoder) == []
    assert changed(decoder_before, decoder) != []
    assert held_by(trainer.optimizer, encoder) == 0
    assert len([seen for seen in model.seen if seen["decoder"]]) == 50
    assert {seen["encoder"] for seen in model.seen} == {0}
    assert {mode for seen in model.seen for mode in seen["modes"]} == {False}
    checkpoint = torch.load(Path(trainer.output_path) / "checkpoint_25.pth", weights_only=True)
    assert not [key for key in checkpoint["model"] if "encoder_loss" in key or key.startswith("speaker_encoder")]


def test_the_encoder_of_the_speaker_manager_is_frozen_too(tiny_config, coqui_files):
    model = SclVits(tiny_config({"encoders": [{"name": "ge2e"}]}, args=coqui_files["lstm"].stock_paths()))
    encoder = model.speaker_manager.encoder
    optimizers = model.get_optimizer()
    model.train()
    assert held_by(optimizers, encoder) == 0
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not any(key.startswith("speaker_encoder") for key in model.state_dict())
