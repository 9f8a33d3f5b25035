"""The memory of a graph: what autograd keeps for the backward pass."""

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class KeptBytes:
    """Sums the storages that autograd keeps, each once, parameters and buffers left out."""

    def __init__(self, model: torch.nn.Module) -> None:
        """Leave out what is part of the model."""
        own: Iterable[Tensor] = (*model.parameters(), *model.buffers())
        self._own = {tensor.untyped_storage().data_ptr() for tensor in own}
        self._kept: dict[int, int] = {}

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is kept within the block."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
            yield

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._own:
            self._kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def mebibytes(self) -> float:
        """Their sum in MiB."""
        return sum(self._kept.values()) / 2**20
