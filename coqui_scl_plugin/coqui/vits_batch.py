"""Batches of a stock `Vits`: what the loss compares, and reconstructions."""

from typing import Any

import torch
from torch import Tensor
from TTS.tts.models.vits import Vits
from TTS.tts.utils.helpers import segment

from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.coqui.listening_window import ListeningWindow, draw_items, draw_window
from coqui_scl_plugin.coqui.vits_audio import reconstruct
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.references.sources import ReferenceBatch


def listen(
    model: Vits, batch: dict[str, Any], outputs: dict[str, Any], scl: SclConfig, step: int = 0
) -> tuple[Tensor, ReferenceBatch]:
    """Return what the loss compares: generated speech `[K, T]` in float32, with its graph, and its real half.

    With `window.seconds` 0 these are Coqui's slices, otherwise a window of the latents that is decoded once more. The
    gradient at the generated speech is that of the speaker consistency term alone.

    Args:
        model: Model in the mode of the step.
        batch: Batch that `train_step` received.
        outputs: Outputs of the model's forward.
        scl: The section; it says how long the loss listens, to how many items, and whether through the posterior
            encoder.
        step: The training step, which draws the items and the places.
    """
    real = reference_batch(model, batch, outputs)
    if scl.window.seconds > 0:
        lengths = [int(length) for length in batch["spec_lens"]]
        frames = max(1, round(scl.window.seconds * _latent_rate(model)))
        window = draw_window(real.names, lengths, frames, items=scl.window.items, step=step)
        generated = _decode(model, batch, outputs, window, detach=scl.segment.detach_posterior)
        return generated, real.select(window.items, _real_slices(model, batch, window))
    items = draw_items(len(real.names), scl.window.items, step)
    if scl.segment.detach_posterior and torch.is_grad_enabled():
        starts = (outputs["slice_ids"] // _interpolation(model)).tolist()
        window = ListeningWindow(items, [starts[item] for item in items], model.spec_segment_size)
        generated = _decode(model, batch, outputs, window, detach=True)
    else:
        generated = outputs["model_outputs"].float().squeeze(1)
        generated = generated if len(items) == len(generated) else generated[items]
    return generated, real.select(items, real.segments.select(items))


def _decode(
    model: Vits, batch: dict[str, Any], outputs: dict[str, Any], window: ListeningWindow, *, detach: bool
) -> Tensor:
    """Decode a window of the latents, `[K, T]` float32, with the conditioning of its items."""
    conditioning = model._get_speaker_conditioning(batch, "emb_g", normalize_embedding=False)
    latents = (outputs["z"].detach() if detach else outputs["z"])[window.items]
    starts = torch.tensor(window.starts, device=latents.device)
    cut = segment(latents, starts, window.frames, pad_short=True)
    upsampled, *_ = model.upsampling_z(cut, slice_ids=starts)
    if upsampled.ndim < cut.ndim:  # interpolation in Coqui drops the first dimension of a single item
        upsampled = upsampled.unsqueeze(0)
    decoded: Tensor = model.waveform_decoder(
        upsampled, g=conditioning[window.items] if conditioning is not None else None
    )
    return decoded.float().squeeze(1)


def _real_slices(model: Vits, batch: dict[str, Any], window: ListeningWindow) -> ResampledAudio:
    """Cut the recordings where the window cuts their latents, `[K, T]`."""
    hop = model.config.audio.hop_length * _interpolation(model)
    waveforms = batch["waveform"][window.items]
    starts = torch.tensor(window.starts, device=waveforms.device) * hop
    slices = segment(waveforms, starts, window.frames * hop)
    return ResampledAudio(slices.squeeze(1), model.config.audio.sample_rate)


def _latent_rate(model: Vits) -> float:
    """Return the frames of the posterior encoder in a second."""
    audio = model.config.audio
    return float((model.args.encoder_sample_rate or audio.sample_rate) / audio.hop_length)


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


def generate_pair(model: Vits, batch: dict[str, Any], scl: SclConfig, step: int = 0) -> tuple[Tensor, ReferenceBatch]:
    """Run the generator as a training step does, and return what the loss compares; see `listen`."""
    conditioning = {key: batch[key] for key in ("d_vectors", "speaker_ids", "language_ids")}
    inputs = (batch[key] for key in ("tokens", "token_lens", "spec", "spec_lens", "waveform"))
    return listen(model, batch, model.forward(*inputs, aux_input=conditioning), scl, step)


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
