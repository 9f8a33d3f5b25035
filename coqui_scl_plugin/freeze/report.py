"""The freeze report: what trains, what is frozen and until when, and which optimizers hold it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import nn

from coqui_scl_plugin.freeze.drift_guard import Drift, held
from coqui_scl_plugin.freeze.module_rules import ModuleRules, scale_at
from coqui_scl_plugin.plugins import registry
from coqui_scl_plugin.utils.atomic import replacing
from coqui_scl_plugin.utils.fingerprint import fingerprint

FILE_NAME = "freeze_report.json"


@dataclass(frozen=True)
class ModuleRow:
    """A module of the generator or the discriminator, or a part of one that a rule matches."""

    module: str
    parameters: int
    trainable: int
    """Number of parameters that require a gradient now."""
    optimizer: str
    """Names of the optimizers that hold any of the parameters."""
    mode: str
    """`train`, `eval` or `mixed`, in a training step."""
    lr_scale: float
    """Factor of the learning rate now; 0 if a rule freezes it."""
    until_step: int | None
    pattern: str | None
    """Pattern of the rule that applies, if there is one."""

    @property
    def state(self) -> str:
        """The state in words."""
        until = "" if self.until_step is None else f" until step {self.until_step}"
        if not self.parameters:
            return "no parameters"
        if not self.trainable:
            return f"frozen{until}"
        if self.trainable < self.parameters:
            return f"trains in part ({self.trainable:,})"
        return "trains" if self.lr_scale == 1.0 else f"trains at {self.lr_scale:g} x lr{until}"


@dataclass(frozen=True)
class EncoderRow:
    """A speaker encoder."""

    encoder: str
    role: str
    """`training`, `holdout`, or `d-vectors` for that of Coqui's speaker manager."""
    policy: str
    trains: bool
    """Whether the policy lets it train."""
    parameters: int
    trainable: int
    buffers: int
    optimizer: str
    mode: str
    fingerprint: str
    """One hash of all parameters and buffers."""

    @property
    def state(self) -> str:
        """The state in words."""
        return "TRAINS" if self.trains else self.policy


@dataclass(frozen=True)
class FreezeReport:
    """The rows, the rules, and the settings of the drift guard."""

    step: int
    modules: list[ModuleRow]
    encoders: list[EncoderRow]
    rules: list[dict[str, Any]]
    guard: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `freeze_report.json`, except `drift`."""
        return asdict(self)

    def write(self, folder: Path, drifts: Sequence[Drift] = ()) -> None:
        """Write `freeze_report.json`; `drifts` are the changes of encoders that the run survived."""
        content = {**self.to_dict(), "drift": [asdict(drift) for drift in drifts]}
        with replacing(folder / FILE_NAME) as temporary:
            temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Return name, parameters, state, optimizer and mode of each row of the table."""
        modules = [(r.module, f"{r.parameters:,}", r.state, r.optimizer, r.mode) for r in self.modules]
        encoders = [
            (f"speaker encoder {r.encoder}", f"{r.parameters:,}", r.state, r.optimizer, r.mode) for r in self.encoders
        ]
        return modules + encoders

    def table(self) -> Table:
        """Format the report for the console."""
        table = Table(title="What trains and what is frozen", title_justify="left")
        table.add_column("module", no_wrap=True)
        table.add_column("parameters", justify="right")
        for column in ("state", "optimizer", "mode"):
            table.add_column(column)
        for row in self.rows():
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Format the report for TensorBoard."""
        rows = [("module", "parameters", "state", "optimizer", "mode"), ("---", "---:", "---", "---", "---")]
        return "\n".join("| " + " | ".join(row) + " |" for row in [*rows, *self.rows()])


def _holders(module: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]) -> str:
    own = {id(p) for p in module.parameters()}
    return ", ".join(name for name, optimizer in optimizers.items() if own & held(optimizer)) or "none"


def _mode(module: nn.Module) -> str:
    modes = {part.training for part in module.modules()}
    return "mixed" if len(modes) > 1 else "train" if modes.pop() else "eval"


def _sizes(module: nn.Module) -> tuple[int, int]:
    """Return the number of parameters, and of those that require a gradient."""
    counts = [(p.numel(), p.numel() if p.requires_grad else 0) for p in module.parameters()]
    return sum(count for count, _ in counts), sum(trainable for _, trainable in counts)


def module_rows(
    modules: Mapping[str, nn.Module], rules: ModuleRules, optimizers: Mapping[str, torch.optim.Optimizer], step: int
) -> list[ModuleRow]:
    """Return a row for each of `modules`, each followed by rows for its parts that a rule matches."""
    matched = {name for names in rules.matched for name in names}
    return [
        _module_row(name, module, rules, optimizers, step)
        for outer, owner in modules.items()
        for part, module in owner.named_modules()
        if (name := f"{outer}.{part}" if part else outer) in matched or not part
    ]


def _module_row(
    name: str, module: nn.Module, rules: ModuleRules, optimizers: Mapping[str, torch.optim.Optimizer], step: int
) -> ModuleRow:
    rule = rules.rule_of(name)
    parameters, trainable = _sizes(module)
    scale = 1.0 if rule is None else scale_at(rule, step)
    until = rule.until_step if rule is not None and scale != 1.0 else None
    return ModuleRow(
        module=name, parameters=parameters, trainable=trainable, optimizer=_holders(module, optimizers),
        mode=_mode(module), lr_scale=scale, until_step=until if trainable else rules.first_unfreeze(name, step),
        pattern=rule.pattern if rule else None,
    )  # fmt: skip


def encoder_row(
    name: str, role: str, policy: str, encoder: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer]
) -> EncoderRow:
    """Return the row of an encoder."""
    policy_class: Any = registry.installed().get("freeze_policies", policy, "policy")
    parameters, trainable = _sizes(encoder)
    return EncoderRow(
        encoder=name, role=role, policy=policy, trains=policy_class.trainable, parameters=parameters,
        trainable=trainable, buffers=sum(buffer.numel() for buffer in encoder.buffers()),
        optimizer=_holders(encoder, optimizers), mode=_mode(encoder), fingerprint=fingerprint(encoder),
    )  # fmt: skip
