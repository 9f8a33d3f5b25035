"""A loss whose gradient is known, and is 0 where a number is not finite."""

import pytest
import torch

from coqui_scl_plugin.consistency.finite_term import keep_finite

NAN, INF = float("nan"), float("inf")


def loss_of(generated, weights):
    return (generated.sin() @ weights).square().mean()


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(3, 8, requires_grad=True), torch.randn(8, requires_grad=True)


def test_a_finite_loss_keeps_its_value_and_all_its_gradients(batch):
    generated, weights = batch
    expected = torch.autograd.grad(5.0 * loss_of(generated, weights), [generated, weights])
    kept = keep_finite(loss_of(generated, weights), generated, [weights])
    found = torch.autograd.grad(5.0 * kept.loss, [generated, weights])
    assert bool(kept.finite)
    assert kept.finite_items.tolist() == [True] * 3
    torch.testing.assert_close(kept.loss, loss_of(generated, weights))
    torch.testing.assert_close(kept.gradient, expected[0] / 5.0)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_gradient_goes_on_to_what_made_the_waveform(batch):
    source, weights = batch
    (expected,) = torch.autograd.grad(loss_of(2.0 * source, weights), source)
    generated = 2.0 * source
    (found,) = torch.autograd.grad(keep_finite(loss_of(generated, weights), generated, [weights]).loss, source)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("where", ["loss", "gradient of one item", "gradient of a weight", "waveform"])
def test_a_number_that_is_not_finite_makes_all_0(batch, value, where):
    generated, weights = batch
    if where == "waveform":
        generated = generated.detach().index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(value))
        generated.requires_grad_()
    loss = loss_of(generated, weights) + (value if where == "loss" else 0.0)
    if where.startswith("gradient"):
        item = generated[1] if "item" in where else weights
        item = item * 1.0
        item.register_hook(lambda gradient: gradient * value)
        loss = loss + item.sum()
    kept = keep_finite(loss, generated, [weights])
    assert not kept.finite
    assert kept.loss.item() == 0.0
    assert not kept.gradient.any()
    for gradient in torch.autograd.grad(7.0 * kept.loss, [generated, weights]):
        assert torch.equal(gradient, torch.zeros_like(gradient))
    if "item" in where:
        assert kept.finite_items.tolist() == [True, False, True]


def test_without_a_graph_the_value_alone_is_kept_finite(batch):
    generated, weights = batch
    with torch.no_grad():
        assert torch.equal(keep_finite(loss_of(generated, weights), generated).loss, loss_of(generated, weights))
        kept = keep_finite(torch.tensor(NAN), generated)
    assert kept.loss.item() == 0.0
    assert not kept.loss.requires_grad


def test_a_loss_that_does_not_reach_the_waveform_sends_nothing_there(batch):
    generated, weights = batch
    kept = keep_finite(weights.square().sum(), generated, [weights])
    assert not kept.gradient.any()
    at_waveform, at_weights = torch.autograd.grad(kept.loss, [generated, weights], allow_unused=True)
    assert at_waveform is None
    torch.testing.assert_close(at_weights, 2.0 * weights)
