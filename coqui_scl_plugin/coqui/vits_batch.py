"""Batches of a stock `Vits`: what the loss compares, and reconstructions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.config import SclConfig
from coqui_scl_plugin.coqui.listening_window import ListeningWindow, draw_items, draw_window
from coqui_scl_plugin.coqui.vits_audio import reconstruct
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.references.sources import ReferenceBatch
from coqui_scl_plugin.utils.on_device import cut, cut_at, rows

_LENGTHS = "scl_relative_lengths"
"""Key of a batch: what `waveform_rel_lens` held on the CPU."""


def keep_lengths(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch that the trainer is about to take to the device, with its lengths as plain numbers beside."""
    return {**batch, _LENGTHS: batch["waveform_rel_lens"].tolist()} if batch else batch


def _lengths(batch: dict[str, Any], samples: int) -> Tensor:
    """Return the lengths of B recordings relative to the longest, times `samples`: `[B]`, on the CPU.

    Only a batch without kept lengths, of code that is not Coqui's trainer, makes the program wait for a GPU.
    """
    kept = batch.get(_LENGTHS)
    relative = batch["waveform_rel_lens"].cpu() if kept is None else torch.tensor(kept)
    return relative * samples


def _frame_counts(batch: dict[str, Any]) -> list[int]:
    """Return the values of `spec_lens`, computed as Coqui does."""
    counts: list[int] = _lengths(batch, batch["spec"].shape[2]).int().tolist()
    return counts


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
        frames = max(1, round(scl.window.seconds * _latent_rate(model)))
        window = draw_window(real.names, _frame_counts(batch), frames, items=scl.window.items, step=step)
        latents = outputs["z"].detach() if scl.segment.detach_posterior else outputs["z"]
        generated = _decode(model, batch, cut(latents, window.items, window.starts, window.frames), window.items)
        return generated, real.select(window.items, _real_slices(model, batch, window))
    items = draw_items(len(real.names), scl.window.items, step)
    if scl.segment.detach_posterior and torch.is_grad_enabled():
        starts = rows(outputs["slice_ids"] // _interpolation(model), items)
        pieces = cut_at(rows(outputs["z"].detach(), items), starts, model.spec_segment_size)
        generated = _decode(model, batch, pieces, items)
    else:
        generated = rows(outputs["model_outputs"].float().squeeze(1), items)
    return generated, real.select(items, real.segments.select(items))


def _decode(model: Vits, batch: dict[str, Any], latents: Tensor, items: Sequence[int]) -> Tensor:
    """Decode pieces of the latents of some items, `[K, H, frames]`, with their conditioning: `[K, T]` float32."""
    conditioning = model._get_speaker_conditioning(batch, "emb_g", normalize_embedding=False)
    upsampled, *_ = model.upsampling_z(latents)
    if upsampled.ndim < latents.ndim:  # interpolation in Coqui drops the first dimension of a single item
        upsampled = upsampled.unsqueeze(0)
    decoded: Tensor = model.waveform_decoder(upsampled, g=None if conditioning is None else rows(conditioning, items))
    return decoded.float().squeeze(1)


def _real_slices(model: Vits, batch: dict[str, Any], window: ListeningWindow) -> ResampledAudio:
    """Cut the recordings where the window cuts their latents, `[K, T]`."""
    hop = model.config.audio.hop_length * _interpolation(model)
    slices = cut(batch["waveform"], window.items, [start * hop for start in window.starts], window.frames * hop)
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
    lengths = _lengths(batch, waveforms.shape[1]).round().long().tolist()
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
            batch["spec"][item : item + 1, :, : min(length, frames)],
            conditioning[item : item + 1] if conditioning is not None else None,
        )
        for item, length in enumerate(_frame_counts(batch))
    ]
