"""The loss, the encoder and the policy keep the contracts of coqui-scl-plugin, by the names that a config spells."""

import pytest
from scl_example_plugin.policy import CountedPolicy

from coqui_scl_plugin import build_encoder, build_loss
from coqui_scl_plugin.testing import ENCODER_CHECKS, LOSS_CHECKS, POLICY_CHECKS


@pytest.mark.parametrize("check", LOSS_CHECKS)
def test_the_loss(check):
    check(lambda: build_loss("euclidean", {"scale": 2.0}))


@pytest.mark.parametrize("coefficients", [12, 20])
@pytest.mark.parametrize("check", ENCODER_CHECKS)
def test_the_encoder(check, coefficients):
    check(lambda: build_encoder("cepstral", {"coefficients": coefficients}))


@pytest.mark.parametrize("check", POLICY_CHECKS)
def test_the_policy(check):
    check(CountedPolicy)
