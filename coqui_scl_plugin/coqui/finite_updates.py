"""What keeps numbers that are not finite out of the weights: before each update, and before each checkpoint."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm


def guard_updates(optimizer: torch.optim.Optimizer, note: Callable[[Tensor], None]) -> None:
    """Let an optimizer make no update from gradients that are not finite.

    On the CPU its weights and its state stay as they are. On a GPU, where finding out would take a wait, the gradients
    become 0, so that the update is what its running means still hold. It sees the gradients after unscaling, averaging
    and clipping; where a `GradScaler` skips the update, it sees nothing. A gradient counts as infinite where the sum of
    squares is, as it would be in what Adam keeps of it.

    Args:
        optimizer: Optimizer of the trainer.
        note: Receives whether the gradients are finite, a scalar on their device.
    """

    def check(inner: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in inner.param_groups for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        finite = get_total_norm([p.grad for p in parameters]).isfinite()  # one pass; the largest value takes more
        note(finite)
        if finite.device.type != "cpu":
            for parameter in parameters:
                parameter.grad.masked_fill_(~finite.to(parameter.grad.device), 0.0)
        elif not finite:
            for parameter in parameters:
                parameter.grad = None

    inner_of(optimizer).register_step_pre_hook(check)


def guard_saving(
    model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], refuse: Callable[[list[str]], None]
) -> None:
    """Look before every checkpoint whether all that it would hold is finite.

    Coqui reads an optimizer's state only to save it, before it writes the file or removes an earlier one.

    Args:
        model: Model of the run.
        optimizers: All optimizers; the last one is read last.
        refuse: Called with the names of tensors that are not finite, if there are some. It raises.
    """

    def check(_: torch.optim.Optimizer) -> None:
        named = list(model.state_dict().items())
        for number, optimizer in enumerate(map(inner_of, optimizers)):
            for state in optimizer.state.values():
                named += [(f"optimizer {number}: {key}", value) for key, value in state.items()]
        if names := _not_finite(named):
            refuse(names)

    inner_of(optimizers[-1]).register_state_dict_pre_hook(check)


def inner_of(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer that accelerate has wrapped, or the given one."""
    return getattr(optimizer, "optimizer", optimizer)


def _not_finite(named: Iterable[tuple[str, Any]]) -> list[str]:
    """Return the names of tensors that hold NaN or infinity, each once."""
    found = (n for n, v in named if isinstance(v, Tensor) and v.is_floating_point() and not bool(v.isfinite().all()))
    return list(dict.fromkeys(found))
