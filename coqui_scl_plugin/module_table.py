"""The table of modules that a run prints at its start: what trains, what is frozen, and who holds it."""

from collections.abc import Mapping, Sequence

import torch
from rich.table import Table
from torch import nn


def _state(module: nn.Module) -> str:
    flags = [p.requires_grad for p in module.parameters()]
    if not flags:
        return "no parameters"
    return "trains" if all(flags) else "in part" if any(flags) else "frozen"


def _holder(module: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]) -> str:
    own = {id(p) for p in module.parameters()}
    holders = [
        name
        for name, optimizer in optimizers.items()
        if own & {id(p) for group in optimizer.param_groups for p in group["params"]}
    ]
    return ", ".join(holders) or "none"


def module_rows(
    modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> list[tuple[str, int, str, str, str]]:
    """Name, parameters, state, optimizer and mode of each module."""
    return [
        (
            name,
            sum(p.numel() for p in module.parameters()),
            _state(module),
            _holder(module, optimizers),
            "train" if module.training else "eval",
        )
        for name, module in modules.items()
    ]


def module_table(rows: Sequence[tuple[str, int, str, str, str]]) -> Table:
    """The rows as a rich table."""
    table = Table(title="What trains and what is frozen", title_justify="left")
    table.add_column("module")
    table.add_column("parameters", justify="right")
    for column in ("state", "optimizer", "mode"):
        table.add_column(column)
    for name, count, *rest in rows:
        table.add_row(name, f"{count:,}", *rest)
    return table
