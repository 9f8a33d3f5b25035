"""Gradients averaged over the processes of a run, at the end of each backward pass: before unscaling and clipping.

Coqui's trainer calls `train_step` past DistributedDataParallel, which therefore averages nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Variable

from coqui_scl_plugin.utils import processes

_BUCKET_BYTES = 32 * 2**20
"""Gradients that travel together; as much memory is needed on top of them."""


def average_after_backward(loss: Tensor, optimizer: Any) -> None:
    """Average the gradients of an optimizer's parameters once the backward pass of a loss has ended.

    With gradients that are not finite in one process, all have such ones, so that every gradient scaler skips the step.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]

    def queue(_: Tensor) -> None:  # within the backward pass: to be run when all of it is done, by this thread
        Variable._execution_engine.queue_callback(lambda: average_gradients(parameters))

    loss.register_hook(queue)


@torch.no_grad()
def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Put the mean over all processes into `grad`; None counts as 0, and stays where all have None.

    Raises:
        ProcessError: another process does not answer.
    """
    used = processes.any_of([p.grad is not None for p in parameters])
    for bucket in _buckets([p for p, has in zip(parameters, used, strict=True) if has]):
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in bucket])
        mean = processes.total(flat) / processes.count()
        for parameter, part in zip(bucket, mean.split([p.numel() for p in bucket]), strict=True):
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            parameter.grad.copy_(part.view_as(parameter))


def _buckets(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Divide parameters by type and device, and by size."""
    for kind in dict.fromkeys((p.dtype, p.device) for p in parameters):
        bucket: list[Tensor] = []
        for parameter in parameters:
            if (parameter.dtype, parameter.device) != kind:
                continue
            if bucket and sum(p.numel() * p.element_size() for p in [*bucket, parameter]) > _BUCKET_BYTES:
                yield bucket
                bucket = []
            bucket.append(parameter)
        yield bucket
