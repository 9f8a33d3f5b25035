import pytest
import torch
import torchaudio

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.resampled import ResampledEncoder, tile


@pytest.fixture(scope="module")
def ge2e():
    return build_encoder("ge2e").eval().requires_grad_(False)


@pytest.mark.parametrize("samples", [3, 4, 6, 7, 100])
def test_tile_repeats_and_never_pads_zeros(samples):
    short = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    tiled = tile(short, samples)
    assert tiled.shape == (2, samples)
    assert torch.equal(tiled, short[:, torch.arange(samples) % 3])


def test_tile_leaves_what_is_long_enough_alone():
    long = torch.arange(10.0)[None]
    assert torch.equal(tile(long, 10), long)
    assert torch.equal(tile(long, 4), long)


def test_gradient_of_tile_adds_up_over_the_repeats():
    short = torch.zeros(1, 3, requires_grad=True)
    tile(short, 7).sum().backward()
    assert short.grad.tolist() == [[3.0, 2.0, 2.0]]


def test_resamples_to_the_encoders_rate(ge2e, speech_like):
    waveform = speech_like(2, 48000, 22050)
    ours = ResampledEncoder(ge2e, 22050)(waveform)
    by_hand = ge2e(torchaudio.functional.resample(waveform, 22050, 16000))
    torch.testing.assert_close(ours, by_hand, rtol=0, atol=1e-6)
    assert not torch.allclose(ours, ge2e(waveform), atol=1e-2)


def test_at_the_encoders_own_rate_nothing_is_changed(ge2e, speech_like):
    waveform = speech_like(2, 32000)
    assert torch.equal(ResampledEncoder(ge2e, 16000)(waveform), ge2e(waveform))


@pytest.mark.parametrize(("min_seconds", "heard"), [(0.0, 25600), (1.0, 25600), (2.5, 40000)])
def test_short_segments_are_tiled_to_what_is_asked_for_or_needed(ge2e, speech_like, min_seconds, heard):
    waveform = speech_like(2, 6000)
    repeated = waveform.repeat(1, 7)[:, :heard]
    assert torch.equal(ResampledEncoder(ge2e, 16000, min_seconds)(waveform), ge2e(repeated))


def test_min_seconds_are_counted_at_the_encoders_rate(ge2e, speech_like):
    waveform = speech_like(2, 8192, 22050)
    at_16000 = torchaudio.functional.resample(waveform, 22050, 16000)
    repeated = at_16000.repeat(1, 7)[:, :40000]  # 2.5 s
    torch.testing.assert_close(ResampledEncoder(ge2e, 22050, 2.5)(waveform), ge2e(repeated), rtol=0, atol=1e-6)


def test_gradient_reaches_a_segment_of_256_samples(encoder, speech_like):
    waveform = speech_like(2, 256, 22050).requires_grad_()
    embedding = ResampledEncoder(encoder, 22050, 1.0)(waveform)
    direction = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(1))
    (embedding * direction).sum().backward()
    assert torch.isfinite(waveform.grad).all()
    assert (waveform.grad.norm(dim=1) > 1e-8).all()


def test_is_computed_in_float32_under_autocast(encoder, speech_like):
    resampled = ResampledEncoder(encoder, 22050, 1.0)
    waveform = speech_like(2, 30000, 22050).bfloat16()
    outside = resampled(waveform.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = resampled(waveform)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=0, atol=1e-6)
