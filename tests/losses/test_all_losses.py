import itertools

import pytest
import torch

from coqui_scl_plugin import available, build_loss

SPEAKERS = torch.tensor([3, 3, 1, 1, 2, 2, 0, 0])

PARAMS = {"metric_learning": {"loss": "SupConLoss"}}  # of losses that cannot do without

every_loss = pytest.mark.parametrize(  # of one encoder's embeddings
    "name", [name for name in available()["losses"] if name not in {"ensemble", "features"}]
)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Generated embeddings at random; references that agree within a speaker."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(4, 32, generator=generator))
    reference = centres[SPEAKERS] + 0.05 * torch.randn(8, 32, generator=generator)
    return torch.nn.functional.normalize(torch.randn(8, 32, generator=generator)).requires_grad_(), reference


@every_loss
def test_gives_a_float32_scalar_that_is_not_negative(name):
    loss = build_loss(name, PARAMS.get(name))(*batch(), SPEAKERS)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.item() >= 0


@every_loss
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("sign", [0.0, 1.0, -1.0])
def test_gradient_is_finite_at_random_equal_and_opposite_vectors(name, autocast, sign):
    generated, reference = batch()
    if sign:
        generated = sign * reference
    dtype = torch.bfloat16 if autocast else torch.float32
    generated, reference = generated.detach().to(dtype).requires_grad_(), reference.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = build_loss(name, PARAMS.get(name))(generated, reference, SPEAKERS)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(generated.grad).all()


@every_loss
def test_same_value_inside_and_outside_of_autocast(name):
    generated, reference = (t.detach().bfloat16() for t in batch())
    outside = build_loss(name, PARAMS.get(name))(generated, reference, SPEAKERS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(build_loss(name, PARAMS.get(name))(generated, reference, SPEAKERS), outside)


@every_loss
def test_descent_lowers_it_and_raises_the_similarity_to_the_own_reference(name):
    generated, reference = batch()
    loss_function = build_loss(name, PARAMS.get(name))
    optimizer = torch.optim.SGD([generated], lr=0.02)
    values = []
    before = torch.cosine_similarity(generated, reference).mean().item()
    for _ in range(50):
        loss = loss_function(generated, reference, SPEAKERS)
        values.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = torch.cosine_similarity(generated, reference).mean().item()
    assert all(later < earlier for earlier, later in itertools.pairwise(values))
    assert after > before + 0.05


@every_loss
def test_the_embeddings_are_left_as_they_were(name):
    generated, reference = batch()
    kept = generated.detach().clone(), reference.clone()
    build_loss(name, PARAMS.get(name))(generated, reference, SPEAKERS).backward()
    assert torch.equal(generated, kept[0])
    assert torch.equal(reference, kept[1])


@every_loss
def test_shapes_that_do_not_belong_together_are_refused(name):
    with pytest.raises(ValueError, match="one shape"):
        build_loss(name, PARAMS.get(name))(torch.ones(4, 8), torch.ones(4, 9))
