"""The `scl` section of a config: its keys (`schema.py`), and the checks on them (`strict.py`, `validate.py`)."""

from coqui_scl_plugin.config import overrides
from coqui_scl_plugin.config.config_file import read_config_file
from coqui_scl_plugin.config.schema import (
    ENSEMBLE,
    SECTION,
    AugmentConfig,
    EncoderConfig,
    EvaluationConfig,
    FreezeConfig,
    LossConfig,
    ModuleRuleConfig,
    PreflightConfig,
    ReferenceConfig,
    RestoreConfig,
    SclConfig,
    SegmentConfig,
    WindowConfig,
)
from coqui_scl_plugin.config.strict import StrictConfig, check_class, check_object, check_section
from coqui_scl_plugin.config.validate import check_config, check_loss

__all__ = [
    "ENSEMBLE",
    "SECTION",
    "AugmentConfig",
    "EncoderConfig",
    "EvaluationConfig",
    "FreezeConfig",
    "LossConfig",
    "ModuleRuleConfig",
    "PreflightConfig",
    "ReferenceConfig",
    "RestoreConfig",
    "SclConfig",
    "SegmentConfig",
    "StrictConfig",
    "WindowConfig",
    "check_class",
    "check_config",
    "check_loss",
    "check_object",
    "check_section",
    "overrides",
    "read_config_file",
]
