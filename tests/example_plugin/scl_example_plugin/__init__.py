"""A loss, a speaker encoder and a freeze policy, registered under the names that a config spells."""

from coqui_scl_plugin import hookimpl
from scl_example_plugin.encoder import CepstralEncoder
from scl_example_plugin.loss import EuclideanLoss
from scl_example_plugin.policy import CountedPolicy


@hookimpl
def scl_losses() -> dict[str, type]:
    """Register the loss."""
    return {"euclidean": EuclideanLoss}


@hookimpl
def scl_encoders() -> dict[str, type]:
    """Register the encoder."""
    return {"cepstral": CepstralEncoder}


@hookimpl
def scl_freeze_policies() -> dict[str, type]:
    """Register the policy."""
    return {"counted": CountedPolicy}
