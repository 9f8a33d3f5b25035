"""Work that is done once: encoders that are built, a section that is checked, tensors that are hashed and compared."""

import coqui_scl_plugin.consistency.build as build
import coqui_scl_plugin.coqui.train_tts as train_tts
import coqui_scl_plugin.coqui.vits_config as vits_config
from coqui_scl_plugin import SclVits
from coqui_scl_plugin.freeze import drift_guard


def counted(monkeypatch, module, name):
    """Count the calls of a function that a module imported: a list of their first arguments."""
    calls, original = [], getattr(module, name)

    def call(*arguments):
        calls.append(arguments[0])
        return original(*arguments)

    monkeypatch.setattr(module, name, call)
    return calls


def test_train_builds_each_encoder_once_and_checks_the_section_once(tiny_config, tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    tiny_config({"holdout": [{"name": "dvector"}]}, eval_split_size=4).save_json(path)
    monkeypatch.setattr(train_tts.CommandTrainer, "fit", lambda trainer: None)
    built = counted(monkeypatch, build, "build_encoder_of")
    checked = counted(monkeypatch, vits_config, "check_config")
    train_tts.train(["--config_path", str(path), "--small_run", "4"])
    assert [spec.label for spec in built] == ["ge2e", "dvector"]
    assert len(checked) == 1


def test_a_section_that_changed_is_checked_again(tiny_config, monkeypatch):
    config = tiny_config({"weight": 2.0})
    checked = counted(monkeypatch, vits_config, "check_config")
    SclVits(config)
    assert checked == []
    config.scl.encoders[0].params["model_path"] = None
    SclVits(config)
    assert len(checked) == 1


def test_counting_weights_compares_nothing_and_saving_does(tiny_config, make_trainer, monkeypatch):
    trainer = make_trainer(SclVits(tiny_config()), count=4)
    compared = counted(monkeypatch, drift_guard, "moved_tensors")
    assert sum(tensor.numel() for tensor in trainer.model.state_dict().values()) > 0
    assert compared == []
    trainer.save_checkpoint()
    assert compared == [trainer.model.speaker_encoder_loss.encoders["ge2e"]]
