"""The weight that keeps the gradient at a share of the mel loss's."""

import math

import pytest
import torch

from coqui_scl_plugin.consistency.finite_term import keep_finite
from coqui_scl_plugin.consistency.gradient_share import GradientShare


def loss_of(generated):
    return generated.square().sum(dim=-1).sqrt().mean()


def test_the_gradient_has_the_share_in_the_first_step():
    share, generated, mel = GradientShare(0.1), torch.randn(3, 50, requires_grad=True), torch.randn(3, 1, 70)
    value = loss_of(generated)
    (plain,) = torch.autograd.grad(loss_of(generated), generated)
    balanced = share.balance(keep_finite(value, generated), mel, ramp=1.0)
    (gradient,) = torch.autograd.grad(balanced.loss, generated)
    weight = 0.1 * float(mel.norm()) / float(plain.norm())
    assert balanced.weight.item() == pytest.approx(weight, rel=1e-5)
    torch.testing.assert_close(gradient, weight * plain)
    assert balanced.loss.item() == pytest.approx(weight * loss_of(generated.detach()).item(), rel=1e-5)
    assert balanced.share.item() == pytest.approx(0.1, rel=1e-5)


def test_a_ramp_multiplies_the_weight_but_not_what_is_measured():
    share, generated, mel = GradientShare(0.5), torch.randn(2, 9, requires_grad=True), torch.randn(2, 1, 9)
    balanced = share.balance(keep_finite(loss_of(generated), generated), mel, ramp=0.25)
    assert balanced.share.item() == pytest.approx(0.125, rel=1e-5)
    assert balanced.weight.item() == pytest.approx(0.25 * share.weight.item(), rel=1e-6)


def test_the_weight_is_a_ratio_of_running_means():
    share, norms = GradientShare(0.2), [(3.0, 1.0), (2.0, 4.0), (5.0, 0.5)]
    for mel, term in norms:
        share.update(torch.tensor(mel), torch.tensor(term))
    mel_mean = sum(0.95 ** (2 - step) * mel for step, (mel, _) in enumerate(norms))
    term_mean = sum(0.95 ** (2 - step) * term for step, (_, term) in enumerate(norms))
    assert share.weight.item() == pytest.approx(0.2 * mel_mean / term_mean, rel=1e-6)


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_a_norm_that_says_nothing_is_left_out(bad):
    share = GradientShare(0.2)
    assert share.weight.item() == 0.0
    share.update(torch.tensor(3.0), torch.tensor(1.5))
    for norms in ((bad, 1.0), (1.0, bad)):
        share.update(*map(torch.tensor, norms))
    assert share.weight.item() == pytest.approx(0.4)


def test_weights_of_the_loss_get_their_gradient():
    share, generated = GradientShare(0.1), torch.randn(2, 9, requires_grad=True)
    learned = torch.ones(9, requires_grad=True)
    value = (generated * learned).sum(dim=-1).square().mean()
    balanced = share.balance(keep_finite(value, generated, [learned]), torch.randn(2, 1, 9), ramp=1.0)
    balanced.loss.backward()
    assert learned.grad is not None
    assert learned.grad.any()
