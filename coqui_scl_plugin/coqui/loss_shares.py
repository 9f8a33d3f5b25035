"""The share of each process in stock's losses, which are means over batches and texts of unequal size."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from coqui_scl_plugin.utils import processes

_MASKED = {"loss_kl": "spec_lens", "loss_duration": "token_lens"}
"""Losses of the generator that are means over what is no padding, and the lengths of the items in it."""


def share_out(losses: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return stock's losses of a turn with `loss` weighed so that averaged gradients are those of the joint batch.

    Stock's losses are means over items, but for the KL loss, a mean over frames, and the duration loss, a mean over
    tokens. The mean of the processes' means is the joint mean only if each counts by its number of items, frames or
    tokens. Values that are logged stay those of the own batch.

    Raises:
        ProcessError: another process does not answer.
    """
    masked = {name: lengths for name, lengths in _MASKED.items() if isinstance(losses.get(name), Tensor)}
    items = batch["spec_lens"].new_tensor(len(batch["spec_lens"]))
    own = torch.stack([items, *(batch[lengths].sum() for lengths in masked.values())]).float()
    shares = processes.count() * own / processes.total(own)
    loss = shares[0] * losses["loss"]
    for share, name in zip(shares[1:], masked, strict=True):
        loss = loss + (share - shares[0]) * losses[name]
    return {**losses, "loss": loss}
