"""Speech of a VITS: real speech reconstructed in its own voice or converted to another one, and text spoken."""

import numpy as np
import torch
from torch import Tensor
from TTS.tts.models.vits import Vits
from TTS.utils.audio.torch_transforms import wav_to_spec

from coqui_scl_plugin.encoders.audio import resample


def spectrogram_for(model: Vits, waveform: Tensor, sample_rate: int) -> Tensor:
    """Return `[1, F, T']`, what the posterior encoder takes of a recording `[T]` of any rate, on the model's device."""
    audio = model.config.audio
    rate = model.args.encoder_sample_rate or audio.sample_rate
    resampled = resample(waveform[None].to(model.device), sample_rate, rate)
    spec: Tensor = wav_to_spec(resampled[None], audio.fft_size, audio.hop_length, audio.win_length, center=False)
    return spec


def speaker_conditioning(model: Vits, speaker: str) -> Tensor | None:
    """Return `[1, C, 1]`, the conditioning of a speaker; None for a single-speaker model.

    Raises:
        KeyError: the model does not know the speaker.
    """
    speaker_id, d_vector = model._get_speaker_id_or_dvector(speaker)
    conditioning: Tensor | None = model._get_speaker_conditioning(
        {"speaker_ids": speaker_id, "d_vectors": d_vector}, "emb_g", normalize_embedding=False
    )
    return conditioning


def _encode(model: Vits, spec: Tensor, conditioning: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the posterior mean `[1, H, T]` and its mask `[1, 1, T]`."""
    lengths = torch.tensor([spec.shape[-1]], device=spec.device)
    _, mean, _, mask = model.posterior_encoder(spec, lengths, g=conditioning)
    return mean * mask, mask


def _decode(model: Vits, latents: Tensor, mask: Tensor, conditioning: Tensor | None) -> Tensor:
    lengths = torch.tensor([latents.shape[-1]], device=latents.device)
    latents, _, _, mask = model.upsampling_z(latents, y_lengths=lengths, y_mask=mask)
    decoded: Tensor = model.waveform_decoder(latents * mask, g=conditioning)
    return decoded[0, 0].float()


@torch.inference_mode()
def reconstruct(model: Vits, spec: Tensor, conditioning: Tensor | None) -> Tensor:
    """Generate a recording anew in its own voice, by the posterior encoder's mean and the decoder. No random draw.

    Args:
        model: In eval mode.
        spec: `[1, F, T]`, linear spectrogram of one recording, at the rate that the posterior encoder takes.
        conditioning: `[1, C, 1]`, conditioning of its speaker; None for a single-speaker model.

    Returns:
        `[T']`, float32, at the model's sample rate.
    """
    latents, mask = _encode(model, spec, conditioning)
    return _decode(model, latents, mask, conditioning)


@torch.inference_mode()
def convert_voice(model: Vits, spec: Tensor, source: Tensor | None, target: Tensor | None) -> Tensor:
    """Generate a recording anew in another voice, by way of the flow. No random draw.

    Args:
        model: In eval mode.
        spec: `[1, F, T]`, linear spectrogram of one recording, at the rate that the posterior encoder takes.
        source: `[1, C, 1]`, conditioning of its speaker.
        target: `[1, C, 1]`, conditioning of the speaker to sound like.

    Returns:
        `[T']`, float32, at the model's sample rate.
    """
    latents, mask = _encode(model, spec, source)
    converted = model.flow(model.flow(latents, mask, g=source), mask, g=target, reverse=True)
    return _decode(model, converted, mask, target)


def speak(model: Vits, text: str, speaker: str, language: str | None = None) -> Tensor:
    """Speak a text, with random draws of torch.

    Args:
        model: In eval mode.
        text: What to say.
        speaker: Name of the speaker.
        language: Its language; None for a model of one.

    Returns:
        `[T]`, float32, at the model's sample rate.

    Raises:
        RuntimeError, ValueError, IndexError, KeyError: Coqui cannot speak the text.
    """
    spoken = model.synthesize(text, speaker=speaker, language=language)["wav"]
    return torch.as_tensor(np.atleast_1d(spoken))
