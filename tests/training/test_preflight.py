"""A run that would train something else than its config says does not start, and says why."""

from pathlib import Path

import pytest
import torch

from coqui_scl_plugin import SclVits
from coqui_scl_plugin.errors import PreflightError


def runs_left(config):
    root = Path(config.output_path)
    return [path for path in root.glob("*") if path.is_dir()]


def with_broken_encoder(config, break_it):
    """A model whose encoder `break_it` has had its way with, as a third party's might come."""
    model = SclVits(config)
    model.setup_speaker_consistency()
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


def test_the_check_leaves_random_numbers_as_they_were(tiny_config, make_trainer):
    drawn = []
    for enabled in (True, False):
        make_trainer(SclVits(tiny_config({"enabled": enabled})))  # the trainer seeds
        drawn.append(torch.rand(4))
    assert torch.equal(*drawn)
