"""Small tensors on the device of a training step, without making the program wait for a GPU."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device. A copy to a GPU is queued behind what the GPU still has to do; nothing waits for it.

    A copy from ordinary memory waits, one from pinned memory need not: https://docs.pytorch.org/docs/stable/notes/cuda.html
    """
    if device.type == "cuda" and not tensor.is_cuda:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def rows(tensor: Tensor, items: Sequence[int]) -> Tensor:
    """Return some rows of a tensor, itself if they are all of them in their order. Indexing by a list would copy it.

    >>> rows(torch.tensor([5, 6, 7]), [2, 0]).tolist()
    [7, 5]
    """
    if list(items) == list(range(len(tensor))):
        return tensor
    return torch.stack([tensor[item] for item in items])


def cut(tensor: Tensor, items: Sequence[int], starts: Sequence[int], length: int) -> Tensor:
    """Cut a piece of `length` out of the last dimension of some rows, with zeros where a row ends too early.

    >>> cut(torch.arange(10).reshape(2, 5), [1, 0], [2, 3], 3).tolist()
    [[7, 8, 9], [3, 4, 0]]
    """
    pieces = [tensor[item, ..., start : start + length] for item, start in zip(items, starts, strict=True)]
    return torch.stack([pad(piece, (0, length - piece.shape[-1])) for piece in pieces])


def cut_at(tensor: Tensor, starts: Tensor, length: int) -> Tensor:
    """Cut pieces as `cut` does, out of each row of `[B, C, T]`, at places `[B]` that are known on the device alone.

    >>> cut_at(torch.arange(10).reshape(2, 1, 5), torch.tensor([1, 3]), 3).tolist()
    [[[1, 2, 3]], [[8, 9, 0]]]
    """
    places = starts[:, None, None] + torch.arange(length, device=tensor.device)
    return pad(tensor, (0, length)).gather(2, places.expand(-1, tensor.shape[1], -1))
