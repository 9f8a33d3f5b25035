"""Runs that commit 421cd5f began continue and are evaluated; `tests/former_runs/make.py` says how they were made.

The tests look at what a user sees, and compare weights by value, since their names in a state dict may change.
"""

import csv
import importlib
import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
from quick_vits import QuickVits
from trainer import Trainer, TrainerArgs
from TTS.config import load_config
from TTS.tts.datasets import load_tts_samples

from coqui_scl_plugin import cli
from coqui_scl_plugin.plugins import registry

pytestmark = pytest.mark.usefixtures("one_thread")

FORMER = Path(__file__).parents[1] / "former_runs"
KINDS = ("plain", "ensemble", "trainable")
SAVED_AT, UNFREEZES_AT, END = 4, 7, 11
ROLES = {
    "plain": {"toy1": "training"},
    "ensemble": {"toy1": "training", "toy2": "training", "toy3": "holdout"},
    "trainable": {"toy1": "training"},
}
TRAINED = {
    "plain": ["speaker_encoder_loss.loss.metric"],
    "ensemble": [f"speaker_encoder_loss.loss.members.{alias}.metric" for alias in ("toy1", "toy2")],
    "trainable": ["speaker_encoder_loss.loss.metric", "speaker_encoder_loss.encoders.toy1.encoder.projection"],
}
"""Keys of a former checkpoint, beside those of Coqui's model."""


@pytest.fixture
def third_party(monkeypatch):
    """Register what the runs were trained with."""
    monkeypatch.syspath_prepend(FORMER)
    parts = importlib.import_module("former_third_party")
    for name, cls in parts.LOSSES.items():
        monkeypatch.setitem(registry.installed().losses, name, registry.Entry(cls, "a test"))
    for name, cls in parts.ENCODERS.items():
        monkeypatch.setitem(registry.installed().encoders, name, registry.Entry(cls, "a test"))
    with parts.small_duration_predictor():
        yield parts


@pytest.fixture
def run_folder(third_party, tmp_path):
    """Copy a run, with data beside it.

    The data differs slightly from what the run was trained on, so that a calibration measured anew would differ too.
    """
    third_party.write_speech(tmp_path / "speech", seed=1)

    def copy(kind, **fields):
        folder = tmp_path / kind
        shutil.copytree(FORMER / kind, folder)
        config = json.loads((folder / "config.json").read_text())
        config["datasets"][0]["path"] = str(tmp_path / "speech")
        config["output_path"] = str(tmp_path)
        config["speakers_file"] = config["model_args"]["speakers_file"] = str(folder / "speakers.pth")
        (folder / "config.json").write_text(json.dumps(config | fields))
        return folder

    return copy


def saved_in(folder):
    return torch.load(folder / f"checkpoint_{SAVED_AT}.pth", weights_only=True)


# --- continued --------------------------------------------------------------------------------------------------------


def continued(folder, **callbacks):
    """Set up Coqui's trainer as `--continue_path` does."""
    config = load_config(str(folder / "config.json"))
    train, evaluation = load_tts_samples(config, eval_split=True, eval_split_size=config.eval_split_size)
    return Trainer(
        TrainerArgs(continue_path=str(folder)), config, model=QuickVits(config), parse_command_line_args=False,
        train_samples=train, eval_samples=evaluation, callbacks=callbacks,
    )  # fmt: skip


def weight_of(weights, former):
    """Return the tensor with a former key; one of the loss or an encoder is found by its last name and its alias."""
    if not former.startswith("speaker_encoder_loss."):
        return weights[former]
    parts = former.split(".")
    wanted = {parts[-1], *(part for part in parts if part.startswith("toy"))}
    (name,) = (n for n in weights if n.startswith("speaker_encoder_loss.") and wanted <= set(n.split(".")))
    return weights[name]


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_loaded(run_folder, third_party, kind):
    folder = run_folder(kind)
    saved = saved_in(folder)["model"]
    assert [name for name in saved if name.startswith("speaker_encoder")] == TRAINED[kind]
    for name in TRAINED[kind]:
        start = third_party.BandEncoder(seed=1).projection if name.endswith("projection") else torch.ones(7)
        assert not torch.equal(saved[name], start)  # a weight that was not loaded must not look like one that was
    weights = continued(folder).model.state_dict()
    assert len(weights) == len(saved)
    for name, value in saved.items():
        assert torch.equal(weight_of(weights, name), value), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_optimizers_go_on(run_folder, kind):
    folder = run_folder(kind)
    optimizers = continued(folder).optimizer
    saved = saved_in(folder)["optimizer"]
    assert len(optimizers) == len(saved) == 2
    for optimizer, before in zip(optimizers, saved, strict=True):
        now = optimizer.state_dict()
        assert now["param_groups"] == before["param_groups"]
        assert now["state"].keys() == before["state"].keys()
        for index, moments in before["state"].items():
            for name, value in moments.items():
                assert torch.equal(now["state"][index][name], value), (index, name)
        for parameter, moments in optimizer.state.items():  # Coqui assigns by position, and PyTorch takes any shape
            assert moments["exp_avg"].shape == parameter.shape


