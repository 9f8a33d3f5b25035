"""The arms of the ablation: sections that a config takes, and that differ."""

import json

import pytest

from benchmarks.ablation.arms import ARMS, BASE, arm_named
from benchmarks.ablation.training import section
from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.config import SclConfig


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_a_config_takes_its_section(arm, tmp_path):
    config = SclVitsConfig(scl=section(arm, 3.5, tmp_path / "references.safetensors"))
    config.check_values()
    assert tuple(encoder.name for encoder in config.scl.encoders if config.scl.enabled) == arm.encoders
    shared = "gradient_share" in arm.section  # which takes the place of a weight
    assert config.scl.weight == (SclConfig().weight if shared else 3.5)


def test_arms_differ():
    described = [json.dumps([arm.section, arm.strength, arm.prior], sort_keys=True) for arm in ARMS]
    assert len({arm.name for arm in ARMS}) == len(set(described)) == len(ARMS)
    assert ARMS[0].name == "none"
    assert arm_named(BASE).strength == 1.0
