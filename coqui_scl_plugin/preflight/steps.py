"""The steps that give the checks their facts: each passes if it can be done."""

from coqui_scl_plugin.preflight.facts import ConfigFacts, DataFacts
from coqui_scl_plugin.preflight.files import lacks_encoder_of_loss
from coqui_scl_plugin.preflight.report import NEEDS, Finding, NotMeasuredError


def check_checkpoint(facts: ConfigFacts) -> list[Finding]:
    """The checkpoint that the run starts from can be read."""
    facts.read_checkpoint()
    return []


def check_samples(facts: ConfigFacts) -> list[Finding]:
    """Coqui can list the samples of the data sets."""
    facts.list_samples()
    return []


def check_model(facts: DataFacts) -> list[Finding]:
    """Coqui can build the model of the config."""
    if lacks_encoder_of_loss(facts.config):
        raise NotMeasuredError(f"{NEEDS} encoders.")  # Coqui would load the same file for its own encoder
    facts.build_model()
    return []


def check_encoders(facts: ConfigFacts) -> list[Finding]:
    """The speaker encoders of the config can be loaded."""
    facts.load_encoders()
    return []
