"""The registered classes by name, collected from the entry points of all installed distributions."""

import functools
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from typing import Any

import pluggy

from coqui_scl_plugin.errors import ConfigError, PluginError
from coqui_scl_plugin.plugins import hookspecs
from coqui_scl_plugin.utils.shown import shown
from coqui_scl_plugin.utils.suggest import did_you_mean

KINDS = {"losses": "loss", "encoders": "speaker encoder", "freeze_policies": "freeze policy"}


@dataclass(frozen=True)
class Entry:
    """A registered class, and the distribution that registered it."""

    cls: type
    distribution: str


@dataclass
class Registry:
    """Entries by name, for each kind in `KINDS`."""

    losses: dict[str, Entry] = field(default_factory=dict)
    encoders: dict[str, Entry] = field(default_factory=dict)
    freeze_policies: dict[str, Entry] = field(default_factory=dict)

    def entries(self, kind: str) -> dict[str, Entry]:
        """Return all entries of a kind, one of `KINDS`."""
        entries: dict[str, Entry] = getattr(self, kind)
        return entries

    def get(self, kind: str, name: str, path: str) -> type:
        """Return the class registered as `name`. Raises ConfigError, which names the config key `path`."""
        entries = self.entries(kind)
        if not isinstance(name, str) or name not in entries:
            msg = f"{path} = {shown(name)}: no {KINDS[kind]} of this name is registered. {did_you_mean(name, entries)}"
            raise ConfigError(msg)
        return entries[name].cls

    def add(self, kind: str, name: str, entry: Entry) -> None:
        """Register a class. Raises PluginError, which names both distributions, if the name is taken."""
        known = self.entries(kind).setdefault(name, entry)
        if known is not entry:
            msg = (
                f"The {KINDS[kind]} {name!r} is registered twice: by {known.distribution} and by "
                f"{entry.distribution}. Uninstall one of them, or ask its author to choose another name."
            )
            raise PluginError(msg)


def _distribution(entry_point: EntryPoint) -> str:
    return f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else "an unknown distribution"


def _load(entry_point: EntryPoint) -> Any:
    try:
        return entry_point.load()
    except Exception as error:  # a third party's import may raise anything
        msg = (
            f"The plugin {entry_point.name!r} of {_distribution(entry_point)} does not load: "
            f"{type(error).__name__}: {error}. Repair or uninstall that distribution."
        )
        raise PluginError(msg) from error


def _call(hook_implementation: Any, hook_name: str) -> Mapping[str, type]:
    plugin = hook_implementation.plugin_name
    try:
        classes = hook_implementation.function()
    except Exception as error:  # as in `_load`
        msg = f"The hook {hook_name} in the plugin {plugin} failed: {type(error).__name__}: {error}."
        raise PluginError(msg) from error
    if not isinstance(classes, Mapping) or not all(
        isinstance(name, str) and isinstance(cls, type) for name, cls in classes.items()
    ):
        msg = f"The hook {hook_name} in the plugin {plugin} must return names mapped to classes, not {classes!r}."
        raise PluginError(msg)
    return classes


def build_registry(entry_points: Iterable[EntryPoint]) -> Registry:
    """Load the plugins behind `entry_points` and collect what they register.

    Raises:
        PluginError: a plugin does not load, implements an unknown hook, or registers a name that is taken.
    """
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    distributions: dict[str, str] = {}
    for entry_point in sorted(entry_points, key=lambda ep: (_distribution(ep), ep.name)):
        plugin, distribution = _load(entry_point), _distribution(entry_point)
        name = f"{entry_point.name} of {distribution}"
        try:
            manager.register(plugin, name=name)
            manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"The plugin {name} is not valid: {error}") from error
        distributions[name] = distribution
    registry = Registry()
    for kind in KINDS:
        hook_name = f"scl_{kind}"
        for implementation in getattr(manager.hook, hook_name).get_hookimpls():
            distribution = distributions[implementation.plugin_name]
            for name, cls in _call(implementation, hook_name).items():
                registry.add(kind, name, Entry(cls, distribution))
    return registry


@functools.cache
def installed() -> Registry:
    """Return the registry of this environment, built on first use and kept."""
    return build_registry(importlib.metadata.entry_points(group=hookspecs.GROUP))
