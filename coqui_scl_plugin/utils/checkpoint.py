"""Checkpoints of Coqui's trainer."""

import zipfile
from typing import Any

import torch


def read_checkpoint(path: str) -> Any:
    """Read a local file onto the CPU without running code in it; tensors are loaded from disk when they are used."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