@pytest.fixture
def finished(run_folder):
    """Continue a run for two epochs of three steps; return the trainer, and the weights at the start of each step."""

    def run(kind, **fields):
        weights = {}

        def note(trainer):
            own = {name: value.clone() for name, value in trainer.model.state_dict().items()}
            weights[trainer.total_steps_done] = own

        torch.manual_seed(0)
        folder = run_folder(kind, epochs=3, **fields)
        trainer = continued(folder, on_train_step_start=note)
        trainer.fit()
        note(trainer)
        return trainer, weights

    return run


def history_of(trainer):
    with (trainer.output_path / "scl_history.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def similarity_in(row, alias):
    """Return the uncalibrated similarity by an encoder, whatever its column is called."""
    (column,) = (c for c in row if c.endswith(f"_{alias}") and not c.startswith(("calibrated_", "scaled_")))
    return float(row[column])


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_goes_on_and_similarity_is_measured(finished, kind):
    trainer, weights = finished(kind)
    assert list(weights) == list(range(SAVED_AT + 1, END + 1))
    for name in TRAINED[kind]:
        assert not torch.equal(weight_of(weights[END], name), weight_of(weights[SAVED_AT + 1], name)), name
    evaluated = {int(row["step"]): row for row in history_of(trainer)}
    for step in (8, 11):
        assert all(-1 <= similarity_in(evaluated[step], alias) <= 1 for alias in ROLES[kind])
    later = torch.load(trainer.output_path / "checkpoint_8.pth", weights_only=True)["model"]
    assert later.keys() == weights[9].keys()
    for name, value in weights[9].items():  # Coqui saves at the end of a step
        assert torch.equal(later[name], value), name


def test_rules_hold_until_their_step(finished):
    trainer, weights = finished("ensemble")
    moved = {
        step: {
            part
            for part in ("text_encoder", "flow", "posterior_encoder.enc", "waveform_decoder")
            for name, value in weights[step].items()
            if name.startswith(f"{part}.") and not torch.equal(value, weights[step + 1][name])
        }
        for step in range(SAVED_AT + 1, END)
    }
    for step, parts in moved.items():
        assert parts == {"flow", "waveform_decoder", *(["text_encoder"] if step >= UNFREEZES_AT else [])}, step
    base, scaled = (group["lr"] for group in trainer.optimizer[1].param_groups)
    assert scaled == pytest.approx(0.5 * base)


def test_what_was_measured_of_real_speech_is_not_measured_anew(finished):
    trainer, _ = finished("ensemble")
    before, now = (
        json.loads((folder / "config.json").read_text())["scl"] for folder in (FORMER / "ensemble", trainer.output_path)
    )
    for role, count in (("encoders", 2), ("holdout", 1)):
        known, kept = ([(e["floor"], e["ceiling"]) for e in scl[role]] for scl in (before, now))
        assert known == kept
        assert len(known) == count


@pytest.mark.parametrize("target", ["secs_toy3", "distance_secs_toy3"])
def test_the_target_is_the_held_out_similarity(finished, target):
    """The second is what the config in a former checkpoint says."""
    trainer, _ = finished("ensemble", target_loss=target)
    distance = 1 - similarity_in(history_of(trainer)[-1], "toy3")
    assert trainer.keep_avg_eval[f"avg_{trainer.config.target_loss}"] == pytest.approx(distance, abs=1e-6)


# --- evaluated --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_evaluated(run_folder, tmp_path, monkeypatch, kind):
    folder = run_folder(kind)
    arguments = ["evaluate", str(folder), "--synthesis", "reconstruction", "--resamples", "99", "--out", "out"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["coqui-scl", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert found["source"]["checkpoint"] == f"checkpoint_{SAVED_AT}.pth"
    assert {alias: encoder["role"] for alias, encoder in found["encoders"].items()} == ROLES[kind]
    for encoder in found["encoders"].values():
        assert math.isfinite(encoder["secs"]["mean"])
    made = found["recordings"]["synthetic"]
    held_out = json.loads((folder / "evaluation_set.json").read_text())
    assert sorted(recording["reference"] for recording in made) == held_out
    assert all((tmp_path / recording["path"]).is_file() for recording in made)
