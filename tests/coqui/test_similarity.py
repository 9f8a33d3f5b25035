"""What a run says of similarity at each evaluation, and when it warns."""

import csv
import json
import logging

import pytest
import soundfile
import torch
from quick_vits import QuickVits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainer import TrainerArgs
from TTS.utils.audio.torch_transforms import wav_to_spec

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.errors import PreflightError

GAMED = {f"{part}_loss_alpha": 0.0 for part in ("mel", "gen", "feat", "kl", "dur")}
"""Weights that leave the speaker consistency loss alone."""


def history(trainer):
    with (trainer.output_path / "scl_history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Of embeddings, so that the runs embed each recording once."""
    return str(tmp_path_factory.mktemp("cache") / "references.safetensors")


@pytest.fixture
def evaluated(tiny_config, make_trainer, cache, one_thread):
    """Train and evaluate for some epochs of some steps."""

    def run(epochs, steps, scl=None, model=QuickVits, **fields):
        torch.manual_seed(0)
        section = {"holdout": [{"name": "dvector"}], "reference": {"cache": cache}, **(scl or {})}
        config = tiny_config(section, **{"run_eval": True, "epochs": epochs, **fields})
        trainer = make_trainer(model(config), count=4 * steps)
        trainer.fit()
        return trainer

    return run


@torch.no_grad()
def expected_similarity(model, samples, held_out, name):
    """Mean cosine of copies, through the posterior mean, with the speaker's recordings to train on."""
    encoder, audio = build_encoder(name).eval(), model.config.audio
    cosines = []
    for sample in held_out:
        waveform = torch.from_numpy(soundfile.read(sample["audio_file"], dtype="float32")[0])
        spec = wav_to_spec(waveform[None, None], audio.fft_size, audio.hop_length, audio.win_length, center=False)
        voice = model.emb_g(torch.tensor([model.speaker_manager.name_to_id[sample["speaker_name"]]]))[..., None]
        _, mean, _, mask = model.posterior_encoder(spec, torch.tensor([spec.shape[-1]]), g=voice)
        (copy,) = encoder(model.waveform_decoder(mean * mask, g=voice)[0])
        own = [s for s in samples if s["speaker_name"] == sample["speaker_name"]]
        others = [s for s in own if s["audio_file"] != sample["audio_file"]]
        for other in others:
            real = torch.from_numpy(soundfile.read(other["audio_file"], dtype="float32")[0])
            cosines.append(float(copy @ encoder(real[None])[0]) / len(others))
    return sum(cosines) / len(held_out)


def test_history_console_and_tensorboard_tell_the_similarity_of_copies(evaluated, capsys):
    trainer = evaluated(2, 2, {"evaluation": {"max_seconds": 60.0}})
    rows = history(trainer)
    assert [(row["step"], row["epoch"], row["flags"]) for row in rows] == [("2", "0", ""), ("4", "1", "")]
    kept = json.loads((trainer.output_path / "evaluation_set.json").read_text())
    assert kept == sorted(sample["audio_unique_name"] for sample in trainer.eval_samples)
    for name in ("ge2e", "dvector"):
        expected = expected_similarity(trainer.model.eval(), trainer.train_samples, trainer.eval_samples, name)
        measured = float(rows[1][f"cross_utterance_{name}"])
        assert measured == pytest.approx(expected, abs=2e-3)  # recordings in the cache are cut by up to 2 %
        level = next(s for s in (*trainer.config.scl.encoders, *trainer.config.scl.holdout) if s.label == name)
        calibrated = (measured - level.floor) / (level.ceiling - level.floor)
        assert float(rows[1][f"calibrated_cross_utterance_{name}"]) == pytest.approx(calibrated, abs=1e-4)
        assert trainer.keep_avg_eval[f"avg_cross_utterance_{name}"] == pytest.approx(measured, abs=1e-6)
        assert trainer.keep_avg_eval[f"avg_calibrated_cross_utterance_{name}"] == pytest.approx(calibrated, abs=1e-4)
    shown = capsys.readouterr().out
    assert "ge2e, training" in shown
    assert "dvector, held-out" in shown

    events = EventAccumulator(str(trainer.output_path), size_guidance={"images": 0}).Reload()
    for name in ("cross_utterance_ge2e", "calibrated_cross_utterance_ge2e", "cross_utterance_dvector"):
        logged = [event.value for event in events.Scalars(f"SpeakerSimilarity/{name}")]
        assert logged == pytest.approx([float(row[name]) for row in rows], abs=1e-5)
    assert len(events.Images("SpeakerSimilarity/history")) == 2


def test_an_encoder_that_trains_along_judges_as_it_was(evaluated):
    trainer = evaluated(1, 6, {"encoders": [{"name": "ge2e", "policy": "trainable"}]}, lr_gen=2e-3)
    model = trainer.model.eval()
    trained = model.speaker_encoder_loss.encoders["ge2e"].encoder
    assert any(
        not torch.equal(own, trained.state_dict()[key]) for key, own in build_encoder("ge2e").state_dict().items()
    )
    (row,) = history(trainer)
    expected = expected_similarity(model, trainer.train_samples, trainer.eval_samples, "ge2e")
    assert float(row["cross_utterance_ge2e"]) == pytest.approx(expected, abs=2e-3)


@pytest.mark.nightly
def test_a_run_that_games_its_encoder_is_flagged(evaluated, caplog):
    rows = history(evaluated(5, 10, lr_gen=2e-3, **GAMED))
    first, last = (
        {name: float(row[f"cross_utterance_{name}"]) for name in ("ge2e", "dvector")} for row in (rows[0], rows[-1])
    )
    assert last["ge2e"] - first["ge2e"] > 0.02
    assert last["dvector"] - first["dvector"] < 0.01
    assert "training encoders rise and held-out encoders do not" in rows[-1]["flags"]
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert any(message == f"At step 50: {rows[-1]['flags']}." for message in warned)


@pytest.mark.nightly
def test_a_sound_run_is_not_flagged(evaluated):
    rows = history(evaluated(5, 10, lr_gen=2e-3))
    assert len(rows) == 5
    assert not any(row["flags"] for row in rows)


@pytest.mark.parametrize("target", ["cross_utterance_dvector", "secs_dvector"])  # the latter is the former name
def test_the_best_model_is_chosen_by_a_held_out_similarity(evaluated, target):
    trainer = evaluated(3, 2, target_loss=target, save_best_after=0, save_checkpoints=True, lr_gen=2e-3)
    rows = history(trainer)
    best = max(rows, key=lambda row: float(row["cross_utterance_dvector"]))
    found = {path.name for path in trainer.output_path.glob("best_model_*.pth")}
    assert found == {f"best_model_{best['step']}.pth"}
    state = torch.load(trainer.output_path / "best_model.pth", weights_only=True)
    assert state["model_loss"]["eval_loss"] == pytest.approx(1 - float(best["cross_utterance_dvector"]), abs=1e-6)


def test_a_run_that_goes_on_keeps_its_history(evaluated, make_trainer):
    trainer = evaluated(1, 3, save_checkpoints=True, save_step=3, save_best_after=0)
    (first,) = history(trainer)
    config = trainer.config
    config.epochs = 2
    torch.manual_seed(0)
    args = TrainerArgs(continue_path=str(trainer.output_path))
    again = make_trainer(QuickVits(config), count=12, args=args)
    again.config.epochs = 2
    again.fit()
    rows = history(again)
    assert rows[0] == first
    assert [row["step"] for row in rows][1:] == [str(again.total_steps_done)]


@pytest.mark.parametrize(
    ("fields", "scl", "message"),
    [
        (
            {"target_loss": "cross_utterance_dvectr"},
            {},
            r"target_loss = 'cross_utterance_dvectr'.*Did you mean 'dvector'",
        ),
        ({"target_loss": "cross_utterance_dvector", "run_eval": False}, {}, "run_eval is false"),
        ({"target_loss": "secs_dvector"}, {"enabled": False, "weight": 0.0}, "scl.enabled is false"),
    ],
)
def test_a_target_that_is_not_measured_is_found_before_step_1(evaluated, fields, scl, message):
    with pytest.raises(PreflightError, match=message):
        evaluated(1, 1, scl, **fields)


def test_a_training_encoder_as_target_is_a_warning(evaluated):
    trainer = evaluated(1, 1, target_loss="cross_utterance_ge2e")
    checks = json.loads((trainer.output_path / "preflight.json").read_text())["checks"]
    (target,) = [check for check in checks if check["id"] == "target"]
    assert target["status"] == "warning"
    assert "trains against this encoder" in str(target)
