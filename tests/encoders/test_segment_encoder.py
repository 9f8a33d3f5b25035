import pytest
import torch
import torchaudio

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.audio import ResampledAudio, tile
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder


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


def test_a_waveform_is_resampled_once_for_each_rate(monkeypatch, speech_like):
    waveform, calls = speech_like(2, 22050, 22050), []
    forward = torchaudio.transforms.Resample.forward
    monkeypatch.setattr(
        torchaudio.transforms.Resample, "forward", lambda self, x: calls.append(self.new_freq) or forward(self, x)
    )
    audio = ResampledAudio(waveform, 22050)
    at_16000 = [audio.at(16000) for _ in range(3)]
    assert all(x is at_16000[0] for x in at_16000)
    assert audio.at(22050) is waveform
    assert audio.at(8000).shape == (2, 8000)
    assert calls == [16000, 8000]
    torch.testing.assert_close(at_16000[0], torchaudio.functional.resample(waveform, 22050, 16000))


def test_resampling_happens_in_float32_under_autocast(speech_like):
    waveform = speech_like(2, 22050, 22050).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ResampledAudio(waveform, 22050).at(16000)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, torchaudio.functional.resample(waveform.float(), 22050, 16000))


def test_what_is_long_enough_is_embedded_as_it_is(ge2e, speech_like):
    waveform = speech_like(2, 32000)
    assert torch.equal(SegmentEncoder(ge2e)(waveform), ge2e(waveform))


@pytest.mark.parametrize(("min_seconds", "samples"), [(0.0, 25600), (1.0, 25600), (2.5, 40000)])
def test_short_segments_are_tiled_to_what_is_asked_for_or_needed(ge2e, speech_like, min_seconds, samples):
    waveform = speech_like(2, 6000)
    repeated = waveform.repeat(1, 7)[:, :samples]
    assert torch.equal(SegmentEncoder(ge2e, min_seconds)(waveform), ge2e(repeated))


def test_gradient_reaches_a_segment_of_256_samples(encoder, speech_like):
    waveform = speech_like(2, 256, 22050).requires_grad_()
    embedding = SegmentEncoder(encoder, 1.0)(ResampledAudio(waveform, 22050).at(encoder.sample_rate))
    direction = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(1))
    (embedding * direction).sum().backward()
    assert torch.isfinite(waveform.grad).all()
    assert (waveform.grad.norm(dim=1) > 1e-8).all()


def test_is_computed_in_float32_under_autocast(encoder, speech_like):
    prepared = SegmentEncoder(encoder, 1.0)
    waveform = speech_like(2, 30000).bfloat16()
    outside = prepared(waveform.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = prepared(waveform)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=0, atol=1e-6)
