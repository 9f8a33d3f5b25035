"""The names that third parties and scripts import, and the entry points of a release."""

import importlib
import importlib.metadata

import pytest

PUBLIC = {
    "coqui_scl_plugin": "SclConfig SclVits SclVitsConfig available build_encoder build_loss hookimpl __version__",
    "coqui_scl_plugin.config": "SECTION StrictConfig LossConfig EncoderConfig ReferenceConfig SegmentConfig "
    "ModuleRuleConfig FreezeConfig PreflightConfig EvaluationConfig SclConfig check_section check_loss check_config "
    "AugmentConfig RestoreConfig",
    "coqui_scl_plugin.hookspecs": "GROUP hookspec hookimpl scl_losses scl_encoders scl_freeze_policies",
    "coqui_scl_plugin.errors": "SclError ConfigError HoldoutError EvaluationSetError PluginError EncoderError "
    "PreflightError GradientError DriftError RestoreError BadStepError ProcessError",
    "coqui_scl_plugin.cli": "main app",
    "coqui_scl_plugin.testing": "check_loss check_encoder check_policy LOSS_CHECKS ENCODER_CHECKS POLICY_CHECKS "
    "speech_like",
}


@pytest.mark.parametrize(("module", "name"), [(m, name) for m, names in PUBLIC.items() for name in names.split()])
def test_a_public_name_is_where_it_was(module: str, name: str) -> None:
    assert getattr(importlib.import_module(module), name) is not None


def test_the_hooks_are_those_of_the_registry() -> None:
    from coqui_scl_plugin import hookimpl, hookspecs
    from coqui_scl_plugin.plugins import hookspecs as used

    assert hookspecs.scl_losses is used.scl_losses
    assert hookspecs.hookimpl is used.hookimpl is hookimpl


def test_the_entry_points_are_those_of_before() -> None:
    points = importlib.metadata.distribution("coqui-scl-plugin").entry_points
    found = {(point.group, point.name, point.value) for point in points}
    assert found == {
        ("console_scripts", "coqui-scl", "coqui_scl_plugin.cli:main"),
        ("coqui_scl_plugin", "losses", "coqui_scl_plugin.losses"),
        ("coqui_scl_plugin", "encoders", "coqui_scl_plugin.encoders"),
        ("coqui_scl_plugin", "freeze_policies", "coqui_scl_plugin.freeze"),
    }
