"""Speaker encoders, one per file, registered through the same hook as a third party's."""

from coqui_scl_plugin.encoders.campplus import CAMPPlusEncoder
from coqui_scl_plugin.encoders.coqui import CoquiEncoder
from coqui_scl_plugin.encoders.dvector import DVectorEncoder
from coqui_scl_plugin.encoders.ge2e import GE2EEncoder
from coqui_scl_plugin.encoders.speechbrain import SpeechBrainEncoder
from coqui_scl_plugin.encoders.torchscript import TorchScriptEncoder
from coqui_scl_plugin.encoders.transformers import TransformersEncoder
from coqui_scl_plugin.plugins.hookspecs import hookimpl


@hookimpl
def scl_encoders() -> dict[str, type]:
    """Return the encoders of this package."""
    return {
        "campplus": CAMPPlusEncoder,
        "coqui": CoquiEncoder,
        "dvector": DVectorEncoder,
        "ge2e": GE2EEncoder,
        "speechbrain": SpeechBrainEncoder,
        "torchscript": TorchScriptEncoder,
        "transformers": TransformersEncoder,
    }
