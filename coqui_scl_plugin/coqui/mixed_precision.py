"""The precision of a training step, as Coqui's trainer chooses it."""

from typing import Any

import torch
from trainer import Trainer

_FIRST_SCALE = 65536.0
"""Loss scale with which torch's GradScaler begins."""


def training_autocast(config: Any, device: torch.device) -> torch.autocast:
    """Return the autocast of a training step: on a CPU in bfloat16, whatever `precision` says."""
    half = config.precision == "fp16" and device.type == "cuda"
    return torch.autocast(device.type, torch.float16 if half else torch.bfloat16, enabled=bool(config.mixed_precision))


def first_loss_scale(config: Any, device: torch.device) -> float:
    """Return the factor of all gradients in the first step; without it, half precision rounds small ones to 0."""
    half = config.precision == "fp16" if config.mixed_precision else config.use_grad_scaler
    return _FIRST_SCALE if half and device.type == "cuda" else 1.0


def skips_overflows(trainer: Trainer) -> bool:
    """Tell whether a GradScaler leaves out steps with a gradient that is not finite, and lowers the loss scale."""
    return trainer.scaler is not None and bool(trainer.scaler.is_enabled())
