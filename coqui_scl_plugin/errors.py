"""The errors that this package raises. Each message says what was expected, what was found, and what to do."""


class SclError(Exception):
    """Base of all errors of this package; `exit_status` is the exit status of the command line."""

    exit_status = 1


class ConfigError(SclError, ValueError):
    """An invalid key of the `scl` section, or an invalid argument of a command."""

    exit_status = 2


class HoldoutError(ConfigError):
    """A held-out encoder that is also a training encoder, by name or by weights; the check `holdout` reports it."""

    check = "holdout"


class EvaluationSetError(ConfigError):
    """An evaluation set that would be empty; the check `evaluation-set` reports it."""

    check = "evaluation-set"


class RestoreError(ConfigError):
    """A checkpoint whose weights the model cannot take; the check `restored-weights` reports it."""

    check = "restored-weights"


class PluginError(SclError, RuntimeError):
    """A plugin that does not load, or registers a name that is taken. The message names its distribution."""


class EncoderError(SclError, RuntimeError):
    """A speaker encoder that cannot be loaded or used, such as one with missing or wrong weights."""

    exit_status = 2


class DownloadError(EncoderError):
    """Weights of a speaker encoder that cannot be fetched or kept."""

    exit_status = 1


class PreflightError(SclError, RuntimeError):
    """A failed check before step 1: the run would not train what its config asks for."""


class GradientError(SclError, RuntimeError):
    """A loss that stopped sending a gradient to the generated waveform during training."""


class BadStepError(SclError, RuntimeError):
    """A run whose losses, gradients or weights are not finite, and which would learn nothing more."""


class DriftError(SclError, RuntimeError):
    """A frozen speaker encoder whose parameters or buffers changed during training."""


class ProcessError(SclError, RuntimeError):
    """One of several processes of a run that ended, does not answer, or was refused a start."""
