import copy

import pytest
import torch


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


@pytest.mark.parametrize("level", [1.0, 1e-4])
def test_gradient_reaches_the_waveform(encoder, speech_like, level):
    gradient = gradient_of_similarity(encoder, level * speech_like(2, 32000))
    assert torch.isfinite(gradient).all()
    assert (gradient.norm(dim=1) > 1e-8).all()


def test_gradient_reaches_the_heard_half_of_a_half_silent_waveform(encoder, speech_like):
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
    up, down = (torch.cosine_similarity(exact(waveform.double() + s * way), direction).item() for s in (1e-6, -1e-6))
    assert gradient.norm().item() == pytest.approx((up - down) / 2e-6, rel=1e-2)


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
