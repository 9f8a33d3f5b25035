"""The term with losses that compare feature maps, and with losses that stop at the ceiling."""

import pytest
import torch
from toy_speech import RATE, ToyEncoder

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.consistency.build import build_consistency
from coqui_scl_plugin.consistency.gradient_probe import probe_gradients
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.losses.features import feature_loss
from coqui_scl_plugin.plugins import registry
from coqui_scl_plugin.references.sources import ReferenceBatch

BOTH = {"features": 1, "cosine": 1}


class WithFeatures(ToyEncoder):
    """Feature maps: the absolute values of each 100 samples."""

    def features(self, waveform):
        self.before()
        return [waveform.unfold(1, 100, 100).abs().transpose(1, 2)]


class CutFeatures(WithFeatures):
    """Feature maps without a gradient."""

    def features(self, waveform):
        with torch.no_grad():
            return super().features(waveform)


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    for name, cls in {"toy": ToyEncoder, "maps": WithFeatures, "cut": CutFeatures}.items():
        monkeypatch.setitem(registry.installed().encoders, name, registry.Entry(cls, "a test"))


def built(loss, *encoders, source="segment"):
    config = SclVitsConfig()
    specs = [encoder if isinstance(encoder, dict) else {"name": encoder} for encoder in encoders]
    config.from_dict({"scl": {"loss": loss, "encoders": specs, "reference": {"source": source}}})
    return build_consistency(config.scl)


def ensemble(member=None, **params):
    return {"name": "ensemble", "params": {"calibrate": False, "member": member or BOTH, **params}}


def sound(seed):
    return 0.1 * torch.randn(2, 2_000, generator=torch.Generator().manual_seed(seed))


def batch(waveform, utterances=None):
    return ReferenceBatch(ResampledAudio(waveform, RATE), utterances or list(waveform), ["a", "b"], ["x", "y"])


def value_of(waveform, real):
    maps = [side.unfold(1, 100, 100).abs().transpose(1, 2) for side in (waveform, real)]
    return feature_loss(maps[:1], maps[1:]).item()


@pytest.mark.parametrize("source", ["segment", "utterance", "cross_utterance", "centroid"])
def test_features_are_compared_with_the_real_slice_whatever_the_reference(source):
    consistency = built({"name": "features"}, "maps", source=source)
    assert not consistency.needs_recordings
    assert not consistency.uses_recordings
    generated, real = sound(0), sound(1)
    term = consistency(ResampledAudio(generated, RATE), batch(real, list(sound(2))))
    assert term.loss.item() == pytest.approx(value_of(generated, real), rel=1e-5)
    assert term.reference_cosines == {}
    assert consistency.encoders["maps"].encoder.heard == []  # nothing was embedded


def test_equal_speech_is_0_and_a_gradient_reaches_other_speech():
    consistency, real = built({"name": "features"}, "maps"), batch(sound(1))
    assert consistency(ResampledAudio(sound(1), RATE), real).loss.item() == 0
    generated = sound(0).requires_grad_()
    consistency(ResampledAudio(generated, RATE), real).loss.backward()
    assert (generated.grad.norm(dim=1) > 0).all()


def test_a_sum_on_one_encoder_beside_another_member_on_another():
    loss = ensemble({"name": "cosine"}, members={"maps": {"features": 2, "cosine": 1}})
    consistency = built(loss, "maps", {"name": "toy", "weight": 3.0, "params": {"seed": 1}})
    plain = built(ensemble({"name": "cosine"}), "maps", {"name": "toy", "weight": 3.0, "params": {"seed": 1}})
    generated, real = ResampledAudio(sound(0), RATE), batch(sound(1))
    term, cosines = consistency(generated, real), plain(generated, real).members
    assert term.members["toy"].item() == cosines["toy"].item()
    expected = cosines["maps"].item() + 2 * value_of(sound(0), sound(1))
    assert term.members["maps"].item() == pytest.approx(expected, rel=1e-5)
    assert term.loss.item() == pytest.approx((expected + 3 * cosines["toy"].item()) / 4, rel=1e-5)
    assert set(term.reference_cosines) == {"maps", "toy"}


def test_a_sum_that_embeds_needs_what_its_references_need():
    assert built(ensemble(), "maps", source="centroid").needs_recordings
    assert built(ensemble(), "maps", source="utterance").uses_recordings
    assert built({**ensemble(), "params": {"member": BOTH}}, "maps").needs_recordings  # to calibrate


