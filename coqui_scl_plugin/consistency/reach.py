"""How far the gradient of the loss reaches into the generator, module by module."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from rich.table import Table
from torch import Tensor, nn

from coqui_scl_plugin.consistency.gradient_probe import GradientProbe


@dataclass(frozen=True)
class ModuleReach:
    """What a module of the generator receives of the gradient, and what the module is used for."""

    module: str
    parameters: int
    trainable: int
    """Number of parameters that require a gradient now."""
    reached: int
    """Number of those in tensors to which a gradient arrives."""
    gradient_norm: float | None
    """Norm of the unweighted loss's gradient at all trainable parameters: 0 if none arrives, None if none is trainable.
    """
    used_in_speech: bool
    """Whether text-to-speech uses the module."""
    makes_waveform: bool
    """Whether the waveform that the loss judges depends on the module."""
    until_step: int | None
    """The step at which the module, or the first of its frozen parts, is unfrozen."""

    @classmethod
    def of(cls, name: str, module: nn.Module, norms: Mapping[nn.Parameter, float], **known: Any) -> Self:
        """Summarise a module from the norms at trainable parameters; `known` are the fields that are not measured."""
        trainable = [p for p in module.parameters() if p in norms]
        return cls(
            module=name,
            parameters=sum(p.numel() for p in module.parameters()),
            trainable=sum(p.numel() for p in trainable),
            reached=sum(p.numel() for p in trainable if norms[p] > 0.0),
            gradient_norm=math.hypot(*(norms[p] for p in trainable)) if trainable else None,
            **known,
        )

    @property
    def is_reached(self) -> bool:
        """Whether a gradient arrives at a trainable parameter."""
        return self.reached > 0

    @property
    def gradient(self) -> str:
        """The norm in words."""
        if self.gradient_norm is None:
            return "-"
        if not self.is_reached:
            return "none"
        share = self.reached / self.trainable
        return f"{self.gradient_norm:.1e}" + ("" if share == 1.0 else f" (in {share:.0%})")

    @property
    def trains(self) -> str:
        """Whether the module trains, in words."""
        if self.trainable == self.parameters:
            return "yes"
        until = "" if self.until_step is None else f" until step {self.until_step}"
        return f"in part ({self.trainable:,})" if self.trainable else f"frozen{until}"


def joint_gradient(
    probes: Mapping[str, Sequence[GradientProbe]], weights: Mapping[str, float], waveform: Tensor
) -> Tensor | None:
    """Return the gradient at the waveform of the weighted mean of all members' losses: `[B, T]`.

    This is the gradient of the loss if its members are combined by `mean`, and its expectation over steps if by
    `random`. For `worst`, it stands for all members that may be the largest.

    Args:
        probes: Probes of each training encoder, the first of them of `waveform`.
        weights: Weights of the members by alias; their mean is 1.
        waveform: `[B, T]`, generated.

    Returns:
        None if no finite gradient other than 0 arrives.
    """
    total = torch.zeros_like(waveform)
    for alias, (first, *_) in probes.items():
        if first.gradient is not None and first.arrives:
            total += weights[alias] * first.gradient / len(probes)
    return total if total.any() else None


def gradient_norms(
    parameters: Iterable[nn.Parameter], waveform: Tensor, gradient: Tensor, loss_scale: float = 1.0
) -> dict[nn.Parameter, float]:
    """Propagate a gradient from the waveform to the parameters; return its norm at each trainable one, 0 if unused.

    Writes into no `grad`, runs no forward and keeps the graph. On its way the gradient is multiplied by `loss_scale`,
    as in the training step, so that half precision does not round it to 0.
    """
    trainable = [p for p in parameters if p.requires_grad]
    if not trainable:
        return {}
    found = torch.autograd.grad(waveform, trainable, loss_scale * gradient, retain_graph=True, allow_unused=True)
    return {
        parameter: 0.0 if own is None else float(torch.linalg.vector_norm(own, dtype=torch.float32)) / loss_scale
        for parameter, own in zip(trainable, found, strict=True)
    }


def reach_table(rows: Iterable[ModuleReach]) -> Table:
    """Format the rows for the console."""
    table = Table(title="What the gradient of the speaker consistency loss reaches", title_justify="left")
    table.add_column("module", no_wrap=True)
    for column in ("gradient norm", "trains", "used in speech from text"):
        table.add_column(column)
    for row in rows:
        table.add_row(row.module, row.gradient, row.trains, "yes" if row.used_in_speech else "no")
    return table


def reach_dicts(rows: Iterable[ModuleReach]) -> list[dict[str, Any]]:
    """Return the rows as they are in `preflight.json` and in the JSON of `coqui-scl preflight`."""
    return [asdict(row) for row in rows]
