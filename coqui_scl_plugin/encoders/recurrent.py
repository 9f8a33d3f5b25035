"""A backward pass through recurrent layers in eval mode, which cuDNN refuses."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


def recurrent_layers(module: nn.Module) -> list[nn.RNNBase]:
    """Return the recurrent layers of a module."""
    return [part for part in module.modules() if isinstance(part, nn.RNNBase)]


@contextlib.contextmanager
def backward_in_eval(waveform: Tensor, layers: Sequence[nn.RNNBase]) -> Iterator[None]:
    """Let the layers run within the block so that a backward pass can follow, with the values of eval mode.

    On a GPU, cuDNN's recurrent layers keep what backward needs in train mode alone. Without dropout, train mode gives
    the same values, so the layers have it for the length of the block, and nothing else of their encoder does. With
    dropout, cuDNN is off for the block, which is slower.
    """
    in_eval = [layer for layer in layers if not layer.training]
    if not (in_eval and needs_backward(waveform)):
        yield
    elif any(layer.dropout > 0.0 for layer in in_eval):
        with without_cudnn():
            yield
    else:
        for layer in in_eval:
            layer.training = True
        try:
            yield
        finally:
            for layer in in_eval:
                layer.training = False


def needs_backward(waveform: Tensor) -> bool:
    """Tell whether a backward pass through layers that hear the waveform may follow, on a GPU."""
    return waveform.is_cuda and torch.is_grad_enabled()


@contextlib.contextmanager
def without_cudnn() -> Iterator[None]:
    """Switch cuDNN off within the block, and none of its other settings, which may not be set in this way."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before