def test_only_a_loss_that_rescales_or_stops_needs_a_calibration():
    calibrating = {"name": "ensemble", "params": {"member": {"name": "features"}}}
    assert not built(calibrating, "maps").needs_recordings
    stopping = {"name": "cosine", "params": {"stop_at_ceiling": True}}
    assert built(stopping, "toy").needs_recordings
    assert not built(stopping, {"name": "toy", "floor": 0.1, "ceiling": 0.8}).needs_recordings
    assert not built({"name": "cosine"}, "toy").needs_recordings


@pytest.mark.parametrize(
    ("loss", "encoders", "message"),
    [
        ({"name": "features"}, ["toy"], r"^scl\.loss\.name = 'features' .*'toy' \(scl\.encoders\.0\) has none.*maps"),
        (ensemble(), ["maps", "toy"], r"^scl\.loss\.params\.member\.features .*'toy' \(scl\.encoders\.1\)"),
        (
            ensemble(members={"toy": [{"name": "features"}]}),
            ["maps", "toy"],
            r"^scl\.loss\.params\.members\.toy\.0\.name .*'toy'",
        ),
        (ensemble(members={"tyo": BOTH}), ["maps"], r"^scl\.loss\.params\.members\.tyo: no training encoder"),
        (ensemble(members={"tyo": {"name": "cosine"}}), ["toy"], r"\.tyo: .*Did you mean 'toy'"),
    ],
)
def test_features_of_an_encoder_without_and_members_without_an_encoder(loss, encoders, message):
    with pytest.raises(ConfigError, match=message):
        built(loss, *encoders)


def test_encoders_that_have_features_are_named():
    with pytest.raises(ConfigError, match=r"Encoders with feature maps: .*coqui, .*maps, .*transformers"):
        built({"name": "features"}, "ge2e")


def test_a_model_without_features_of_a_class_that_has_some(coqui_files):
    lstm = {"name": "coqui", "params": coqui_files["lstm"].params()}
    with pytest.raises(ConfigError, match=r"^scl\.encoders\.0 = 'coqui': .*this model of 'coqui' has none"):
        built({"name": "features"}, lstm)
    assert built({"name": "features"}, {"name": "coqui", "params": coqui_files["resnet"].params()})


# --- the probe of the gradient ----------------------------------------------------------------------------------------


def probes(consistency, generated, real):
    (found,) = probe_gradients(consistency, generated.requires_grad_(), real).values()
    return found


def test_the_probe_proves_the_gradient_of_features_and_of_each_loss_of_a_sum():
    alone = probes(built({"name": "features"}, "maps"), sound(0), batch(sound(1)))
    assert [probe.arrives for probe in alone] == [True]  # quiet and half-silent waveforms are named if they fail
    both = probes(built(ensemble(), "maps"), sound(0), batch(sound(1)))
    assert [(probe.loss, probe.arrives) for probe in both] == [("", True), ("FeatureLoss", True), ("CosineLoss", True)]
    norms = [float(probe.gradient.norm()) for probe in both]
    assert torch.allclose(both[0].gradient, both[1].gradient + both[2].gradient, atol=1e-6)
    assert min(norms) > 0


def test_the_probe_finds_features_without_a_gradient_beside_a_cosine_with_one():
    assert [probe.arrives for probe in probes(built({"name": "features"}, "cut"), sound(0), batch(sound(1)))] == [False]
    found = probes(built(ensemble(), "cut"), sound(0), batch(sound(1)))
    assert [(probe.loss, probe.arrives) for probe in found] == [("", True), ("FeatureLoss", False)]


@pytest.mark.parametrize("ceiling", [0.2, 0.999])
def test_the_probe_sees_the_gradient_also_where_all_items_are_beyond_the_ceiling(ceiling):
    stopping = {"name": "cosine", "params": {"stop_at_ceiling": True}}
    consistency = built(stopping, {"name": "toy", "floor": 0.1, "ceiling": ceiling})
    generated, real = sound(0).requires_grad_(), batch(sound(1))
    term = consistency(ResampledAudio(generated, RATE), real)
    above = term.reference_cosines["toy"].item() > ceiling
    assert bool(term.idle) == above == (ceiling == 0.2)
    assert torch.autograd.grad(term.loss, generated)[0].any().item() == (not above)
    assert [probe.arrives for probe in probes(consistency, sound(0), real)] == [True]
    assert consistency(ResampledAudio(generated, RATE), real).loss.item() == term.loss.item()
