import pytest
import torch
from torch import Tensor
from torchaudio.compliance.kaldi import fbank

from coqui_scl_plugin.encoders.kaldi_mel import KaldiMel


def of_torchaudio(waveform: Tensor) -> Tensor:
    rows = [fbank(row[None], num_mel_bins=80, subtract_mean=True, sample_frequency=16_000) for row in waveform]
    return torch.stack(rows).transpose(1, 2)


@pytest.mark.parametrize("samples", [400, 559, 560, 8000, 32001])
@pytest.mark.parametrize("amplitude", [1.0, 1e-3])
def test_equals_that_of_torchaudio_row_by_row(speech_like, samples, amplitude):
    waveform = amplitude * speech_like(3, samples)
    mel = KaldiMel()(waveform)
    assert mel.shape == (3, 80, 1 + (samples - 400) // 160)
    torch.testing.assert_close(mel, of_torchaudio(waveform), rtol=0, atol=1e-3)


def test_an_offset_changes_nothing_and_silence_is_zero(speech_like):
    waveform = speech_like(2, 8000)
    mel = KaldiMel()(waveform)
    torch.testing.assert_close(KaldiMel()(waveform + 0.25), mel, rtol=0, atol=0.05)
    torch.testing.assert_close(KaldiMel()(torch.zeros(2, 8000)), torch.zeros(2, 80, 48), rtol=0, atol=1e-5)


def test_its_gradient_equals_that_of_torchaudio(speech_like):
    waveform = speech_like(2, 8000)
    weight = torch.randn(2, 80, 48, generator=torch.Generator().manual_seed(0))
    ours, theirs = (
        torch.autograd.grad((features(leaf) * weight).sum(), leaf)[0]
        for features in (KaldiMel(), of_torchaudio)
        for leaf in (waveform.clone().requires_grad_(),)
    )
    assert theirs.norm() > 1
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()


def test_what_is_at_the_floor_has_no_gradient_and_nothing_is_infinite(speech_like):
    waveform = speech_like(2, 8000)
    waveform[1] = 0
    waveform.requires_grad_()
    KaldiMel()(waveform).square().sum().backward()
    assert waveform.grad[0].norm() > 1
    assert torch.equal(waveform.grad[1], torch.zeros(8000))


def test_moves_with_its_module_and_keeps_nothing_in_a_checkpoint(speech_like):
    mel = KaldiMel().double()
    assert mel(speech_like(1, 8000).double()).dtype == torch.float64
    assert mel.to("meta")(torch.zeros(2, 8000, device="meta")).device.type == "meta"
    assert not mel.state_dict()
