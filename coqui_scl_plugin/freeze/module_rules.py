"""Rules for modules of generator and discriminator: which are frozen, until which step, and learning rates."""

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from coqui_scl_plugin.config import ModuleRuleConfig
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.shown import shown

_MAX_SUGGESTIONS = 3


def scale_at(rule: ModuleRuleConfig, step: int) -> float:
    """Return the factor of the learning rate at a training step.

    >>> rule = ModuleRuleConfig(pattern="flow", until_step=20, lr_scale=0.1)
    >>> scale_at(rule, 19), scale_at(rule, 20)
    (0.1, 1.0)
    """
    return 1.0 if rule.until_step is not None and step >= rule.until_step else rule.lr_scale


def _unfreezes(rule: ModuleRuleConfig) -> bool:
    return rule.lr_scale == 0.0 and rule.until_step is not None


def _ancestors(name: str) -> list[str]:
    """Return the name itself and the names of the modules that contain it.

    >>> _ancestors("a.b.c")
    ['a', 'a.b', 'a.b.c']
    """
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _is_in(part: str, name: str) -> bool:
    """Tell whether the module `part` is the module `name`, or one of its parts."""
    return part == name or part.startswith(f"{name}.")


def _no_match(path: str, pattern: str, names: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(pattern, names, n=_MAX_SUGGESTIONS)
    nearest = f" Nearest: {', '.join(near)}." if near else ""
    top = ", ".join(name for name in names if "." not in name)
    return ConfigError(
        f"{path}.pattern = {shown(pattern)}: matches no module of the generator or the discriminator.{nearest} "
        f"Their outermost modules: {top}."
    )


class ModuleRules:
    """The rules of a config, resolved against the modules of a model.

    A rule applies to the modules that its pattern matches and to all modules below them. If several rules match a
    module, the last one applies.
    """

    def __init__(self, model: nn.Module, rules: Sequence[ModuleRuleConfig], path: str, ignored: Iterable[str]) -> None:
        """Resolve which rule applies to which module.

        Args:
            model: Generator and discriminator.
            rules: Rules in the order of the config.
            path: Config key of the list, for messages.
            ignored: Names of outermost modules that no rule can match.

        Raises:
            ConfigError: a pattern matches nothing.
        """
        self._path = path
        leave_out = set(ignored)
        self._modules = {
            name: module for name, module in model.named_modules() if name and name.partition(".")[0] not in leave_out
        }
        self.rules = list(rules)
        self.matched: list[list[str]] = []
        """The outermost modules that the pattern matches, for each rule."""
        self._rule_of: dict[str, int] = {}
        for index, rule in enumerate(self.rules):
            names = [name for name in self._modules if fnmatchcase(name, rule.pattern)]
            if not names:
                raise _no_match(f"{path}.{index}", rule.pattern, list(self._modules))
            hits = set(names)
            self.matched.append([name for name in names if not hits & set(_ancestors(name)[:-1])])
            self._rule_of |= {name: index for name in self._modules if hits & set(_ancestors(name))}
        self._by_rule: list[list[nn.Module]] = [
            [self._modules[name] for name, owner in self._rule_of.items() if owner == index]
            for index in range(len(self.rules))
        ]
        self._parameters = [
            [p for module in modules for p in module.parameters(recurse=False)] for modules in self._by_rule
        ]
        self._is_frozen = [False] * len(self.rules)
        self._groups: list[list[int]] = []

    def rule_of(self, name: str) -> ModuleRuleConfig | None:
        """Return the rule that applies to the module of this name, if there is one."""
        return self.rules[self._rule_of[name]] if name in self._rule_of else None

    def refuse_to_freeze_all(self, of: str, names: Iterable[str]) -> None:
        """Refuse rules under which a part of the model has nothing to train.

        Args:
            of: Name of the part, for the message.
            names: Names of its outermost modules.

        Raises:
            ConfigError: the rules freeze all of them, even if only until some step.
        """
        parts = [(part, module) for name in names for part, module in self._modules.items() if _is_in(part, name)]
        rules = [self.rule_of(part) for part, module in parts if any(True for _ in module.parameters(recurse=False))]
        if rules and all(rule is not None and rule.lr_scale == 0.0 for rule in rules):
            raise ConfigError(
                f"{self._path}: the rules freeze the whole {of} at the first step, but the trainer needs something to "
                "train in it. Leave a module out, or give one a small lr_scale."
            )

    def first_unfreeze(self, name: str, step: int) -> int | None:
        """Return the step at which the module, or the first of its parts that are frozen at `step`, is unfrozen."""
        rules = [self.rules[owner] for part, owner in self._rule_of.items() if _is_in(part, name)]
        unfreezing = [rule.until_step for rule in rules if rule.until_step is not None and scale_at(rule, step) == 0.0]
        return min(unfreezing, default=None)

    def unfreezes_after(self, step: int) -> list[int]:
        """Return the steps after `step` at which frozen modules are unfrozen."""
        until = [rule.until_step for rule in self.rules if rule.lr_scale == 0.0]
        return [later for later in until if later is not None and later > step]

    # --- freezing and unfreezing -------------------------------------------------------------------------------------

    def apply(self, step: int, *, training: bool) -> None:
        """Freeze what the rules freeze at a training step, and unfreeze what they froze until then.

        Modules that no rule has frozen are left as they are. `training` is the mode of the model.
        """
        for index, rule in enumerate(self.rules):
            frozen = scale_at(rule, step) == 0.0
            if frozen or self._is_frozen[index]:
                for parameter in self._parameters[index]:
                    parameter.requires_grad_(not frozen)
                    parameter.grad = None
                if rule.eval_mode:
                    for module in self._by_rule[index]:
                        module.training = training and not frozen
            self._is_frozen[index] = frozen

    # --- optimizers -----------------------------------------------------------------------------------------------

    def divide(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Leave out what is frozen for the whole run, and give each rule with an `lr_scale` above 0 its own group.

        The first group holds everything else, including what is unfrozen later. Groups depend on the rules alone, not
        on the step, so that a checkpoint fits at any step.
        """
        owner = {id(p): index for index, parameters in enumerate(self._parameters) for p in parameters}
        self._groups = []
        for optimizer in optimizers:
            scaled: dict[int, list[nn.Parameter]] = {}
            for group in optimizer.param_groups:
                kept = []
                for parameter in group["params"]:
                    index = owner.get(id(parameter))
                    if index is None or _unfreezes(self.rules[index]):
                        kept.append(parameter)
                    elif self.rules[index].lr_scale > 0.0:
                        scaled.setdefault(index, []).append(parameter)
                group["params"] = kept
            self._groups.append(sorted(scaled))
            for index in sorted(scaled):
                optimizer.add_param_group({"params": scaled[index]})

    def scale_learning_rates(self, optimizers: Sequence[torch.optim.Optimizer], step: int) -> None:
        """Set the learning rate of each rule's group to its factor times that of the first group.

        Must run at every step, since schedulers and restored checkpoints set the rates of all groups.
        """
        for optimizer, indices in zip(optimizers, self._groups, strict=False):
            base = optimizer.param_groups[0]["lr"]
            for group, index in zip(optimizer.param_groups[1:], indices, strict=False):
                group["lr"] = base * scale_at(self.rules[index], step)
