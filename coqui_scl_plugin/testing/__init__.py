"""Conformance tests for losses, speaker encoders and freeze policies of third parties.

Each check is a function that takes a factory, a class without parameters or a `lambda`, and raises an AssertionError
that says what was expected, what came and what to do. No test framework is needed:

>>> from coqui_scl_plugin.losses.cosine import CosineLoss
>>> from coqui_scl_plugin.testing import check_loss
>>> check_loss(CosineLoss)

With pytest, each check can be a test of its own:

    @pytest.mark.parametrize("check", LOSS_CHECKS)
    def test_my_loss(check):
        check(lambda: MyLoss(scale=2.0))

The checks run on the CPU, and never on other plugins' losses or encoders; encoders are tried with each registered
policy that freezes.
"""

from coqui_scl_plugin.testing.encoders import ENCODER_CHECKS, check_encoder
from coqui_scl_plugin.testing.losses import LOSS_CHECKS, check_loss
from coqui_scl_plugin.testing.policies import POLICY_CHECKS, check_policy
from coqui_scl_plugin.testing.speech import speech_like

__all__ = [
    "ENCODER_CHECKS",
    "LOSS_CHECKS",
    "POLICY_CHECKS",
    "check_encoder",
    "check_loss",
    "check_policy",
    "speech_like",
]
