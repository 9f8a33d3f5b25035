"""Copies of real speech by a VITS: in the same voice, or in another one."""

import torch
from torch import Tensor
from TTS.tts.models.vits import Vits
from TTS.utils.audio.torch_transforms import wav_to_spec

from coqui_scl_plugin.encoders.audio import resample


def spectrogram_for(model: Vits, waveform: Tensor, sample_rate: int) -> Tensor:
    """`[1, F, T']`, what the posterior encoder takes of a recording `[T]` of any rate, on the model's device."""
    audio = model.config.audio
    heard = resample(waveform[None].to(model.device), sample_rate, model.args.encoder_sample_rate or audio.sample_rate)
    spec: Tensor = wav_to_spec(heard[None], audio.fft_size, audio.hop_length, audio.win_length, center=False)
    return spec


@torch.inference_mode()
def copy_speech(model: Vits, spec: Tensor, source: Tensor | None, target: Tensor | None = None) -> Tensor:
    """Speech through the posterior encoder, the flow where the voice changes, and the decoder. No random draw.

    Args:
        model: In eval mode.
        spec: `[1, F, T]`, linear spectrogram of one recording, at the rate that the posterior encoder takes.
        source: `[1, C, 1]`, conditioning of its speaker; None for a model of one speaker.
        target: That of the speaker to sound like; None for the same voice.

    Returns:
        `[T']`, float32, at the model's sample rate.
    """
    lengths = torch.tensor([spec.shape[-1]], device=spec.device)
    _, mean, _, mask = model.posterior_encoder(spec, lengths, g=source)
    latents, voice = mean * mask, source
    if target is not None:
        latents, voice = model.flow(model.flow(latents, mask, g=source), mask, g=target, reverse=True), target
    latents, _, _, mask = model.upsampling_z(latents, y_lengths=lengths, y_mask=mask)
    decoded: Tensor = model.waveform_decoder(latents * mask, g=voice)
    return decoded[0, 0].float()
