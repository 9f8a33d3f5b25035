"""The random numbers of a training: those of a step depend on the step alone, those of an epoch's order on the epoch.

Coqui draws slices, noise and dropout from the global generators, whose state no checkpoint holds. Seeded anew at each
step, a continued run draws what an uninterrupted one would, and an evaluation in between changes nothing.
"""

import hashlib
import random

import numpy as np
import torch


def seed_loading(training_seed: int) -> None:
    """Seed what is drawn while a data loader is made, which happens once a process: the same at each start."""
    _seed("loading", training_seed)


def seed_epoch(training_seed: int, epoch: int) -> None:
    """Seed what is drawn for the order of an epoch's data, the same in all processes of a run."""
    _seed("epoch", training_seed, epoch)


def seed_step(training_seed: int, step: int, rank: int) -> None:
    """Seed what is drawn in a training step: each step and each process has numbers of its own."""
    _seed("step", training_seed, step, rank)


def seed_after_step(training_seed: int, steps: int) -> None:
    """Seed what is drawn after a training step, in an evaluation or for the order of data: no process differs."""
    _seed("after", training_seed, steps)


def _seed(*parts: object) -> None:
    """Seed the global generators of Python, NumPy and torch with a hash of the parts."""
    seed = int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1
    random.seed(seed)
    np.random.seed(seed % 2**32)  # the global generator is what Coqui draws from
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
