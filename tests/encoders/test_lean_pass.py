"""Lean passes through frozen encoders: the same embeddings and gradients as plain ones, and less kept for them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from coqui_scl_plugin import SclConfig, build_encoder
from coqui_scl_plugin.config import EncoderConfig
from coqui_scl_plugin.consistency import build
from coqui_scl_plugin.consistency.build import build_consistency
from coqui_scl_plugin.encoders import lean_pass, segment_encoder
from coqui_scl_plugin.encoders.lean_plan import plan_lean_pass
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.references.cache import encoder_key
from coqui_scl_plugin.utils.fingerprint import fingerprint


def gradient_at(embed, waveform):
    waveform = waveform.clone().requires_grad_()
    embedding = embed(waveform)
    (embedding * torch.linspace(-1, 1, embedding.shape[1])).sum().backward()
    return embedding.detach(), waveform.grad


def kept(embed, waveform, encoder):
    """Return how many bytes the graph of a pass keeps, beyond the encoder's own tensors."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*encoder.parameters(), *encoder.buffers())}
    saved = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        embed(waveform.clone().requires_grad_())
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def leanly(encoder, plan, **options):
    def embed(waveform):
        with plan.start(encoder, **options):
            return encoder(waveform)

    return embed


def test_each_encoder_embeds_leanly_as_plainly_and_stays_as_it_is(encoder, speech_like):
    lean, waveform = SegmentEncoder(encoder), speech_like(2, max(encoder.min_samples, 4000), encoder.sample_rate)
    before, key = fingerprint(encoder), encoder_key(lean)
    torch.testing.assert_close(lean(waveform), encoder(waveform), atol=1e-4, rtol=0)
    assert (fingerprint(encoder), encoder_key(lean)) == (before, key)
    if not any(isinstance(part, nn.Conv1d | nn.Conv2d) for part in encoder.modules()):
        return
    plan = plan_lean_pass(encoder, encoder.min_samples)
    assert plan.refusal is None
    assert kept(lean, waveform, encoder) < 0.9 * kept(encoder, waveform, encoder)
    exact = copy.deepcopy(encoder).double()  # in float32, CAM++ magnifies what rounding changes by a thousand
    found, expected = (gradient_at(embed, waveform.double()) for embed in (leanly(exact, plan), exact))
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 1e-9 * other.norm()


class Toy(nn.Module):
    """A third party's encoder, with whatever happens between its convolution and its batch normalisation."""

    sample_rate, embedding_dim, min_samples = 16_000, 4, 400

    def __init__(self, between=lambda x: (x, 0)):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second = nn.Conv1d(1, 4, 9, stride=3), nn.Conv1d(4, 4, 3, padding=1, dilation=1)
            self.norm, self.between = nn.BatchNorm1d(4), between
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, waveform):
        x, more = self.between(self.second(relu(self.first(waveform.unsqueeze(1)))))
        return nn.functional.normalize((relu(self.norm(x)) + more).mean(dim=2), dim=1)


