import math

import numpy as np
import pytest
import torch

from coqui_scl_plugin import build_loss
from coqui_scl_plugin.errors import ConfigError

SPEAKERS = torch.tensor([5, 2, 5, 2, 8, 5])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_loss(generated: torch.Tensor, reference: torch.Tensor, speakers: list[int], temperature: float) -> float:
    """For each item and each reference of its speaker: -log softmax among that one and the other speakers'."""
    left, right = (t.detach().double().numpy() for t in (generated, reference))

    def similarity(i: int, j: int) -> float:
        return np.exp(left[i] @ right[j] / np.sqrt((left[i] @ left[i]) * (right[j] @ right[j])) / temperature)

    items = range(len(speakers))
    losses = []
    for i in items:
        others = sum(similarity(i, n) for n in items if speakers[n] != speakers[i])
        own = [j for j in items if speakers[j] == speakers[i]]
        losses.append(np.mean([-np.log(similarity(i, p) / (similarity(i, p) + others)) for p in own]))
    return float(np.mean(losses))


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_double_loop_in_float64(temperature, seed):
    generated, reference = random(6, 16, seed=seed), random(6, 16, seed=seed + 50)
    loss = build_loss("contrastive", {"temperature": temperature})(generated, reference, SPEAKERS)
    expected = slow_loss(generated, reference, SPEAKERS.tolist(), temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_without_speaker_ids_every_item_is_its_own_speaker():
    generated, reference = random(5, 16), random(5, 16, seed=1)
    loss = build_loss("contrastive")(generated, reference)
    assert loss.item() == pytest.approx(slow_loss(generated, reference, [0, 1, 2, 3, 4], 0.1), rel=1e-5)


def test_gradient_agrees_with_numeric_differentiation():
    generated, reference = random(6, 8).requires_grad_(), random(6, 8, seed=1)
    build_loss("contrastive")(generated, reference, SPEAKERS).backward()
    numeric = torch.zeros(6, 8, dtype=torch.float64)
    for index in np.ndindex(6, 8):
        step = torch.zeros(6, 8, dtype=torch.float64)
        step[index] = 1e-6
        up, down = (slow_loss(generated.detach() + s * step, reference, SPEAKERS.tolist(), 0.1) for s in (1, -1))
        numeric[index] = (up - down) / 2e-6
    assert numeric.norm() > 1e-2
    assert (generated.grad - numeric).norm() < 1e-4 * numeric.norm()


def test_own_speakers_items_are_never_negatives():
    # two items of one speaker, one of another; where the second reference lies is all that differs
    a, b, elsewhere = torch.eye(3)
    generated, speakers = torch.stack([a, a, b]), torch.tensor([0, 0, 1])
    loss = build_loss("contrastive", {"temperature": 0.1})
    aligned = loss(generated, torch.stack([a, a, b]), speakers)
    apart = loss(generated, torch.stack([a, elsewhere, b]), speakers)
    other = softplus(math.log(2) - 10) / 3  # of the other speaker's item: two negatives at a right angle
    assert aligned.item() == pytest.approx(2 / 3 * softplus(-10) + other, rel=1e-3)
    # the first reference's terms are as they were; those of the second one are at the level of the negative
    assert apart.item() == pytest.approx(2 / 3 * (softplus(-10) + math.log(2)) / 2 + other, rel=1e-4)


def test_a_batch_without_negatives_gives_0_and_a_finite_gradient():
    generated = random(4, 16).requires_grad_()
    loss = build_loss("contrastive")(generated, random(4, 16, seed=1), torch.full((4,), 3))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(generated.grad).all()


def test_order_of_the_batch_does_not_matter():
    generated, reference = random(6, 16), random(6, 16, seed=1)
    loss = build_loss("contrastive")
    straight = loss(generated, reference, SPEAKERS)
    for order in ([5, 4, 3, 2, 1, 0], [2, 0, 4, 5, 1, 3]):
        assert loss(generated[order], reference[order], SPEAKERS[order]).item() == pytest.approx(
            straight.item(), rel=1e-6
        )
    # while the pairing of items with speakers does
    assert loss(generated, reference, SPEAKERS.flip(0)).item() != pytest.approx(straight.item(), rel=1e-2)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_gradient_is_finite_for_equal_and_opposite_vectors(sign, temperature):
    reference = random(6, 16)
    generated = (sign * reference).requires_grad_()
    loss = build_loss("contrastive", {"temperature": temperature})(generated, reference, SPEAKERS)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(generated.grad).all()


def test_a_temperature_of_0_is_refused():
    with pytest.raises(ConfigError, match=r"params\.temperature = 0"):
        build_loss("contrastive", {"temperature": 0})
