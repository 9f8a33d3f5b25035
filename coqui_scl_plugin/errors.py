"""Every error this package raises on purpose. Each message says what was expected, what came, and what to do."""


class SclError(Exception):
    """Base of all errors of this package. `exit_status` is what the command line returns for it."""

    exit_status = 1


class ConfigError(SclError, ValueError):
    """A key of the `scl` section, or an argument of a command, that cannot be used as it is."""

    exit_status = 2


class HoldoutError(ConfigError):
    """A held-out encoder that is also a training one, by name or by weights: what the check `holdout` is about."""

    check = "holdout"


class EvaluationSetError(ConfigError):
    """The data leaves nothing to evaluate with: what the check `evaluation-set` is about."""

    check = "evaluation-set"


class PluginError(SclError, RuntimeError):
    """A plugin that does not load, or that registers a name twice. The message names its distribution."""


class EncoderError(SclError, RuntimeError):
    """A speaker encoder whose weights are missing, or are not what they claim to be."""

    exit_status = 2


class PreflightError(SclError, RuntimeError):
    """A check before step 1 that failed: the run would have trained something else than was asked for."""


class GradientError(SclError, RuntimeError):
    """The loss stopped sending a gradient to the generated waveform while training."""


class DriftError(SclError, RuntimeError):
    """A parameter or buffer of a frozen speaker encoder that changed while training."""
