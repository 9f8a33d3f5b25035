"""What a section builds, and what it refuses once the encoders are there."""

import pytest
import torch
from tiny_vits import PLAIN

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.consistency.build import build_consistency
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.errors import ConfigError, EncoderError
from coqui_scl_plugin.plugins import registry
from coqui_scl_plugin.references.sources import ReferenceBatch


def built(section):
    config = SclVitsConfig()
    config.from_dict({"scl": PLAIN | section})
    return build_consistency(config.scl)


def test_an_alias_that_torch_reserves():
    with pytest.raises(ConfigError, match=r"^scl\.encoders\.0\.alias = 'items'"):
        built({"encoders": [{"name": "ge2e", "alias": "items"}]})


def test_an_encoder_without_its_attributes(monkeypatch):
    class Bare(torch.nn.Module):
        sample_rate = 16_000

    entries = registry.installed().encoders
    monkeypatch.setitem(entries, "bare", registry.Entry(Bare, "a test"))
    with pytest.raises(EncoderError, match="Bare lacks the attribute embedding_dim, min_samples"):
        built({"encoders": [{"name": "bare"}]})


def test_random_hears_the_encoder_that_it_draws_alone():
    both = {"encoders": [{"name": "ge2e"}, {"name": "dvector"}]}
    consistency = built(
        {**both, "loss": {"name": "ensemble", "params": {"combine": "random", "seed": 3, "calibrate": False}}}
    )
    speech = 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    generated = ResampledAudio(speech, 16_000)
    real = ReferenceBatch(generated, list(speech), ["a", "b"], ["x", "y"])
    drawn = set()
    for step in range(12):
        term = consistency(generated, real, step)
        assert len(term.reference_cosines) == 1
        assert term.reference_cosines.keys() == term.members.keys()
        drawn |= term.reference_cosines.keys()
    assert drawn == {"ge2e", "dvector"}


@pytest.mark.parametrize(("speakers", "warnings"), [(["x", "x"], 1), (["x", "y"], 0)])
@pytest.mark.parametrize("loss", ["angular_margin", "contrastive"])
def test_a_batch_with_one_speaker_is_said_once(loss, speakers, warnings, caplog):
    consistency = built({"loss": {"name": loss}})
    speech = 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    real = ReferenceBatch(ResampledAudio(speech, 16_000), list(speech), ["a", "b"], speakers)
    with caplog.at_level("WARNING", logger="coqui_scl_plugin"):
        for step in range(3):
            consistency(real.segments, real, step)
    assert [record.levelname for record in caplog.records if "one speaker" in record.message] == ["WARNING"] * warnings


class Refusing(torch.nn.Module):
    def __init__(self, k: int):
        raise ValueError("k is too large")


@pytest.mark.parametrize(
    ("loss", "path"),
    [
        ({"name": "refusing", "params": {"k": 5}}, r"^scl\.loss\.params: Refusing refuses"),
        (
            {"name": "ensemble", "params": {"calibrate": False, "member": {"name": "refusing", "params": {"k": 5}}}},
            r"^scl\.loss\.params\.member\.params: Refusing refuses",
        ),
    ],
)
def test_what_a_loss_refuses_is_named_by_its_key(monkeypatch, loss, path):
    monkeypatch.setitem(registry.installed().losses, "refusing", registry.Entry(Refusing, "a test"))
    with pytest.raises(ConfigError, match=path):
        built({"loss": loss})


@pytest.mark.parametrize("alias", ["_policies", "_holdout", "policies"])
def test_an_alias_that_the_bank_of_encoders_uses_is_one_message(alias):
    with pytest.raises(ConfigError, match=rf"^scl\.encoders\.0\.alias = '{alias}'"):
        built({"encoders": [{"name": "ge2e", "alias": alias}]})


@pytest.mark.parametrize("side", ["generated", "reference"])
def test_a_loss_that_hides_numbers_that_are_not_finite_is_not_finite_itself(side):
    """As losses with maxima, or means of what is above 0, do."""
    loss = {"name": "metric_learning", "params": {"loss": "CircleLoss"}}
    consistency = built({"loss": loss, "reference": {"source": "segment"}})
    speech = 0.1 * torch.randn(4, 16_000, generator=torch.Generator().manual_seed(0))
    real = ReferenceBatch(ResampledAudio(speech, 16_000), list(speech), list("abcd"), list("wxyz"))
    spoilt = speech.clone()
    spoilt[2, 100] = float("nan")
    if side == "reference":
        real = real.select(range(4), ResampledAudio(spoilt, 16_000))
    heard = (spoilt if side == "generated" else speech).requires_grad_()
    term = consistency(ResampledAudio(heard, 16_000), real)
    assert not term.loss.isfinite()
    finite = term.finite_heard if side == "generated" else term.finite_references
    assert finite["ge2e"].tolist() == [True, True, False, True]
