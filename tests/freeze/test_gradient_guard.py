"""What the guard says of the gradient of a step, at any loss scale."""

import math

import pytest
import torch

from coqui_scl_plugin.errors import GradientError
from coqui_scl_plugin.freeze.gradient_guard import GradientGuard


def step(guard: GradientGuard, slope: float | None, **kwargs: bool) -> bool:
    """Send a gradient to a watched waveform, none at all for None, and check it."""
    waveform = torch.ones(2, 3, requires_grad=True)
    guard.watch(waveform, expect=True)
    if slope is not None:
        (slope * waveform).sum().backward()
    return guard.check(7, **kwargs)


@pytest.mark.parametrize("slope", [1.0, 65536.0, 1e-30])
def test_a_gradient_that_arrives_is_fine_at_any_scale(slope):
    assert step(GradientGuard(), slope) is False


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("slope", [None, 0.0])
def test_none_at_all_ends_the_run(slope, skips):
    with pytest.raises(GradientError, match="At step 7 the speaker consistency loss sent no gradient"):
        step(GradientGuard(), slope, skips_overflows=skips)


@pytest.mark.parametrize("slope", [math.nan, math.inf])
def test_one_that_is_not_finite_is_called_that(slope):
    with pytest.raises(GradientError, match=r"sent a gradient that is not finite .* \(norm (nan|inf)\)"):
        step(GradientGuard(), slope)


def test_a_step_that_the_scaler_skips_is_looked_at_again():
    guard = GradientGuard()
    assert step(guard, math.inf, skips_overflows=True) is True
    assert step(guard, math.nan, skips_overflows=True) is True
    assert step(guard, 1.0, skips_overflows=True) is False


def test_a_scaler_that_never_finds_a_finite_gradient_ends_the_run():
    guard = GradientGuard()
    for _ in range(20):
        assert step(guard, math.nan, skips_overflows=True) is True
    with pytest.raises(GradientError, match="norm nan in 21 checks in a row"):
        step(guard, math.nan, skips_overflows=True)


def test_a_sound_step_between_starts_the_count_anew():
    guard = GradientGuard()
    for _ in range(3):
        for _ in range(15):
            step(guard, math.nan, skips_overflows=True)
        step(guard, 1.0, skips_overflows=True)


def test_an_unwatched_step_is_not_checked():
    guard = GradientGuard()
    guard.watch(torch.ones(1, 1, requires_grad=True), expect=False)
    assert guard.check(0) is False