@pytest.mark.parametrize(
    ("between", "folds"),
    [
        (lambda x: (x, 0), True),
        (lambda x: (x, x), False),  # something else takes what the convolution returns
        (lambda x: (relu(x), 0), False),
        (lambda x: (x[..., 1:], 0), False),
    ],
)
def test_a_batch_normalisation_joins_its_convolution_only_if_nothing_stands_between_or_beside(
    between, folds, speech_like
):
    encoder = Toy(between).eval().requires_grad_(False)
    plan = plan_lean_pass(encoder, encoder.min_samples)
    assert plan == ((("second", "norm"),) if folds else (), None)
    waveform = speech_like(2, 900)
    for one, other in zip(gradient_at(leanly(encoder, plan), waveform), gradient_at(encoder, waveform), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_an_encoder_whose_layers_depend_on_the_waveform_is_passed_plainly(speech_like):
    encoder = Toy(lambda x: (x if x.shape[2] < 200 else relu(x), 0)).eval().requires_grad_(False)
    lean = SegmentEncoder(encoder)
    assert lean(speech_like(2, 400)).shape == (2, 4)
    torch.testing.assert_close(lean(speech_like(2, 900)), encoder(speech_like(2, 900)))


def test_an_encoder_that_a_lean_pass_would_change_is_passed_plainly(monkeypatch, speech_like):
    encoder, waveform = Toy().eval().requires_grad_(False), speech_like(2, 900)
    expected = encoder(waveform)
    monkeypatch.setattr(lean_pass, "_scale_and_shift", lambda norm, bias: (norm.weight, norm.bias))
    lean = SegmentEncoder(encoder)
    assert torch.equal(lean(waveform), expected)


def test_an_encoder_that_trains_is_passed_plainly_and_its_weights_get_gradients(monkeypatch, speech_like):
    monkeypatch.setattr(segment_encoder, "plan_lean_pass", lambda *_: pytest.fail("this encoder is not frozen"))
    encoder = Toy()
    for mode in (True, False):
        SegmentEncoder(encoder.train(mode))(speech_like(2, 900))[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_finding_out_changes_neither_buffers_nor_random_numbers(speech_like):
    class Restless(Toy):
        def forward(self, waveform):
            self.norm.running_mean += 1
            return super().forward(waveform + 1e-9 * torch.rand(()))

    encoder = Restless().eval().requires_grad_(False)
    before, state = fingerprint(encoder), torch.get_rng_state()
    plan_lean_pass(encoder, encoder.min_samples)
    assert fingerprint(encoder) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_bfloat16_hears_what_asks_for_a_gradient_and_nothing_else(coqui_files, speech_like):
    encoder = build_encoder("coqui", coqui_files["resnet"].params()).eval().requires_grad_(False)
    plain, half = SegmentEncoder(encoder), SegmentEncoder(encoder, in_bfloat16=True)
    waveform = speech_like(4, 8000)
    assert half.refusal_of_bfloat16 is None
    assert encoder_key(plain) == encoder_key(half)
    with torch.no_grad():
        assert torch.equal(half(waveform), plain(waveform))
    (expected, exact), (found, gradient) = gradient_at(plain, waveform), gradient_at(half, waveform)
    assert found.dtype == gradient.dtype == torch.float32
    assert 0 < (found @ found.T - expected @ expected.T).abs().max() < 1e-3
    assert torch.cosine_similarity(gradient.flatten(), exact.flatten(), dim=0) > 0.9
    assert kept(half, waveform, encoder) < kept(plain, waveform, encoder)
    maps, exact_maps = half.features(waveform.requires_grad_()), plain.features(waveform)
    for one, other in zip(maps, exact_maps, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.05 * other.norm()


def section(**encoder):
    return SclConfig(encoders=[EncoderConfig(**encoder)])


@pytest.mark.parametrize("name", ["ge2e", "campplus"])
def test_a_config_whose_encoder_would_change_in_bfloat16_is_refused(monkeypatch, name):
    monkeypatch.setattr(build, "device_refusal_of_bfloat16", lambda: None)
    with pytest.raises(ConfigError, match=r"scl\.encoders\.0\.dtype = 'bfloat16'.*(no convolutions|changes by)"):
        build_consistency(section(name=name, dtype="bfloat16"))


def test_a_config_that_this_machine_cannot_compute_in_bfloat16_is_refused(monkeypatch, coqui_files):
    spec = {"name": "coqui", "params": coqui_files["resnet"].params(), "dtype": "bfloat16"}
    monkeypatch.setattr(build, "device_refusal_of_bfloat16", lambda: None)
    build_consistency(section(**spec))
    monkeypatch.setattr(build, "device_refusal_of_bfloat16", lambda: "this CPU has no AVX-512")
    with pytest.raises(ConfigError, match=r"scl\.encoders\.0\.dtype = 'bfloat16'.*AVX-512"):
        build_consistency(section(**spec))


def test_bfloat16_is_refused_where_it_would_not_be_used():
    with pytest.raises(ConfigError, match=r"scl\.encoders\.0\.dtype.*lets it train"):
        section(name="ge2e", policy="trainable", dtype="bfloat16").check_values()
    held_out = SclConfig(holdout=[EncoderConfig(name="dvector", dtype="bfloat16")])
    with pytest.raises(ConfigError, match=r"scl\.holdout\.0\.dtype.*only scores"):
        held_out.check_values()
