"""Buffers of modules that a trial must leave as they were."""

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from coqui_scl_plugin.utils.fingerprint import same_bits


@contextlib.contextmanager
def buffers_put_back(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Restore the buffers of modules when the block ends, also those that it replaced by others of their form."""
    kept = [(module, {name: buffer.clone() for name, buffer in module.named_buffers()}) for module in modules]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, before in kept:
                for name, buffer in module.named_buffers():
                    if name in before and not same_bits(buffer, before[name]):
                        buffer.copy_(before[name])
