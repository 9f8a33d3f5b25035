"""Checkpoints of Coqui's trainer."""

import zipfile
from typing import Any

import torch


def read_checkpoint(path: str) -> Any:
    """What is in a local file, on the CPU; tensors are read from the disk when they are used. Runs no code of it."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
