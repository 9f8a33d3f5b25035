"""Real speech through a stock VITS: reconstructed and converted."""

import pytest
import torch
from tiny_vits import SIZES
from TTS.tts.configs.vits_config import VitsArgs, VitsConfig
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.coqui.vits_audio import convert_voice, reconstruct, speaker_conditioning, spectrogram_for


@pytest.fixture(scope="module")
def model():
    """Of two speakers; its flow, which begins as the identity, does something."""
    torch.manual_seed(0)
    model = Vits(VitsConfig(model_args=VitsArgs(**SIZES), speakers=["ann", "bob"])).eval()
    with torch.no_grad():
        for parameter in model.flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def spec(model):
    waveform = 0.1 * torch.randn(12_000, generator=torch.Generator().manual_seed(1))
    return spectrogram_for(model, waveform, model.config.audio.sample_rate)


@torch.no_grad()
def decoded_by_hand(model, spec, source, target=None):
    _, latents, _, mask = model.posterior_encoder(spec, torch.tensor([spec.shape[-1]]), g=source)
    if target is not None:
        latents = model.flow(model.flow(latents, mask, g=source), mask, g=target, reverse=True)
    return model.waveform_decoder(latents, g=source if target is None else target)[0, 0]


def test_a_reconstruction_is_the_decoded_posterior_mean(model, spec):
    ann, bob = (speaker_conditioning(model, name) for name in ("ann", "bob"))
    reconstructed = reconstruct(model, spec, ann)
    torch.testing.assert_close(reconstructed, decoded_by_hand(model, spec, ann))
    torch.testing.assert_close(reconstructed, reconstruct(model, spec, ann), rtol=0, atol=0)  # no draw
    assert (reconstructed - reconstruct(model, spec, bob)).abs().max() > 1e-4


def test_a_conversion_passes_the_flow_of_one_speaker_and_back_through_that_of_the_other(model, spec):
    ann, bob = (speaker_conditioning(model, name) for name in ("ann", "bob"))
    converted = convert_voice(model, spec, ann, bob)
    torch.testing.assert_close(converted, decoded_by_hand(model, spec, ann, bob))
    for other in (reconstruct(model, spec, ann), reconstruct(model, spec, bob)):
        assert (converted - other).abs().max() > 1e-4
    # the flow is invertible, so that a voice converted to itself is reconstructed
    torch.testing.assert_close(
        convert_voice(model, spec, ann, ann), reconstruct(model, spec, ann), rtol=1e-3, atol=1e-4
    )


def test_conditioning_is_that_of_the_speaker(model):
    assert torch.equal(speaker_conditioning(model, "bob")[0, :, 0], model.emb_g.weight[1])
    with pytest.raises(KeyError):
        speaker_conditioning(model, "cid")
