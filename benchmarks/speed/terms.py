"""The speaker consistency term alone, from waveforms to their gradient: ours by way of a training step, and stock's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from TTS.tts.layers.losses import VitsGeneratorLoss
from TTS.tts.models.vits import Vits

from benchmarks.speed.models import (
    Section,
    Slices,
    hold_references,
    scl_model,
    slices_of_speech,
    stock_model,
    term_of,
)
from coqui_scl_plugin.coqui.vits import SclVits
from coqui_scl_plugin.references.recordings import Recording

_GENERATOR = 1
_SPEAKERS = 4


class OurTerm:
    """What a training step of `SclVits` does beyond stock's: from the generator's outputs to the gradient at them."""

    def __init__(self, model: SclVits, batch: dict[str, Any], outputs: dict[str, Tensor], leaf: str) -> None:
        """Take a model with references, a batch, and what the generator made of it.

        Args:
            model: The model, whose weights are left alone.
            batch: A batch of the trainer's.
            outputs: Outputs of the model's forward.
            leaf: The output that the loss is computed from: `model_outputs`, or `z` for a window.
        """
        self.model, self._batch, self._step = model, batch, 0
        self._leaf = outputs[leaf].detach().requires_grad_()
        self._outputs = {**{name: value.detach() for name, value in outputs.items()}, leaf: self._leaf}

    def __call__(self) -> Tensor:
        """Take the step, and return the gradient at the leaf."""
        run = self.model.training_run
        run.step, self._step = self._step, self._step + self.model.config.scl.window.every_n_steps  # all listen
        losses = run.add_term(self._batch, self._outputs, {"loss": torch.zeros(())}, _GENERATOR)
        self.model.zero_grad(set_to_none=True)
        self._leaf.grad = None
        losses["loss"].backward()
        if self._leaf.grad is None:
            raise RuntimeError("no gradient arrived")
        return self._leaf.grad


def our_term(section: Section, shape: Slices, recordings: Sequence[Recording] | None = None) -> OurTerm:
    """Return our term on Coqui's slice, as `section` builds it, with references as from the cache.

    Args:
        section: The section, which lets the loss hear Coqui's slice.
        shape: Of the batch.
        recordings: The data set, of which the batch holds the first ones. By default, two for each item.
    """
    names = [f"recording {item}" for item in range(2 * shape.batch)]
    known = recordings or [
        Recording(name, Path(name), f"speaker {item % _SPEAKERS}") for item, name in enumerate(names)
    ]
    model, real = scl_model(section, rate=shape.rate), slices_of_speech(shape)
    hold_references(term_of(model), known)
    batch = {
        "waveform": real.unsqueeze(1),
        "waveform_rel_lens": torch.ones(shape.batch),
        "audio_unique_names": [recording.name for recording in known[: shape.batch]],
        "speaker_names": [recording.speaker for recording in known[: shape.batch]],
    }
    outputs = {"model_outputs": generated_like(real).unsqueeze(1), "waveform_seg": real.unsqueeze(1)}
    return OurTerm(model, batch, outputs, "model_outputs")


def generated_like(real: Tensor) -> Tensor:
    """Return what a generator may have made of speech: the same with noise."""
    return real + 0.01 * torch.randn(real.shape, generator=torch.Generator().manual_seed(1))


class StockTerm:
    """What stock's `Vits` does for its own loss, line by line, with a real model's encoder and resampler.

    From `Vits.forward` and `VitsGeneratorLoss.forward` of coqui-tts 0.28. The trainer puts the model, with the encoder
    in it, in train mode, and its weights take gradients.
    """

    def __init__(self, model: Vits, real: Tensor, generated: Tensor) -> None:
        """Take a stock model in train mode, and slices `[B, T]`."""
        self.model = model
        self._criterion = VitsGeneratorLoss(model.config)
        self._real, self._generated = real.unsqueeze(1), generated.unsqueeze(1).detach().requires_grad_()

    def loss(self) -> Tensor:
        """Return the weighted loss."""
        wavs_batch = torch.cat((self._real, self._generated), dim=0)
        if self.model.audio_transform is not None:
            wavs_batch = self.model.audio_transform(wavs_batch)
        pred_embs = self.model.speaker_manager.encoder.forward(wavs_batch, l2_norm=True)
        gt_spk_emb, syn_spk_emb = torch.chunk(pred_embs, 2, dim=0)
        similarity: Tensor = self._criterion.cosine_similarity_loss(gt_spk_emb, syn_spk_emb)
        return similarity * self._criterion.spk_encoder_loss_alpha

    def __call__(self) -> Tensor:
        """Take the step, and return the gradient at the generated slices."""
        self.model.zero_grad(set_to_none=True)
        self._generated.grad = None
        self.loss().backward()
        if self._generated.grad is None:
            raise RuntimeError("no gradient arrived")
        return self._generated.grad


def stock_term(shape: Slices) -> StockTerm:
    """Return stock's term with Coqui's ResNet on the slices that `our_term` has."""
    real = slices_of_speech(shape)
    return StockTerm(stock_model(shape.rate), real, generated_like(real))
