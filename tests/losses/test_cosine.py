import numpy as np
import pytest
import torch

from coqui_scl_plugin import build_loss


def pair(rows: int = 6, dim: int = 32, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    generated, reference = 3.0 * torch.randn(2, rows, dim, generator=generator)
    return generated.requires_grad_(), reference


def mean_of_one_minus_cosine(generated: torch.Tensor, reference: torch.Tensor) -> float:
    left, right = (t.detach().double().numpy() for t in (generated, reference))
    dot = np.einsum("bd,bd->b", left, right)
    return float(np.mean(1 - dot / np.sqrt((left**2).sum(1) * (right**2).sum(1))))


@pytest.mark.parametrize("seed", range(5))
def test_value_is_mean_of_one_minus_cosine(seed):
    generated, reference = pair(seed=seed)
    loss = build_loss("cosine")(generated, reference)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(mean_of_one_minus_cosine(generated, reference), abs=1e-6)


def test_gradient_equals_that_of_stock():
    generated, reference = pair()
    (ours,) = torch.autograd.grad(build_loss("cosine")(generated, reference), generated)
    stock_loss = -torch.nn.functional.cosine_similarity(generated, reference).mean()
    (stock,) = torch.autograd.grad(stock_loss, generated)
    assert stock.norm() > 1e-3
    torch.testing.assert_close(ours, stock, rtol=1e-6, atol=1e-8)


def test_is_0_for_same_directions_1_for_orthogonal_2_for_opposite():
    loss = build_loss("cosine")
    axis = torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    assert float(loss(axis, 7 * axis)) == pytest.approx(0.0, abs=1e-6)
    assert float(loss(axis, axis.flip(1))) == pytest.approx(1.0, abs=1e-6)
    assert float(loss(axis, -0.1 * axis)) == pytest.approx(2.0, abs=1e-6)


def test_speaker_ids_and_prototypes_do_not_matter():
    generated, reference = pair()
    loss = build_loss("cosine")
    with_extras = loss(generated, reference, torch.zeros(6, dtype=torch.long), torch.ones(1, 32))
    assert torch.equal(with_extras, loss(generated, reference))


def test_is_computed_in_float32_under_autocast():
    generated, reference = (t.detach().bfloat16() for t in pair())
    generated.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = build_loss("cosine")(generated, reference)
    loss.backward()
    assert loss.dtype == torch.float32
    # a bfloat16 formula would be off by about 1e-3
    assert loss.item() == pytest.approx(mean_of_one_minus_cosine(generated, reference), abs=1e-6)
    assert torch.isfinite(generated.grad).all()


@pytest.mark.parametrize(
    ("generated", "reference"), [((4, 8), (4, 9)), ((4, 8), (3, 8)), ((8,), (8,)), ((1, 4, 8), (1, 4, 8))]
)
def test_shapes_that_do_not_belong_together_are_refused(generated, reference):
    with pytest.raises(ValueError, match=r"\[B, D\]"):
        build_loss("cosine")(torch.ones(generated), torch.ones(reference))


def test_speaker_ids_of_another_length_are_refused():
    with pytest.raises(ValueError, match="expected 6 speaker_ids"):
        build_loss("cosine")(*pair(), torch.arange(5))
