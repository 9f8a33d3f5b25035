"""Work that is done once: what a start reads, builds, checks and hashes, and what a save compares."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import soundfile
from TTS.tts.datasets import dataset as coqui_dataset
from TTS.tts.datasets import formatters

import coqui_scl_plugin.consistency.build as build
import coqui_scl_plugin.coqui.run_config as run_config
import coqui_scl_plugin.coqui.train_tts as train_tts
import coqui_scl_plugin.coqui.vits_config as vits_config
from coqui_scl_plugin import SclVits
from coqui_scl_plugin.demo import corpus_files
from coqui_scl_plugin.freeze import drift_guard
from coqui_scl_plugin.preflight import encoders as encoder_checks
from coqui_scl_plugin.references import audio_header
from coqui_scl_plugin.utils import fingerprint


def counted(monkeypatch, module, name):
    """Count the calls of a function that a module imported: a list of their first arguments."""
    calls, original = [], getattr(module, name)

    def call(*arguments, **named):
        calls.append(arguments[0])
        return original(*arguments, **named)

    monkeypatch.setattr(module, name, call)
    return calls


def test_a_start_reads_hashes_and_builds_each_thing_once(tiny_config, tmp_path, monkeypatch):
    path, cache = tmp_path / "config.json", tmp_path / "references.safetensors"
    reference = {"source": "cross_utterance", "cache": str(cache)}
    tiny_config({"holdout": [{"name": "dvector"}], "reference": reference}, eval_split_size=4).save_json(path)
    monkeypatch.setattr(train_tts.CommandTrainer, "fit", lambda trainer: None)
    command = ["--config_path", str(path), "--small_run", "12"]
    train_tts.train(command)
    cached = cache.read_bytes()

    monkeypatch.setattr(audio_header, "_known", {})  # as another process begins
    built = counted(monkeypatch, build, "build_encoder_of")
    checked = counted(monkeypatch, vits_config, "check_config")
    read = counted(monkeypatch, run_config, "read_config_file")
    listed = counted(monkeypatch, formatters, "coqui")
    monkeypatch.setitem(formatters._FORMATTER_REGISTRY, "coqui", formatters.coqui)
    monkeypatch.setattr(coqui_dataset, "sf", SimpleNamespace(info=soundfile.info))  # what Coqui opens does not count
    opened = counted(monkeypatch, soundfile, "info")
    hashed_files, hashed_tensors = (
        counted(monkeypatch, hashlib, "file_digest"),
        counted(monkeypatch, fingerprint, "_digest"),
    )
    compared = counted(monkeypatch, encoder_checks, "moved_tensors")
    train_tts.train([*command, "--coqpit.run_name", "second"])

    assert [spec.label for spec in built] == ["ge2e", "dvector"]
    assert len(checked) == len(read) == len(listed) == 1
    rows = {sample["audio_file"] for sample in corpus_files.load_samples(corpus_files.BUNDLED)}
    assert sorted(opened) == sorted(map(str, rows))
    assert sorted(Path(file.name).name for file in hashed_files) == ["embedder.int8.onnx", "pretrained.pt"]
    weights = [tensor.data_ptr() for tensor in hashed_tensors if tensor.numel()]
    assert len(weights) == len(set(weights)) > 0
    assert len(compared) == 2
    assert cache.read_bytes() == cached


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
