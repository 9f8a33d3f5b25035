"""An experiment: the loss listens to what speaks at inference, latents of the text instead of the recording."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import l1_loss

from benchmarks.ablation.model import log_mel
from coqui_scl_plugin.coqui.vits_batch import listen
from coqui_scl_plugin.demo.small_vits import SmallVits

_NOISE_SCALE = 0.667  # Coqui's default at inference


class PriorVits(SmallVits):
    """Decodes the listening window from the prior: the text's aligned means and variances, through the inverse flow.

    The gradient so reaches text encoder and flow, which the posterior path never reaches. As a counterweight, the mel
    loss is taken of that window as well, with Coqui's weight, against the recording at the same place.
    """

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return stock's outputs, with latents of the prior in place of the posterior's, which only the window uses."""
        outputs: dict[str, Any] = super().forward(*args, **kwargs)
        conditioning = self._get_speaker_conditioning(kwargs["aux_input"], "emb_g", normalize_embedding=False)
        mean, log_scale = outputs["m_p"], outputs["logs_p"]
        latents = mean + torch.randn_like(mean) * log_scale.exp() * _NOISE_SCALE
        frames = torch.arange(mean.shape[-1], device=mean.device)
        mask = (frames < args[3][:, None]).unsqueeze(1).to(mean.dtype)
        outputs["z"] = self.flow(latents, mask, g=conditioning, reverse=True)
        return outputs

    def train_step(
        self, batch: dict[str, Any], criterion: nn.Module, optimizer_idx: int | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return stock's losses; at the generator's turn, with the mel loss of the window."""
        outputs, losses = super().train_step(batch, criterion, optimizer_idx)
        if optimizer_idx == 1:
            generated, real = listen(self, batch, outputs, self.config.scl, self.training_run.step)
            loss = l1_loss(log_mel(self, generated), log_mel(self, real.segments.waveform)) * self.config.mel_loss_alpha
            losses = {**losses, "loss": losses["loss"] + loss, "loss_mel_window": loss}
        return outputs, losses
