"""The batch of all processes: what encoders heard in each of them, for losses that compare items with each other."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from coqui_scl_plugin.losses.heard import Heard
from coqui_scl_plugin.utils import processes
from coqui_scl_plugin.utils.on_device import on_device

Heards = Mapping[str, Heard]
"""By alias of the encoder."""


@dataclass(frozen=True)
class JointBatch:
    """The items of all processes, in the order of the processes; in a single one, its own."""

    generated: Heards
    reference: Heards
    speaker_ids: Tensor
    """Integers that tell the speakers of the joint batch apart, `[N]`."""
    speakers: int
    """The number of speakers in it."""


def join_batches(
    generated: Heards, reference: Heards, speakers: list[str], known_ids: Tensor | None, device: torch.device
) -> JointBatch:
    """Gather the embeddings of all processes, with a gradient to the own ones; see `processes.rows_of_all`.

    Feature maps stay those of the own items, since those of other processes have other lengths; losses of them are
    means over items, whose gradients average by themselves.

    Args:
        generated: What the encoders made of the own generated speech.
        reference: What they made of the own real speech.
        speakers: The speaker of each own item.
        known_ids: Integers that mean the same speaker in every process, as those of the data set do, `[B]`, on the CPU;
            None: only the speakers of the joint batch are to be told apart.
        device: The device of the embeddings.

    Raises:
        ProcessError: another process does not answer.
    """
    everyone = processes.from_all((speakers, None if known_ids is None else known_ids.tolist()))
    counts = [len(names) for names, _ in everyone]
    joint_speakers = [speaker for names, _ in everyone for speaker in names]
    order = sorted(set(joint_speakers))
    if known_ids is None:
        numbers = [order.index(speaker) for speaker in joint_speakers]
    else:
        numbers = [row for _, rows in everyone for row in rows]
    return JointBatch(
        {alias: _joined(heard, counts) for alias, heard in generated.items()},
        {alias: _joined(heard, counts) for alias, heard in reference.items()},
        on_device(torch.tensor(numbers), device),
        len(order),
    )


def _joined(heard: Heard, counts: list[int]) -> Heard:
    if heard.embedding is None:
        return heard
    return heard._replace(embedding=processes.rows_of_all(heard.embedding, counts))


def joint_value(loss: Tensor) -> Tensor:
    """Return a loss with the mean value over all processes and its own gradient."""
    return loss + (processes.total(loss) / processes.count() - loss.detach())
