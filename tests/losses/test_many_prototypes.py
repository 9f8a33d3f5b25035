"""The margin over very many speakers, whose prototypes are neither copied nor normalised: values, gradients, memory."""

import gc
import weakref

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from coqui_scl_plugin import build_loss
from coqui_scl_plugin.losses.angular_margin import margin_cosine

SPEAKERS, DIMENSION = 2_500, 32
OWN = torch.tensor([0, 1_023, 1_024, 2_499, 7, 7])
KINDS = ("additive_angle", "additive_cosine")


def prototypes(seed: int = 0) -> Tensor:
    """Of all lengths, with more and more similar ones towards the end."""
    rows = torch.randn(SPEAKERS, DIMENSION, generator=torch.Generator().manual_seed(seed))
    towards = torch.linspace(-3, 3, SPEAKERS)[:, None] * torch.ones(DIMENSION)
    return (rows + towards) * torch.linspace(0.1, 10, SPEAKERS)[:, None]


def items(rows: Tensor, seed: int = 1) -> Tensor:
    noise = torch.randn(len(OWN), DIMENSION, generator=torch.Generator().manual_seed(seed))
    return normalize(rows[OWN], dim=-1) + 0.1 * noise


def plainly(generated: Tensor, rows: Tensor, kind: str, scale: float, margin: float) -> Tensor:
    cosine = normalize(generated, dim=-1) @ normalize(rows, dim=-1).T
    with_margin = margin_cosine(cosine, margin, kind)
    own = torch.nn.functional.one_hot(OWN, len(rows)).bool()
    return cross_entropy(scale * torch.where(own, with_margin, cosine), OWN)


def value_and_gradient(loss, generated: Tensor) -> tuple[Tensor, Tensor]:
    generated = generated.clone().requires_grad_()
    value = loss(generated)
    return value.detach(), torch.autograd.grad(3 * value, generated)[0] / 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_values_and_gradients_agree_with_the_plain_formula_in_float64(kind, scale):
    rows = prototypes()
    loss = build_loss("angular_margin", {"prototypes": "centroid", "kind": kind, "scale": scale})
    value, gradient = value_and_gradient(lambda x: loss(x, x.detach(), OWN, rows), items(rows))
    exact, slope = value_and_gradient(lambda x: plainly(x, rows.double(), kind, scale, 0.2), items(rows).double())
    assert value.item() == pytest.approx(exact.item(), rel=1e-4)
    assert (gradient - slope).norm() < 1e-4 * slope.norm()


def test_prototypes_that_train_get_their_gradient():
    rows = prototypes().requires_grad_()
    generated = items(rows.detach()).requires_grad_()
    loss = build_loss("angular_margin", {"prototypes": "centroid", "scale": 5.0})
    found = torch.autograd.grad(loss(generated, generated.detach(), OWN, rows), (generated, rows))
    exact = torch.autograd.grad(plainly(generated, rows, "additive_angle", 5.0, 0.2), (generated, rows))
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-7)


def test_prototypes_that_are_written_to_count_as_they_are_then():
    rows, loss = prototypes(), build_loss("angular_margin", {"prototypes": "centroid"})
    generated = items(rows)
    loss(generated, generated, OWN, rows)
    rows.copy_(prototypes(seed=2))
    found = loss(generated, generated, OWN, rows)
    torch.testing.assert_close(found, plainly(generated, rows, "additive_angle", 30.0, 0.2), rtol=1e-4, atol=0)


def test_prototypes_made_in_inference_mode_are_taken_whatever_is_written_to_them():
    with torch.inference_mode():
        rows = prototypes()
    loss, generated = build_loss("angular_margin", {"prototypes": "centroid"}), items(rows.clone())
    for seed in (0, 2):
        with torch.inference_mode():
            rows.copy_(prototypes(seed=seed))
        found = loss(generated, generated, OWN, rows)
        torch.testing.assert_close(found, plainly(generated, rows, "additive_angle", 30.0, 0.2), rtol=1e-4, atol=0)


def test_prototypes_are_not_kept_alive():
    rows = prototypes()
    generated = items(rows)
    build_loss("angular_margin", {"prototypes": "centroid"})(generated, generated, OWN, rows)
    gone = weakref.ref(rows)
    del rows
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("where", [3, 1_500, 2_499])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_prototype_that_is_not_finite_is_not_hidden(where, number):
    rows = prototypes()
    generated = items(rows)
    rows[where, 5] = number
    assert not build_loss("angular_margin", {"prototypes": "centroid"})(generated, generated, OWN, rows).isfinite()


def test_far_from_all_others_and_with_no_other_there_is_nothing_to_teach_and_no_nan():
    axis = torch.eye(4)[:1]
    for rows in (torch.cat([axis, -axis]), axis):
        generated = axis.clone().requires_grad_()
        value = build_loss("angular_margin", {"prototypes": "centroid", "scale": 500.0})(
            generated, axis, torch.tensor([0]), rows
        )
        assert value.item() == 0.0
        assert torch.equal(torch.autograd.grad(value, generated)[0], torch.zeros(1, 4))


def test_the_graph_keeps_nothing_that_grows_with_the_speakers():
    rows, kept = prototypes(), []
    generated = items(rows).requires_grad_()
    loss = build_loss("angular_margin", {"prototypes": "centroid"})
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        loss(generated, generated.detach(), OWN, rows)
    assert kept
    assert max(kept) <= len(OWN) * DIMENSION
