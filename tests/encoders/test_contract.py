import copy

import pytest
import torch
from torch import Tensor

from coqui_scl_plugin.encoders.base import SpeakerEncoder


def gradient_of_similarity(encoder, waveform: torch.Tensor) -> torch.Tensor:
    """Of the cosine of each row's embedding with a direction of its own, to the waveform."""
    waveform = waveform.clone().requires_grad_()
    embedding = encoder(waveform)
    direction = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(1))
    torch.cosine_similarity(embedding, direction).sum().backward()
    return waveform.grad


def test_says_what_it_takes_and_gives(encoder):
    assert encoder.sample_rate == 16000
    assert isinstance(encoder.embedding_dim, int)
    assert isinstance(encoder.min_samples, int)
    assert encoder.min_samples > 0


@pytest.mark.parametrize("rows", [1, 3])
def test_gives_one_unit_vector_a_row(encoder, speech_like, rows):
    embedding = encoder(speech_like(rows, 32000))
    assert embedding.shape == (rows, encoder.embedding_dim)
    assert embedding.dtype == torch.float32
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(rows), rtol=0, atol=1e-5)


def test_different_voices_give_different_embeddings(encoder, speech_like):
    one, other = encoder(speech_like(2, 32000))
    assert one @ other < 0.9999


def test_works_at_exactly_min_samples(encoder, speech_like):
    shortest = speech_like(2, encoder.min_samples)
    assert encoder(shortest).shape == (2, encoder.embedding_dim)
    gradient = gradient_of_similarity(encoder, shortest)
    assert torch.isfinite(gradient).all()
    assert (gradient.norm(dim=1) > 0).all()


def test_a_waveform_shorter_than_min_samples_is_refused_with_what_is_needed(encoder, speech_like):
    needed = encoder.min_samples
    with pytest.raises(ValueError, match=r"^\w+Encoder takes waveforms \[B, T\]") as caught:
        encoder(speech_like(2, needed - 1))
    message = str(caught.value)
    assert message.startswith(type(encoder).__name__)
    assert f"at least {needed} samples ({needed / 16000:.3g} s at 16000 Hz)" in message
    assert f"got [2, {needed - 1}]." in message
    assert "SegmentEncoder, which tiles" in message


@pytest.mark.parametrize("shape", [(32000,), (2, 1, 32000)], ids=str)
def test_a_waveform_that_is_not_a_batch_of_rows_is_refused(encoder, shape):
    with pytest.raises(ValueError, match=rf"^{type(encoder).__name__} takes waveforms \[B, T\].*got \[") as caught:
        encoder(torch.zeros(shape))
    assert f"got {list(shape)}." in str(caught.value)


class OwnForward(SpeakerEncoder):
    """A third party's encoder that defines `forward`, as before the base class had `embed`."""

    sample_rate, embedding_dim, min_samples = 8000, 4, 100

    def forward(self, waveform: Tensor) -> Tensor:
        return waveform[..., :4]


class OwnEmbed(SpeakerEncoder):
    """A third party's encoder that implements `embed`."""

    sample_rate, embedding_dim, min_samples = 8000, 4, 100

    def embed(self, waveform: Tensor) -> Tensor:
        return waveform[:, :4]


def test_an_encoder_with_a_forward_of_its_own_is_called_as_it_is():
    short = torch.arange(5.0)
    assert torch.equal(OwnForward()(short), short[:4])


def test_an_encoder_that_implements_embed_is_checked_by_the_base_class():
    waveform = torch.arange(200.0).view(2, 100)
    assert torch.equal(OwnEmbed()(waveform), waveform[:, :4])
    with pytest.raises(ValueError, match=r"^OwnEmbed takes .* at least 100 samples \(0\.0125 s at 8000 Hz\)"):
        OwnEmbed()(waveform[:, 1:])


@pytest.mark.parametrize("amplitude", [1.0, 1e-4])
def test_gradient_reaches_the_waveform(encoder, speech_like, amplitude):
    gradient = gradient_of_similarity(encoder, amplitude * speech_like(2, 32000))
    assert torch.isfinite(gradient).all()
    assert (gradient.norm(dim=1) > 1e-8).all()


def test_gradient_reaches_the_sounding_half_of_a_half_silent_waveform(encoder, speech_like):
    waveform = speech_like(2, 32000)
    waveform[:, 16000:] = 0
    gradient = gradient_of_similarity(encoder, waveform)
    assert torch.isfinite(gradient).all()
    assert (gradient[:, :16000].norm(dim=1) > 1e-8).all()


def test_gradient_is_the_slope_that_small_steps_measure_in_float64(encoder, speech_like):
    waveform = speech_like(1, encoder.min_samples)
    gradient = gradient_of_similarity(encoder, waveform)
    direction = torch.randn(1, encoder.embedding_dim, generator=torch.Generator().manual_seed(1)).double()
    exact, way = copy.deepcopy(encoder).double(), (gradient / gradient.norm()).double()
    up, down = (torch.cosine_similarity(exact(waveform.double() + s * way), direction).item() for s in (1e-7, -1e-7))
    assert gradient.norm().item() == pytest.approx((up - down) / 2e-7, rel=1e-2)


def test_silence_gives_a_finite_embedding_and_gradient(encoder):
    silence = torch.zeros(2, 32000)
    assert torch.isfinite(encoder(silence)).all()
    assert torch.isfinite(gradient_of_similarity(encoder, silence)).all()


@pytest.mark.parametrize("wants_gradient", [False, True])
@pytest.mark.parametrize("rows", [1, 2])
def test_leaves_the_waveform_as_it_was(encoder, speech_like, rows, wants_gradient):
    waveform = speech_like(rows, 32000)
    kept = waveform.clone()
    waveform.requires_grad_(wants_gradient)
    encoder(waveform)
    assert waveform.shape == kept.shape
    assert torch.equal(waveform, kept)
    assert waveform._version == 0


def test_a_batch_is_its_rows(encoder, speech_like):
    waveform = speech_like(2, 32000)
    together = encoder(waveform)
    alone = torch.cat([encoder(waveform[:1]), encoder(waveform[1:])])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
