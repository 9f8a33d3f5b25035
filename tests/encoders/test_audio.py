import librosa
import numpy as np
import pytest
import torch
import torchaudio
from transformers import Wav2Vec2FeatureExtractor

from coqui_scl_plugin.encoders.audio import librosa_mel, resample, standardise, tile

RATES = [(22050, 16000), (24000, 16000), (16000, 22050), (48000, 16000), (8000, 16000)]


def tones(samples: int, sample_rate: int, highest: float = 2000.0) -> torch.Tensor:
    """`[2, samples]`: twenty sine waves a row, none above `highest` Hz."""
    generator = torch.Generator().manual_seed(sample_rate)
    pitch = 100 + (highest - 100) * torch.rand(2, 20, 1, generator=generator)
    phase = 2 * torch.pi * torch.rand(2, 20, 1, generator=generator)
    time = torch.arange(samples, dtype=torch.float64) / sample_rate
    return (torch.sin(2 * torch.pi * pitch * time + phase).sum(dim=1) / 40).float()


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
@pytest.mark.parametrize("samples", [1, 257, 8192])
def test_resample_equals_that_of_torchaudio(from_rate, to_rate, samples, speech_like):
    waveform = speech_like(2, samples, from_rate)
    expected = torchaudio.functional.resample(waveform, from_rate, to_rate)
    # which computes its filter in float32, where a kept one is rounded once
    torch.testing.assert_close(resample(waveform, from_rate, to_rate), expected, rtol=0, atol=1e-5)
    assert expected.shape == (2, -(-samples * to_rate // from_rate))


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
def test_resample_agrees_with_that_of_librosa_on_band_limited_sound(from_rate, to_rate):
    waveform = tones(from_rate, from_rate)  # a second
    ours = resample(waveform, from_rate, to_rate).numpy()
    theirs = librosa.resample(waveform.numpy(), orig_sr=from_rate, target_sr=to_rate)
    inside = slice(to_rate // 50, -to_rate // 50)  # their filters differ in length, and so at the ends
    error = np.linalg.norm((ours - theirs)[:, inside]) / np.linalg.norm(theirs[:, inside])
    assert error < 2e-3


def test_equal_rates_give_the_tensor_itself():
    waveform = torch.ones(2, 100)
    assert resample(waveform, 16000, 16000) is waveform


def test_a_filter_first_made_while_evaluating_passes_a_gradient_later():
    with torch.inference_mode():
        resample(torch.ones(1, 1000), 11025, 16000)
    waveform = torch.ones(1, 1000, requires_grad=True)
    resample(waveform, 11025, 16000).sum().backward()
    assert waveform.grad.norm() > 1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {"n_fft": 400, "win_length": 400, "hamming": False, "center": True},
            {"n_fft": 400, "win_length": 400, "window": "hann", "center": True},
        ),
        (
            {"n_fft": 512, "win_length": 400, "hamming": True, "center": False},
            {"n_fft": 512, "win_length": 400, "window": "hamming", "center": False},
        ),
    ],
    ids=["ge2e", "dvector"],
)
@pytest.mark.parametrize("samples", [1600, 20001])
def test_mel_spectrogram_equals_that_of_librosa(ours, theirs, samples, speech_like):
    waveform = speech_like(2, samples)
    expected = librosa.feature.melspectrogram(y=waveform.numpy(), sr=16000, hop_length=160, n_mels=40, **theirs)
    mel = librosa_mel(**ours)(waveform)
    assert mel.shape == expected.shape
    torch.testing.assert_close(mel, torch.from_numpy(expected), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("amplitude", [1.0, 1e-3, 0.0])
def test_standardise_equals_that_of_transformers(amplitude, offset, speech_like):
    waveform = amplitude * speech_like(2, 8000) + offset
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    expected = extractor(list(waveform.numpy()), sampling_rate=16000, return_tensors="pt")["input_values"]
    torch.testing.assert_close(standardise(waveform), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("samples", [1, 6999, 7000, 7001, 30000])
def test_tile_is_numpys_resize_of_each_row(samples, speech_like):
    waveform = speech_like(2, 7000)
    expected = np.stack([np.resize(row, max(samples, 7000)) for row in waveform.numpy()])
    assert torch.equal(tile(waveform, samples), torch.from_numpy(expected))
