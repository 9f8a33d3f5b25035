"""A bound on what one quiet item can send into the generator.

Speaker encoders hardly hear loudness, so the gradient of the loss at a waveform grows as it gets quieter: by 10,000
between -20 and -100 dBFS with `ge2e`. In half precision, one such item overflows the generator's backward pass, and the
step is lost for all of them.
"""

from torch import Tensor

QUIETEST_RMS = 5e-3
"""Loudness, -46 dBFS, below which the gradient of an item is bounded as if the item had this loudness.

All 337 windows of 2 s of the real speech in libri10 are louder (0.0096 to 0.13, half of them above 0.056), as are all
but 4 of 721 of 1 s; what is quieter is a pause. So quiet items send no more than about 11 times what usual ones do.
"""
_SILENCE_RMS = 1e-7
"""Loudness that exact silence counts as, so that a batch of silence does not look as if the loss were cut off."""


def bounded(gradient: Tensor, waveform: Tensor) -> Tensor:
    """Scale down the gradient at items that are quieter than `QUIETEST_RMS`, `[K, T]`; leave others bit by bit.

    The factor is the item's loudness divided by `QUIETEST_RMS`. It depends on the waveform alone, so that the bound is
    the same for every loss, weight and loss scale.

    >>> import torch
    >>> waveform = torch.tensor([[0.1, -0.1], [5e-4, -5e-4]])
    >>> [round(value, 6) for value in bounded(torch.ones(2, 2), waveform)[:, 0].tolist()]
    [1.0, 0.1]
    """
    loudness = (waveform.detach().float().square().mean(dim=-1, keepdim=True) + _SILENCE_RMS**2).sqrt()
    return gradient * (loudness / QUIETEST_RMS).clamp_max(1.0)


def with_bounded_gradient(waveform: Tensor) -> Tensor:
    """Return the same waveform `[K, T]`; the gradient that comes back through it is `bounded`."""
    if not waveform.requires_grad:
        return waveform
    heard = waveform.view_as(waveform)
    heard.register_hook(lambda gradient: bounded(gradient, waveform))
    return heard
