"""What trains and what does not: policies of encoders, rules of modules, the guard, and the report of all of them."""

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
    """The policies of this package."""
    return {"frozen": FrozenPolicy, "restore": RestorePolicy, "trainable": TrainablePolicy}
