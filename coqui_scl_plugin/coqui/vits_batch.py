"""Batches of a stock `Vits`: the generated waveform, the real half of the batch, and reconstructions."""

from typing import Any

import torch
from torch import Tensor
from TTS.tts.models.vits import Vits
from TTS.tts.utils.helpers import segment

from coqui_scl_plugin.coqui.vits_audio import reconstruct
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.references.sources import ReferenceBatch


def generated_waveform(
    model: Vits, batch: dict[str, Any], outputs: dict[str, Any], *, detach_posterior: bool
) -> Tensor:
    """Return the slices that a step generated, `[B, T]` float32.

    The result is a separate view, so that its gradient is that of the speaker consistency term alone.

    Args:
        model: Model in the mode of the step.
        batch: Batch that `train_step` received.
        outputs: Outputs of the model's forward.
        detach_posterior: Whether to decode again, from latents that pass no gradient to the posterior encoder.
    """
    waveform = outputs["model_outputs"]
    if detach_posterior and torch.is_grad_enabled():
        waveform = _decode_detached(model, batch, outputs)
    return waveform.float().squeeze(1)


def _decode_detached(model: Vits, batch: dict[str, Any], outputs: dict[str, Any]) -> Tensor:
    conditioning = model._get_speaker_conditioning(batch, "emb_g", normalize_embedding=False)
    start = outputs["slice_ids"] // _interpolation(model)
    latents = segment(outputs["z"].detach(), start, model.spec_segment_size, pad_short=True)
    latents, *_ = model.upsampling_z(latents, slice_ids=start)
    decoded: Tensor = model.waveform_decoder(latents, g=conditioning)
    return decoded


def _interpolation(model: Vits) -> int:
    """Return the number of samples that the decoder generates for each sample of the posterior encoder."""
    return int(model.interpolate_factor) if model.args.encoder_sample_rate else 1


def segment_seconds(model: Vits) -> float:
    """Return the length of the slice that the generator makes in a step, in seconds."""
    audio = model.config.audio
    return float(model.spec_segment_size * _interpolation(model) * audio.hop_length / audio.sample_rate)


def reference_batch(model: Vits, batch: dict[str, Any], outputs: dict[str, Any]) -> ReferenceBatch:
    """Return the real half of a batch."""
    waveforms = batch["waveform"].squeeze(1)
    lengths = (batch["waveform_rel_lens"] * waveforms.shape[1]).round().long().tolist()
    return ReferenceBatch(
        segments=ResampledAudio(outputs["waveform_seg"].squeeze(1), model.config.audio.sample_rate),
        utterances=[row[:length].float() for row, length in zip(waveforms, lengths, strict=True)],
        names=list(batch["audio_unique_names"]),
        speakers=list(batch["speaker_names"]),
    )


def generate_pair(model: Vits, batch: dict[str, Any], *, detach_posterior: bool) -> tuple[Tensor, ReferenceBatch]:
    """Run the generator as a training step does; return the waveform `[B, T]` with its graph, and the real half."""
    conditioning = {key: batch[key] for key in ("d_vectors", "speaker_ids", "language_ids")}
    inputs = (batch[key] for key in ("tokens", "token_lens", "spec", "spec_lens", "waveform"))
    outputs = model.forward(*inputs, aux_input=conditioning)
    generated = generated_waveform(model, batch, outputs, detach_posterior=detach_posterior)
    return generated, reference_batch(model, batch, outputs)


def reconstruct_batch(model: Vits, batch: dict[str, Any], max_seconds: float) -> list[Tensor]:
    """Reconstruct the recordings of a batch in their own voices, at most `max_seconds` of each: `[T_i]` each."""
    conditioning = model._get_speaker_conditioning(batch, "emb_g", normalize_embedding=False)
    rate = model.args.encoder_sample_rate or model.config.audio.sample_rate
    frames = max(1, round(max_seconds * rate / model.config.audio.hop_length))
    return [
        reconstruct(
            model,
            batch["spec"][item : item + 1, :, : min(int(length), frames)],
            conditioning[[item]] if conditioning is not None else None,
        )
        for item, length in enumerate(batch["spec_lens"])
    ]
