"""Copies of real speech by a VITS: in the same voice, or in another one."""

import torch
from torch import Tensor
from TTS.tts.models.vits import Vits


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
