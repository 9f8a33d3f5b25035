"""The conformance tests of losses pass sound ones, and fail each broken one with a message that helps."""

from collections.abc import Callable
from typing import Any

import pytest
from nonconforming_losses import BROKEN, PerItem, Sound, WrongSign

from coqui_scl_plugin.testing import LOSS_CHECKS, check_loss

CHECKS = {check.__name__: check for check in LOSS_CHECKS}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("make", "check", "message"), BROKEN, ids=lambda value: getattr(value, "__name__", " "))
def test_each_defect_is_found_by_its_check(make: Callable[[], Any], check: str, message: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        CHECKS[check](make)


def test_every_check_finds_some_defect() -> None:
    assert {check for _, check, _ in BROKEN} == CHECKS.keys()


def test_a_plain_module_conforms() -> None:
    check_loss(Sound)


def test_all_failures_are_listed_with_the_names_to_skip() -> None:
    with pytest.raises(AssertionError) as caught:
        check_loss(WrongSign)
    assert str(caught.value).startswith("1 of 14 checks fail:\n- falls_as_generated_speech_nears_its_references: ")
    check_loss(WrongSign, skip=["falls_as_generated_speech_nears_its_references"])
    with pytest.raises(
        AssertionError, match=r"(?s)checks fail:\n- returns_a_float32_scalar: .*\n- takes_small_batches: "
    ):
        check_loss(PerItem)


def test_a_misspelt_skip_is_named() -> None:
    with pytest.raises(ValueError, match=r"skip = 'is_finite_at_edge'.*Did you mean 'is_finite_at_edges'\?"):
        check_loss(Sound, skip=["is_finite_at_edge"])
