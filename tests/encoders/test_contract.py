import copy

import pytest
import torch
from torch import Tensor

from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.testing import ENCODER_CHECKS
from coqui_scl_plugin.testing.running import Check


@pytest.mark.parametrize("check", ENCODER_CHECKS)
def test_each_encoder_conforms(encoder: SpeakerEncoder, check: Check) -> None:
    check(lambda: copy.deepcopy(encoder))


# --- stricter than what is asked of a third party's -------------------------------------------------------------------


def gradient_of_similarity(encoder, waveform: torch.Tensor) -> torch.Tensor:
    """Of the cosine of each row's embedding with a direction of its own, to the waveform."""
    waveform = waveform.clone().requires_grad_()
    embedding = encoder(waveform)
    direction = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(1))
    torch.cosine_similarity(embedding, direction).sum().backward()
    return waveform.grad


def test_the_gradient_reaches_very_quiet_waveforms(encoder, speech_like):
    gradient = gradient_of_similarity(encoder, 1e-4 * speech_like(2, 32000))
    assert torch.isfinite(gradient).all()
    assert (gradient.norm(dim=1) > 1e-8).all()


def test_the_gradient_reaches_the_sounding_half_of_a_half_silent_waveform(encoder, speech_like):
    waveform = speech_like(2, 32000)
    waveform[:, 16000:] = 0
    gradient = gradient_of_similarity(encoder, waveform)
    assert torch.isfinite(gradient).all()
    assert (gradient[:, :16000].norm(dim=1) > 1e-8).all()


def test_the_gradient_is_the_slope_that_small_steps_measure_in_float64(encoder, speech_like):
    waveform = speech_like(1, encoder.min_samples)
    gradient = gradient_of_similarity(encoder, waveform)
    direction = torch.randn(1, encoder.embedding_dim, generator=torch.Generator().manual_seed(1)).double()
    exact, way = copy.deepcopy(encoder).double(), (gradient / gradient.norm()).double()
    up, down = (torch.cosine_similarity(exact(waveform.double() + s * way), direction).item() for s in (1e-7, -1e-7))
    assert gradient.norm().item() == pytest.approx((up - down) / 2e-7, rel=1e-2)


def test_a_batch_is_its_rows(encoder, speech_like):
    waveform = speech_like(2, 32000)
    together = encoder(waveform)
    alone = torch.cat([encoder(waveform[:1]), encoder(waveform[1:])])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


# --- what a call is refused for ---------------------------------------------------------------------------------------


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
