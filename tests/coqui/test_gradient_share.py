"""`gradient_share` in runs through Coqui's trainer."""

import pytest
import torch
from quick_vits import QuickVits
from trainer import TrainerArgs
from TTS.config import load_config

from coqui_scl_plugin.errors import ConfigError


class Measured(QuickVits):
    """Measures in every step, by gradients of its own, the share that the term has of the mel loss."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.shares, self.logged = [], []

    def train_step(self, batch, criterion, optimizer_idx=None):
        outputs, losses = super().train_step(batch, criterion, optimizer_idx)
        if optimizer_idx == 1 and self.training:
            waveform = outputs["model_outputs"]
            norms = [
                torch.autograd.grad(losses[name], waveform, retain_graph=True)[0].norm()
                for name in ("loss_spk_encoder", "loss_mel")
            ]
            self.shares.append(float(norms[0] / norms[1]))
            self.logged.append({name: float(losses[name]) for name in ("scl_weight", "scl_gradient_share")})
        return outputs, losses


@pytest.fixture
def config(tiny_config):
    def make(**section):
        return tiny_config(
            {"gradient_share": 0.1, **section}, save_checkpoints=True, save_step=10, save_n_checkpoints=9
        )

    return make


def test_the_share_is_kept(config, make_trainer, one_thread):
    torch.manual_seed(0)
    model = Measured(config())
    make_trainer(model, count=4 * 60).fit()
    assert len(model.shares) == 60
    late = model.shares[50:]
    assert sum(late) / len(late) == pytest.approx(0.1, rel=0.2)
    for share, logged in zip(model.shares, model.logged, strict=True):
        assert logged["scl_gradient_share"] == pytest.approx(share, rel=1e-3)


def test_a_ramp_multiplies_it(config, make_trainer):
    model = Measured(config(ramp_steps=4))
    make_trainer(model, count=4 * 4).fit()
    assert model.shares[0] == pytest.approx(0.025, rel=1e-3)
    assert model.shares[0] < model.shares[1] < model.shares[3]


def test_a_continued_run_goes_on_with_the_same_weight(config, make_trainer, one_thread):
    first = Measured(config())
    trainer = make_trainer(first, count=4 * 11)
    trainer.fit()
    folder = str(trainer.output_path)
    saved = torch.load(f"{folder}/checkpoint_10.pth", weights_only=True)["model"]
    kept = {name: value for name, value in saved.items() if "gradient_share" in name}
    assert sorted(name.rpartition(".")[2] for name in kept) == ["mel_norm", "term_norm"]
    again = load_config(f"{folder}/config.json")
    again.epochs = 2
    second = Measured(again)
    make_trainer(second, count=4 * 11, args=TrainerArgs(continue_path=folder))
    restored = second.speaker_encoder_loss.gradient_share
    for name, value in kept.items():
        assert torch.equal(getattr(restored, name.rpartition(".")[2]), value)
    assert restored.weight > 0


@pytest.mark.parametrize("of_the_checkpoint", [None, 0.1])
def test_a_checkpoint_with_and_without_it(tiny_config, of_the_checkpoint):
    before = QuickVits(tiny_config({"gradient_share": of_the_checkpoint}))
    after = QuickVits(tiny_config({"gradient_share": None if of_the_checkpoint else 0.1}))
    for model in (before, after):
        model.parts.build_consistency()
    after.load_state_dict(before.state_dict())


class Lossy(QuickVits):
    """Loses the term on its way into the total, as a third party's override may."""

    def train_step(self, batch, criterion, optimizer_idx=None):
        outputs, losses = super().train_step(batch, criterion, optimizer_idx)
        if optimizer_idx == 1:
            own = ("loss_gen", "loss_kl", "loss_feat", "loss_mel", "loss_duration")
            losses = {**losses, "loss": sum(losses[name] for name in own)}
        return outputs, losses


@pytest.mark.parametrize("share", [None, 0.1])
def test_the_guard_asks_for_the_real_backward_pass(tiny_config, make_trainer, capfd, share):
    trainer = make_trainer(Lossy(tiny_config({"gradient_share": share})), count=8)
    with pytest.raises(SystemExit):
        trainer.fit()
    assert "GradientError: At step 0" in capfd.readouterr().err


def test_a_run_that_starts_from_another_measures_anew(tiny_config, config, make_trainer, one_thread):
    first = make_trainer(Measured(config()), count=4 * 11)
    first.fit()
    model = Measured(tiny_config({"gradient_share": 0.1, "encoders": [{"name": "dvector"}]}))
    restored = TrainerArgs(restore_path=f"{first.output_path}/checkpoint_10.pth")
    make_trainer(model, count=8, args=restored).fit()
    assert model.shares[0] == pytest.approx(0.1, rel=1e-3)


def test_a_weight_beside_it_is_refused(tiny_config):
    with pytest.raises(ConfigError, match=r"scl\.gradient_share = 0\.1 and scl\.weight = 5"):
        tiny_config({"gradient_share": 0.1, "weight": 5.0}).check_values()
    with pytest.raises(ConfigError, match=r"scl\.gradient_share"):
        tiny_config({"gradient_share": 0.0}).check_values()


def test_a_trainable_encoder_still_trains(tiny_config, make_trainer):
    section = {
        "gradient_share": 0.1,
        "encoders": [{"name": "ge2e", "policy": "trainable"}],
    }
    model = Measured(tiny_config(section))
    encoder = model.get_criterion() and model.speaker_encoder_loss.encoders["ge2e"].encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    make_trainer(model, count=8).fit()
    assert any(not torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
