"""Speaker consistency losses, one per file, registered through the hook that third parties use."""

from coqui_scl_plugin.losses.angular_margin import AngularMarginLoss
from coqui_scl_plugin.losses.contrastive import ContrastiveLoss
from coqui_scl_plugin.losses.cosine import CosineLoss
from coqui_scl_plugin.losses.ensemble import EnsembleLoss
from coqui_scl_plugin.losses.features import FeatureLoss
from coqui_scl_plugin.losses.metric_learning import MetricLearningLoss
from coqui_scl_plugin.plugins.hookspecs import hookimpl


@hookimpl
def scl_losses() -> dict[str, type]:
    """Return the losses of this package."""
    return {
        "cosine": CosineLoss,
        "angular_margin": AngularMarginLoss,
        "contrastive": ContrastiveLoss,
        "features": FeatureLoss,
        "ensemble": EnsembleLoss,
        "metric_learning": MetricLearningLoss,
    }
