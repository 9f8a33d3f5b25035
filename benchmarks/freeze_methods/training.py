"""The training loop of the measurements: that of Coqui's trainer, with one optimizer."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss
from TTS.tts.configs.vits_config import VitsConfig

from benchmarks.freeze_methods.methods import Nothing
from benchmarks.freeze_methods.setting import Batch, Setting


@dataclass(frozen=True)
class Step:
    """The observations of one step."""

    seconds: float
    waveform_gradient: float
    """Norm of the gradient that the speaker consistency term, and nothing else, sent to the generated waveform."""
    weight_gradients: bool
    """Whether the backward pass left a gradient on a weight of the encoder."""
    in_eval: bool
    """Whether every module of the encoder was in eval mode when the epoch began."""


def train(method: Nothing, setting: Setting, steps: int) -> Iterator[Step]:
    """Train for two epochs with `steps` steps in total, and yield after each step.

    Only the optimizer's own `zero_grad` clears gradients, as in most training loops. Coqui's trainer calls the
    model's as well when a model has several optimizers.
    """
    coqui = VitsConfig()
    optimizer = torch.optim.AdamW(method.trained(), lr=coqui.lr_gen, **coqui.optimizer_params)
    in_eval = False
    for number in range(steps):
        if number in (0, steps // 2):  # Coqui's trainer does this at the start of each epoch
            method.model.train()
            method.after_train()
            in_eval = not any(module.training for module in method.model.speaker_encoder.modules())
        yield _step(method, optimizer, setting.batches[number % len(setting.batches)], in_eval)


def _step(method: Nothing, optimizer: torch.optim.Optimizer, batch: Batch, in_eval: bool) -> Step:
    arrived: list[Tensor] = []
    started = time.perf_counter()
    method.before_step()
    generated: Tensor = method.model.generator(batch.features)
    waveform = generated.squeeze(1)  # a separate view, so that its gradient is that of the term alone
    waveform.register_hook(lambda gradient: arrived.append(gradient.norm()))
    loss = l1_loss(generated.squeeze(1), batch.real) + method.term(waveform, batch.references[method.kind])
    loss.backward()
    weight_gradients = has_gradients(method.model.speaker_encoder)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    method.after_step()
    seconds = time.perf_counter() - started
    return Step(seconds, sum(map(float, arrived)), weight_gradients, in_eval)


def has_gradients(module: nn.Module) -> bool:
    """Tell whether any parameter has a gradient, even if it is zero."""
    return any(parameter.grad is not None for parameter in module.parameters())


def gradient_norm(module: nn.Module) -> float:
    """Return the norm of the gradients of all parameters; 0 if none has one."""
    return math.hypot(*(float(p.grad.norm()) for p in module.parameters() if p.grad is not None))
