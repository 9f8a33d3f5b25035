"""A run through Coqui's trainer: what it logs, saves, continues, and hands to stock."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainer import TrainerArgs
from TTS.config import load_config
from TTS.tts.models.vits import Vits

from coqui_scl_plugin import SclVits
from coqui_scl_plugin.errors import ConfigError


def scalars(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_an_ensemble_is_logged_member_by_member(tiny_config, make_trainer):
    section = {
        "encoders": [{"name": "ge2e"}, {"name": "dvector"}],
        "loss": {"name": "ensemble", "params": {"member": {"name": "angular_margin"}}},
    }
    trainer = make_trainer(SclVits(tiny_config(section)), count=8)
    trainer.fit()
    logged = scalars(trainer.output_path)
    console = (trainer.output_path / "trainer_0_log.txt").read_text()
    for name in (
        "loss_spk_encoder",
        "reference_cosine_ge2e",
        "reference_cosine_dvector",
        "loss_spk_encoder_ge2e",
        "loss_spk_encoder_dvector",
    ):
        (tag,) = [tag for tag in logged if tag.endswith(f"/{name}") and "TrainIter" in tag]
        assert len(logged[tag]) == 2
        assert console.count(f" | > {name}: ") == 2
    steps = {tag.rpartition("/")[2]: values for tag, values in logged.items() if "TrainIter" in tag}
    for total, *members in zip(
        steps["loss_spk_encoder"], steps["loss_spk_encoder_ge2e"], steps["loss_spk_encoder_dvector"], strict=True
    ):
        assert total == pytest.approx(9.0 * sum(members) / 2, rel=1e-4)


def test_the_weight_follows_its_schedule(tiny_config, make_trainer):
    trainer = make_trainer(SclVits(tiny_config({"weight": 8.0, "start_step": 1, "ramp_steps": 2})), count=16)
    trainer.fit()
    logged = scalars(trainer.output_path)
    steps = {tag.rpartition("/")[2]: values for tag, values in logged.items() if "TrainIter" in tag}
    assert steps["scl_listens"] == [0.0, 1.0, 1.0, 1.0]
    weights = [t / (1 - s) for t, s in zip(steps["loss_spk_encoder"], steps["reference_cosine_ge2e"], strict=True)]
    assert weights == pytest.approx([4.0, 8.0, 8.0], rel=1e-4)


def test_held_out_encoders_are_heard_in_evaluation_alone(tiny_config, make_trainer):
    trainer = make_trainer(SclVits(tiny_config({"holdout": [{"name": "dvector"}]}, run_eval=True)), count=8)
    trainer.fit()
    tags = scalars(trainer.output_path)
    assert any(tag.endswith("cross_utterance_dvector") for tag in tags)
    assert not any("Train" in tag and "dvector" in tag for tag in tags)


def test_a_run_continues_where_it_ended(tiny_config, make_trainer):
    config = tiny_config(save_checkpoints=True, save_step=1)
    first = make_trainer(SclVits(config), count=8)
    first.fit()
    folder = str(first.output_path)
    assert json.loads((Path(folder) / "config.json").read_text())["scl"]["encoders"][0]["name"] == "ge2e"
    again = load_config(f"{folder}/config.json")
    assert again.scl == config.scl
    again.epochs = 2
    trainer = make_trainer(SclVits(again), count=8, args=TrainerArgs(continue_path=folder))
    assert trainer.optimizer[1].state_dict()["state"]  # restored: the weights fitted without exception
    assert trainer.total_steps_done == 2
    saved = torch.load(f"{folder}/checkpoint_1.pth", weights_only=True)["model"]
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, saved[name]), name


def test_stock_loads_the_checkpoint(tiny_config, tiny_stock_config, make_trainer, tmp_path):
    model = SclVits(tiny_config())
    model.parts.build_consistency()
    model.speaker_encoder_loss.loss.members["ge2e"].own_weight = torch.nn.Parameter(torch.ones(3))
    assert "speaker_encoder_loss.loss.members.ge2e.own_weight" in model.state_dict()
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    config = tiny_stock_config()
    stock = Vits(config)
    stock.load_checkpoint(config, str(tmp_path / "model.pth"), eval=True, strict=True)
    for name, value in stock.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_a_stock_checkpoint_is_a_start(tiny_config, tiny_stock_config, make_trainer, tmp_path):
    stock = Vits(tiny_stock_config())
    torch.save({"model": stock.state_dict(), "step": 7, "epoch": 1}, tmp_path / "start.pth")
    args = TrainerArgs(restore_path=str(tmp_path / "start.pth"))
    trainer = make_trainer(SclVits(tiny_config()), count=8, args=args)
    assert trainer.total_steps_done == 0
    for name, value in stock.state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[name]), name


def test_inference_needs_no_encoder(tiny_config):
    missing = {"encoders": [{"name": "ge2e", "params": {"model_path": "nowhere/at_all.pt"}}]}
    model = SclVits(tiny_config(missing)).eval()
    spoken = model.synthesize("good morning", speaker="slt")
    assert len(spoken["wav"]) > 0


def test_a_loss_with_weights_trains_them(tiny_config, make_trainer):
    model = SclVits(tiny_config())
    model.parts.build_consistency()
    members = model.speaker_encoder_loss.loss.members
    loss = members["ge2e"]
    members.pop("ge2e")

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, *args, **kwargs):
            return loss(*args, **kwargs) * self.scale

    members["ge2e"] = Scaled()
    trainer = make_trainer(model, count=8)
    trainer.fit()
    assert members["ge2e"].scale.item() != 2.0
    assert "speaker_encoder_loss.loss.members.ge2e.scale" in model.state_dict()


def test_a_stock_config_object_is_taken_if_it_names_the_model(tiny_stock_config, coqui_files):
    files = coqui_files["lstm"]
    model = SclVits(tiny_stock_config(args=files.stock_loss(), model="scl_vits", speaker_encoder_loss_alpha=3.0))
    assert model.config.scl.weight == 3.0
    assert model.config.scl.encoders[0].params == files.params()
    with pytest.raises(ConfigError, match="needs an SclVitsConfig, got VitsConfig"):
        SclVits(tiny_stock_config())
