"""Freezing: policies for encoders, rules for modules, the guards, and the freeze report."""

from coqui_scl_plugin.freeze.drift_guard import Drift, DriftGuard
from coqui_scl_plugin.freeze.policies import FreezePolicy, FrozenPolicy, RestorePolicy, TrainablePolicy
from coqui_scl_plugin.plugins.hookspecs import hookimpl

__all__ = [
    "Drift",
    "DriftGuard",
    "FreezePolicy",
    "FrozenPolicy",
    "RestorePolicy",
    "TrainablePolicy",
]


@hookimpl
def scl_freeze_policies() -> dict[str, type]:
    """Return the policies of this package."""
    return {"frozen": FrozenPolicy, "restore": RestorePolicy, "trainable": TrainablePolicy}
