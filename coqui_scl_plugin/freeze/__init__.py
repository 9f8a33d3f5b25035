"""What trains and what does not: policies of encoders, rules of modules, the guard, and the report of all of them."""

from coqui_scl_plugin.freeze.drift_guard import Drift, FreezeGuard
from coqui_scl_plugin.freeze.policies import FreezePolicy, FrozenPolicy, RestorePolicy, TrainablePolicy
from coqui_scl_plugin.plugins.hookspecs import hookimpl
from coqui_scl_plugin.utils.fingerprint import fingerprint, named_tensors, tensor_digests

__all__ = [
    "Drift",
    "FreezeGuard",
    "FreezePolicy",
    "FrozenPolicy",
    "RestorePolicy",
    "TrainablePolicy",
    "fingerprint",
    "named_tensors",
    "tensor_digests",
]


@hookimpl
def scl_freeze_policies() -> dict[str, type]:
    """The policies of this package."""
    return {"frozen": FrozenPolicy, "restore": RestorePolicy, "trainable": TrainablePolicy}
