"""A run that would train something else than its config says does not start, and says why."""

import json
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from trainer import Trainer, TrainerArgs

from coqui_scl_plugin import SclVits, SclVitsConfig
from coqui_scl_plugin.cli import main
from coqui_scl_plugin.coqui import dry_run
from coqui_scl_plugin.errors import ConfigError, PreflightError
from coqui_scl_plugin.preflight.checks import IDS
from coqui_scl_plugin.utils.fingerprint import named_tensors


def runs_left(config):
    root = Path(config.output_path)
    return [path for path in root.glob("*") if path.is_dir()]


def with_broken_encoder(config, break_it):
    """A model whose encoder `break_it` has had its way with, as a third party's might come."""
    model = SclVits(config)
    model.parts.build_consistency()
    break_it(model.speaker_encoder_loss.encoders["ge2e"].encoder)
    return model


def without_gradient(encoder):
    forward = encoder.forward
    encoder.forward = torch.no_grad()(forward)


def detached(encoder):
    forward = encoder.forward
    encoder.forward = lambda waveform: forward(waveform).detach()


def through_numpy(encoder):
    forward = encoder.forward
    encoder.forward = lambda waveform: forward(torch.from_numpy(waveform.detach().numpy()))


def zeroed(encoder):
    forward = encoder.forward
    encoder.forward = lambda waveform: forward(waveform * 0.0 + 0.1)


def not_finite(encoder):
    forward = encoder.forward
    encoder.forward = lambda waveform: forward(waveform) + (waveform * 0.0).sqrt().sum()


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (without_gradient, "No gradient reaches"),
        (detached, "No gradient reaches"),
        (through_numpy, "No gradient reaches"),
        (zeroed, "is 0"),
        (not_finite, "not finite"),
    ],
)
def test_an_encoder_that_passes_no_gradient(tiny_config, make_trainer, break_it, says):
    config = tiny_config()
    model = with_broken_encoder(config, break_it)
    with pytest.raises(PreflightError, match=says) as caught:
        make_trainer(model)
    assert "'ge2e'" in str(caught.value)
    assert runs_left(config) == []


def test_a_generator_that_is_frozen_as_a_whole(tiny_config, make_trainer):
    config = tiny_config()
    model = SclVits(config)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("disc."))
    with pytest.raises(PreflightError, match="whole generator is frozen"):
        make_trainer(model)


def test_an_optimizer_that_holds_the_encoder(tiny_config, make_trainer):
    class Careless(SclVits):
        def get_optimizer(self):
            discriminator, generator = super().get_optimizer()
            generator.add_param_group({"params": list(self.speaker_encoder_loss.encoders.parameters())})
            return [discriminator, generator]

    config = tiny_config()
    with pytest.raises(PreflightError, match=r"Optimizer 1 holds 14 parameters .*'ge2e'"):
        make_trainer(Careless(config))
    assert runs_left(config) == []


@pytest.mark.parametrize("loss", ["angular_margin", "contrastive"])
def test_a_loss_with_negatives_and_one_speaker(tiny_config, make_trainer, loss):
    config = tiny_config({"loss": {"name": loss}})
    with pytest.raises(PreflightError, match="at least 2 speakers"):
        make_trainer(SclVits(config), speakers={"slt"})
    config = tiny_config({"loss": {"name": loss}}, batch_size=1)
    with pytest.raises(PreflightError, match="batch_size is 1"):
        make_trainer(SclVits(config))
    assert runs_left(config) == []


def test_recordings_that_share_a_name(tiny_config, make_trainer, samples):
    twins = [dict(sample, audio_unique_name="twin") for sample in samples[:2]]
    with pytest.raises(PreflightError, match="share the name 'twin'"):
        make_trainer(SclVits(tiny_config()), train_samples=twins)


