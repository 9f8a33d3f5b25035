"""Losses on feature maps, sums of losses, and losses that stop at the ceiling, in runs through Coqui's trainer."""

import json

import pytest
import torch
from quick_vits import QuickVits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from coqui_scl_plugin.errors import PreflightError

pytestmark = pytest.mark.usefixtures("one_thread")

STOPPING = {"name": "cosine", "params": {"stop_at_ceiling": True}}
EVERY_STEP = {"check_every": 1}


def logged(trainer) -> dict[str, list[float]]:
    events = EventAccumulator(str(trainer.output_path), size_guidance={"scalars": 0}).Reload()
    tags = {tag.rpartition("/")[2]: tag for tag in events.Tags()["scalars"] if "TrainIter" in tag}
    return {name: [event.value for event in events.Scalars(tag)] for name, tag in tags.items()}


def written_encoders(trainer) -> list[dict]:
    return json.loads((trainer.output_path / "config.json").read_text())["scl"]["encoders"]


def decoder_gradient(trainer, batch) -> torch.Tensor:
    """The gradient of the term alone at the generated waveform."""
    model, criteria = trainer.model, trainer.model.get_criterion()
    model.train_step(batch, criteria[0], 0)
    outputs, losses = model.train_step(batch, criteria[1], 1)
    return torch.autograd.grad(losses["loss_spk_encoder"], outputs["model_outputs"])[0]


def test_a_run_on_features_alone_embeds_no_recording(tiny_config, make_trainer, coqui_files, tmp_path, batch_of):
    encoder = {"name": "coqui", "params": coqui_files["resnet"].params()}
    section = {"encoders": [encoder], "loss": {"name": "features"}, "freeze": EVERY_STEP, "weight": 2.0}
    section["reference"] = {"source": "centroid", "cache": str(tmp_path / "cache.safetensors")}
    trainer = make_trainer(QuickVits(tiny_config(section)), count=8)
    trainer.fit()
    values = logged(trainer)
    assert len(values["loss_spk_encoder"]) == 2
    assert all(value > 0 for value in values["loss_spk_encoder"])
    assert not any(name.startswith(("reference_cosine", "calibrated")) for name in values)
    assert not (tmp_path / "cache.safetensors").exists()
    gradient = decoder_gradient(trainer, batch_of(trainer.model))
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).norm(dim=1) > 0).all()


def test_a_sum_on_one_encoder_and_a_cosine_on_another(tiny_config, make_trainer, coqui_files):
    section = {
        "encoders": [{"name": "coqui", "params": coqui_files["resnet"].params()}, {"name": "ge2e", "weight": 3.0}],
        "loss": {"name": "ensemble", "params": {"members": {"coqui": {"features": 1, "cosine": 0.5}}}},
        "freeze": EVERY_STEP,
        "weight": 2.0,
    }
    trainer = make_trainer(QuickVits(tiny_config(section)), count=8)
    trainer.fit()
    values = logged(trainer)
    for step in range(2):
        members = {alias: values[f"loss_spk_encoder_{alias}"][step] for alias in ("coqui", "ge2e")}
        expected = 2.0 * (members["coqui"] + 3 * members["ge2e"]) / 4
        assert values["loss_spk_encoder"][step] == pytest.approx(expected, rel=1e-4)
        calibrated = {alias: values[f"calibrated_reference_cosine_{alias}"][step] for alias in members}
        assert members["ge2e"] == pytest.approx(1 - calibrated["ge2e"], abs=1e-4)
        assert members["coqui"] > 0.5 * (1 - calibrated["coqui"])  # by the features
        assert "reference_cosine_coqui" in values


def test_beyond_the_ceiling_a_run_goes_on_without_a_gradient_of_the_term(tiny_config, make_trainer, batch_of):
    encoder = {"name": "ge2e", "floor": -1.0, "ceiling": -0.5}
    section = {"encoders": [encoder], "loss": STOPPING, "freeze": EVERY_STEP, "weight": 2.0}
    trainer = make_trainer(QuickVits(tiny_config(section)), count=8)
    trainer.fit()
    assert trainer.total_steps_done == 2
    assert logged(trainer)["loss_spk_encoder"] == pytest.approx([3.0, 3.0], rel=1e-6)
    assert not decoder_gradient(trainer, batch_of(trainer.model)).any()


def test_below_the_ceiling_a_gradient_that_stops_arriving_still_ends_the_run(tiny_config, make_trainer, capsys):
    def cut(trainer):
        encoder = trainer.model.speaker_encoder_loss.encoders["ge2e"].encoder
        encoder.forward = torch.no_grad()(encoder.forward)

    encoder = {"name": "ge2e", "floor": 0.0, "ceiling": 0.999}
    section = {"encoders": [encoder], "loss": STOPPING, "freeze": EVERY_STEP}
    trainer = make_trainer(QuickVits(tiny_config(section)), count=12, callbacks={"on_train_step_end": cut})
    with pytest.raises(SystemExit):
        trainer.fit()
    assert "sent no gradient" in capsys.readouterr().err


def test_the_ceiling_is_measured_before_step_1_and_rescales_nothing(tiny_config, make_trainer):
    trainer = make_trainer(QuickVits(tiny_config({"loss": STOPPING, "weight": 2.0})), count=8)
    trainer.fit()
    (written,) = written_encoders(trainer)
    assert 0.3 < written["floor"] < written["ceiling"] < 1
    values = logged(trainer)
    cosines = values["reference_cosine_ge2e"]
    assert max(cosines) < written["ceiling"]
    assert values["loss_spk_encoder"] == pytest.approx([2 * (1 - cosine) for cosine in cosines], rel=1e-4)


def test_too_few_speakers_to_measure_the_ceiling_stop_the_run(tiny_config, make_trainer):
    with pytest.raises(PreflightError, match=r"stop_at_ceiling measures .*or set stop_at_ceiling to false"):
        make_trainer(QuickVits(tiny_config({"loss": STOPPING})), count=4, speakers={"slt"})