def test_a_sound_run_starts_and_shows_its_modules(tiny_config, make_trainer, capsys):
    make_trainer(SclVits(tiny_config()))
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if "speaker encoder ge2e" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][1:] == ["1,423,616", "frozen", "none", "eval"]
    assert "gradient norm at the generated waveform: ge2e" in shown
    _, _, reach = shown.partition("What the gradient of the speaker consistency loss reaches")
    row = next(line for line in reach.splitlines() if "flow" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["flow", "none", "yes", "yes"]


def test_the_check_leaves_random_numbers_as_they_were(tiny_config, make_trainer):
    drawn = []
    for enabled in (True, False):
        make_trainer(SclVits(tiny_config({"enabled": enabled})))  # the trainer seeds
        drawn.append(torch.rand(4))
    assert torch.equal(*drawn)


def norm_in_eval(encoder):
    """Statistics that move in eval mode too."""
    encoder.register_buffer("mean", torch.zeros(1))
    encoder.register_buffer("variance", torch.ones(1))
    forward = encoder.forward
    encoder.forward = lambda waveform: forward(
        torch.nn.functional.batch_norm(waveform.unsqueeze(1), encoder.mean, encoder.variance, training=True).squeeze(1)
    )


def raises(encoder):
    def refuse(waveform):
        raise TypeError("a spectrogram, please")

    encoder.forward = refuse


def test_every_check_that_fails_is_named(tiny_config, make_trainer):
    config = tiny_config({"enabled": True, "loss": {"name": "angular_margin"}}, batch_size=1, run_eval=True)
    model = with_broken_encoder(config, norm_in_eval)
    with pytest.raises(PreflightError) as caught:
        make_trainer(model, eval_samples=[])
    said = str(caught.value)
    assert said.startswith("3 checks failed.\n")
    for id_ in ("speakers", "evaluation-set", "eval-mode"):
        assert f"(check {id_!r})" in said
    assert "--skip speakers --skip evaluation-set --skip eval-mode" in said
    assert runs_left(config) == []


def test_a_check_that_is_skipped_is_recorded(tiny_config, make_trainer):
    config = tiny_config({"preflight": {"skip": ["gradient", "holdout"]}})
    make_trainer(with_broken_encoder(config, detached))
    (run,) = runs_left(config)
    report = json.loads((run / "preflight.json").read_text())
    assert (report["skip"], report["step"], report["passed"]) == (["gradient", "holdout"], 0, True)
    results = {check["id"]: check for check in report["checks"]}
    assert set(results) == set(IDS)
    assert {id_ for id_, check in results.items() if check["status"] != "passed"} == {"gradient", "reach"}
    assert results["gradient"]["status"] == "skipped"
    assert "No gradient reaches" in results["gradient"]["findings"][0]["found"]
    assert json.loads((run / "config.json").read_text())["scl"]["preflight"] == {"skip": ["gradient", "holdout"]}


def test_a_check_that_does_not_exist_cannot_be_skipped(tiny_config):
    with pytest.raises(ConfigError, match=r"scl\.preflight\.skip = 'gradeint': .*Did you mean 'gradient'"):
        SclVits(tiny_config({"preflight": {"skip": ["gradeint"]}}))


def test_an_encoder_that_raises_what_it_likes_leaves_no_run(tiny_config, make_trainer):
    config = tiny_config()
    with pytest.raises(PreflightError, match="'ge2e' fails on noise: a spectrogram, please"):
        make_trainer(with_broken_encoder(config, raises))
    assert runs_left(config) == []


def test_an_error_that_no_check_expects_is_reported_and_leaves_no_run(tiny_config, make_trainer):
    class Careless(SclVits):
        def forward(self, *args, **kwargs):
            raise ZeroDivisionError("division by zero")

    config = tiny_config()
    with pytest.raises(
        PreflightError, match="The check gradient could not be run: ZeroDivisionError: division"
    ) as caught:
        make_trainer(Careless(config))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert runs_left(config) == []


def test_checks_leave_encoders_as_they_were(tiny_config, make_trainer):
    def kept(model):
        return {name: t.detach().clone() for name, t in named_tensors(model.speaker_encoder_loss).items()}

    section = {
        "encoders": [{"name": "ge2e"}, {"name": "dvector", "policy": "trainable"}],
        "loss": {"name": "ensemble", "params": {"calibrate": False}},
        "reference": {"source": "segment"},
        "preflight": {"skip": ["eval-mode"]},
    }
    model = SclVits(tiny_config(section))
    model.parts.build_consistency()
    consistency = model.speaker_encoder_loss
    norm_in_eval(consistency.encoders["ge2e"].encoder)
    trained = consistency.encoders["dvector"].encoder
    trained.norm = torch.nn.BatchNorm1d(1)
    forward = trained.forward
    trained.forward = lambda waveform: forward(0.1 * trained.norm(waveform.unsqueeze(1)).squeeze(1))
    before = kept(model)
    make_trainer(model)
    after = kept(model)
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved == set()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert trained.norm.training


def test_a_holdout_check_leaves_encoders_that_train_as_they_were(tiny_config, make_trainer):
    section = {"encoders": [{"name": "ge2e", "policy": "trainable"}], "holdout": [{"name": "dvector"}]}
    model = SclVits(tiny_config(section))
    model.parts.build_consistency()
    trained = model.speaker_encoder_loss.encoders["ge2e"].encoder
    trained.norm = torch.nn.BatchNorm1d(1)
    forward = trained.forward
    trained.forward = lambda waveform: forward(0.1 * trained.norm(waveform.unsqueeze(1)).squeeze(1))
    make_trainer(model)
    assert trained.norm.training
    assert float(trained.norm.num_batches_tracked) == 0.0
    assert torch.equal(trained.norm.running_var, torch.ones(1))


def continued(run, **changes):
    """A run in the folder of another one, with changes of its section."""
    config = SclVitsConfig()
    plain = json.loads((run / "config.json").read_text())
    plain["scl"] |= changes
    config.from_dict(plain)
    (run / "config.json").write_text(json.dumps(plain))
    return SclVits(config)


def test_a_run_that_goes_on_with_other_rules(tiny_config, make_trainer):
    config = tiny_config(save_checkpoints=True, save_step=1)
    trainer = make_trainer(SclVits(config), count=12)
    trainer.fit()
    (run,) = runs_left(config)
    sound = make_trainer(continued(run), args=TrainerArgs(continue_path=str(run)))
    assert sound.total_steps_done > 0
    report = json.loads((run / "preflight.json").read_text())
    assert {check["status"] for check in report["checks"]} == {"passed"}
    model = continued(run, freeze={"modules": [{"pattern": "text_encoder"}]})
    with pytest.raises(PreflightError, match="optimizer of the generator") as caught:
        make_trainer(model, args=TrainerArgs(continue_path=str(run)))
    assert "(check 'optimizer-state')" in str(caught.value)
    assert list(run.glob("*.pth"))


class Letters:
    """A phonemizer that spells."""

    def __init__(self):
        self.asked = 0

    def phonemize(self, text, **_):
        self.asked += 1
        return text

    def name(self):
        return "letters"

    def print_logs(self, level):
        pass


class Spelling(SclVits):
    """Reads letters as phonemes."""

    letters = Letters()

    def __init__(self, config):
        super().__init__(config)
        self.tokenizer.use_phonemes, self.tokenizer.phonemizer = True, self.letters


def test_checks_leave_the_cache_of_phonemes_alone(tiny_config, make_trainer, tmp_path):
    """Coqui takes a cache that is there to be complete."""
    config = tiny_config(phoneme_cache_path=str(tmp_path / "phonemes"))
    before = Spelling.letters.asked
    make_trainer(Spelling(config))
    assert Spelling.letters.asked > before
    assert not (tmp_path / "phonemes").exists()
    assert config.phoneme_cache_path == str(tmp_path / "phonemes")


def test_the_command_leaves_the_cache_of_phonemes_alone(tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dry_run, "SclVits", Spelling)
    fields = {"phoneme_cache_path": str(tmp_path / "phonemes"), "eval_split_size": 4}
    tiny_config(**fields).save_json(tmp_path / "config.json")
    before = Spelling.letters.asked
    monkeypatch.setattr(
        sys, "argv", ["coqui-scl", "preflight", "--config_path", str(tmp_path / "config.json"), "--json"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert Spelling.letters.asked > before
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_restored_run_without_a_discriminator(tiny_config, make_trainer, tmp_path):
    config = tiny_config()
    weights = SclVits(config).state_dict()
    for name, left_out in (("whole", "nothing"), ("generator", "disc.")):
        model = {key: value for key, value in weights.items() if not key.startswith(left_out)}
        path = tmp_path / f"{name}.pth"
        torch.save({"model": model, "step": 3, "epoch": 0, "optimizer": [], "model_loss": 1.0}, path)
    make_trainer(SclVits(config), args=TrainerArgs(restore_path=str(tmp_path / "whole.pth")))
    (run,) = runs_left(config)
    report = json.loads((run / "preflight.json").read_text())
    assert {check["status"] for check in report["checks"]} == {"passed"}
    with pytest.raises(PreflightError, match=r"generator\.pth has no discriminator weights") as caught:
        make_trainer(SclVits(config), args=TrainerArgs(restore_path=str(tmp_path / "generator.pth")))
    assert "(check 'discriminator')" in str(caught.value)


def test_the_batch_is_of_recordings_that_coqui_does_not_leave_out(tiny_config, make_trainer, samples):
    by_length = sorted(samples, key=lambda s: soundfile.info(s["audio_file"]).frames, reverse=True)
    longest = [soundfile.info(s["audio_file"]).frames for s in by_length]
    first = next(index for index in range(8, len(longest)) if longest[index] < longest[index - 1])
    config = tiny_config(max_audio_len=longest[first])  # leaves out all before
    make_trainer(SclVits(config), train_samples=[dict(s) for s in by_length])
    assert len(runs_left(config)) == 1


def test_overrides_that_reach_the_trainers_config_alone_count(tiny_config, samples, tmp_path):
    """As in a script: Coqui gives the model a copy of the config, and the trainer overrides values of the original."""
    config = tiny_config({"loss": {"name": "contrastive"}})
    model = SclVits(config)
    config.output_path = str(tmp_path / "elsewhere")
    config.batch_size = 1
    given = {"train_samples": [dict(s) for s in samples[:4]], "eval_samples": [dict(s) for s in samples[4:8]]}

    def start():
        return Trainer(TrainerArgs(), config, model=model, parse_command_line_args=False, **given)

    with pytest.raises(PreflightError, match="batch_size is 1"):
        start()
    config.batch_size = 2
    trainer = start()
    caches = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.safetensors")]
    assert caches == [Path("elsewhere/speaker_references.safetensors")]
    assert trainer.output_path.parent == tmp_path / "elsewhere"
