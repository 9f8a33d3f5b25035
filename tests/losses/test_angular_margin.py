import math

import numpy as np
import pytest
import torch

from coqui_scl_plugin import build_loss
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.losses.angular_margin import margin_cosine

KINDS = ("additive_angle", "additive_cosine")
SPEAKERS = torch.tensor([9, 4, 4, 7, 9, 4])
ROWS = [2, 0, 0, 1, 2, 0]  # of each item's speaker, in the order of the ids


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def psi(theta: float, margin: float, kind: str) -> float:
    if kind == "additive_cosine":
        return math.cos(theta) - margin
    if theta <= math.pi - margin:
        return math.cos(theta + margin)
    return math.cos(theta) - (1 - math.cos(margin))


def slow_loss(
    generated: np.ndarray, prototypes: np.ndarray, rows: list[int], margin: float, scale: float, kind: str
) -> float:
    """The definition in float64, item by item, through the angles themselves."""
    losses = []
    for item, own in zip(generated.astype(np.float64), rows, strict=True):
        angles = np.arccos(np.clip(unit(prototypes.astype(np.float64)) @ unit(item), -1, 1))
        logits = scale * np.cos(angles)
        logits[own] = scale * psi(angles[own], margin, kind)
        losses.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[own])
    return float(np.mean(losses))


def slow_prototypes(reference: np.ndarray) -> np.ndarray:
    directions = unit(reference.astype(np.float64))
    return np.stack([unit(directions[[r == row for r in ROWS]].sum(0)) for row in range(3)])


def slow_gradient(generated: np.ndarray, *args, step: float = 1e-6) -> np.ndarray:
    gradient = np.zeros_like(generated)
    for index in np.ndindex(*generated.shape):
        up, down = generated.copy(), generated.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (slow_loss(up, *args) - slow_loss(down, *args)) / (2 * step)
    return gradient


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5, 1.2])
@pytest.mark.parametrize("scale", [1.0, 30.0, 64.0])
def test_agrees_with_the_angles_in_float64(kind, margin, scale):
    loss = build_loss("angular_margin", {"kind": kind, "margin": margin, "scale": scale})
    for seed in range(5):
        generated, reference, given = random(6, 16, seed=seed), random(6, 16, seed=100 + seed), random(3, 16, seed=seed)
        rows = torch.tensor(ROWS)
        batch = slow_loss(generated.numpy(), slow_prototypes(reference.numpy()), ROWS, margin, scale, kind)
        assert float(loss(generated, reference, SPEAKERS)) == pytest.approx(batch, rel=1e-4)
        prototyped = slow_loss(generated.numpy(), given.numpy(), ROWS, margin, scale, kind)
        assert float(loss(generated, reference, rows, given)) == pytest.approx(prototyped, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_without_speaker_ids_every_item_is_its_own_speaker(kind):
    generated, reference = random(5, 16), random(5, 16, seed=1)
    loss = build_loss("angular_margin", {"kind": kind})(generated, reference)
    expected = slow_loss(generated.numpy(), reference.numpy(), [0, 1, 2, 3, 4], 0.2, 30.0, kind)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margin", [0.2, 1.2])
@pytest.mark.parametrize("scale", [5.0, 30.0])
def test_gradient_agrees_with_numeric_differentiation_in_float64(kind, margin, scale):
    generated, reference = random(6, 8).requires_grad_(), random(6, 8, seed=1)
    build_loss("angular_margin", {"kind": kind, "margin": margin, "scale": scale})(
        generated, reference, SPEAKERS
    ).backward()
    start = generated.detach().double().numpy()
    numeric = slow_gradient(start, slow_prototypes(reference.numpy()), ROWS, margin, scale, kind)
    assert np.linalg.norm(numeric) > 1e-2
    assert np.linalg.norm(generated.grad.numpy() - numeric) < 1e-4 * np.linalg.norm(numeric)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_past_the_turning_point_still_pulls_to_the_own_speaker(kind):
    theta, margin = math.pi - 0.2, 0.5
    generated = torch.tensor([[math.cos(theta), math.sin(theta), 0.0]]).requires_grad_()
    prototypes = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    build_loss("angular_margin", {"kind": kind, "margin": margin, "scale": 10.0})(
        generated, prototypes[:1], torch.tensor([0]), prototypes
    ).backward()
    numeric = slow_gradient(generated.detach().double().numpy(), prototypes.numpy(), [0], margin, 10.0, kind)
    assert np.linalg.norm(generated.grad.numpy() - numeric) < 1e-4 * np.linalg.norm(numeric)
    towards_own = torch.tensor([math.sin(theta), -math.cos(theta), 0.0])
    assert generated.grad[0] @ towards_own < 0


def edge_trial(trial: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One trial at cos = +1 or -1: its loss and gradient."""
    generator = torch.Generator().manual_seed(trial)

    def choice(*options):
        return options[int(torch.randint(len(options), (), generator=generator))]

    params = {"kind": choice(*KINDS), "margin": choice(0.0, 0.1, 0.2, 0.5, 1.5), "scale": choice(30.0, 64.0)}
    items, dim, noise = choice(2, 3, 6), choice(4, 192, 256), choice(0.0, 0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
    reference = torch.randn(items, dim, generator=generator)
    sign = torch.randint(0, 2, (items, 1), generator=generator) * 2.0 - 1.0
    generated = sign * reference * (1 + noise * torch.randn(items, dim, generator=generator))
    autocast = choice(True, False)
    if autocast:
        generated, reference = generated.bfloat16(), reference.bfloat16()
    generated.requires_grad_()
    prototypes = choice(None, torch.nn.functional.normalize(reference))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = build_loss("angular_margin", params)(generated, reference, torch.arange(items), prototypes)
    (gradient,) = torch.autograd.grad(loss, generated)
    return loss.detach(), gradient


def test_nothing_is_non_finite_in_a_thousand_trials_at_the_edges():
    bad = [trial for trial in range(1000) if not all(torch.isfinite(t).all() for t in edge_trial(trial))]
    assert len(bad) == 0, f"{len(bad)} of 1,000 trials are not finite, such as {bad[:5]}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.5])
def test_psi_has_a_finite_gradient_at_every_cosine(kind, margin):
    # of the function itself: whether a clamp before it passes a gradient at ±1 differs between versions of torch
    below_one = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)).item()
    cosine = torch.tensor([1.0, below_one, 0.0, -below_one, -1.0], requires_grad=True)
    margin_cosine(cosine, margin, kind).sum().backward()
    assert torch.isfinite(cosine.grad).all()


def target_logit(theta: float, margin: float, kind: str) -> float:
    """ψ(θ), solved from the loss of one item at angle θ to its speaker and a right angle to the only other one."""
    item = torch.tensor([[math.cos(theta), math.sin(theta), 0.0]], dtype=torch.float64)
    prototypes = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    loss = build_loss("angular_margin", {"kind": kind, "margin": margin, "scale": 1.0})
    return -math.log(math.expm1(float(loss(item, item, torch.tensor([0]), prototypes))))


@pytest.mark.parametrize("margin", [0.05, 0.2, 0.5, 1.2])
def test_additive_angle_has_no_jump_where_it_is_continued(margin):
    turn = math.pi - margin
    before, after = (target_logit(turn + step, margin, "additive_angle") for step in (-1e-4, 1e-4))
    assert before == pytest.approx(-1.0, abs=1e-3)
    assert after == pytest.approx(-1.0, abs=1e-3)
    assert abs(before - after) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5, 1.5])
def test_target_logit_never_rises_with_the_angle(kind, margin):
    logits = np.array([target_logit(theta, margin, kind) for theta in np.linspace(0, math.pi, 500)])
    assert (np.diff(logits) <= 1e-5).all()
    assert logits[0] - logits[-1] > 1.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (50, 0.5), (100, 1.0), (10_000, 1.0)])
def test_margin_warms_up_linearly(kind, step, share):
    generated, reference = random(6, 16), random(6, 16, seed=1)
    warming = build_loss("angular_margin", {"kind": kind, "margin": 0.4, "margin_warmup_steps": 100})
    warming.set_step(step)
    expected = slow_loss(generated.numpy(), slow_prototypes(reference.numpy()), ROWS, 0.4 * share, 30.0, kind)
    assert float(warming(generated, reference, SPEAKERS)) == pytest.approx(expected, rel=1e-4)


def test_without_warm_up_the_step_changes_nothing():
    generated, reference = random(6, 16), random(6, 16, seed=1)
    loss = build_loss("angular_margin")
    before = loss(generated, reference, SPEAKERS)
    loss.set_step(0)
    assert torch.equal(loss(generated, reference, SPEAKERS), before)


def test_a_batch_with_one_speaker_counts_0():
    generated = random(4, 16).requires_grad_()
    value = build_loss("angular_margin")(generated, random(4, 16, seed=1), torch.full((4,), 3))
    value.backward()
    assert value.item() == 0.0
    assert torch.isfinite(generated.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_margin_it_is_plain_softmax_cross_entropy(kind):
    generated, prototypes = random(6, 16), random(3, 16, seed=1)
    loss = build_loss("angular_margin", {"kind": kind, "margin": 0.0, "scale": 12.0})
    logits = 12.0 * unit(generated.double().numpy()) @ unit(prototypes.double().numpy()).T
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.tensor(ROWS))
    assert float(loss(generated, generated, torch.tensor(ROWS), prototypes)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"margin": -1}, r"params\.margin = -1: .*greater than or equal to 0"),
        ({"margin": math.pi}, r"params\.margin = 3\.14"),
        ({"margin": float("nan")}, r"params\.margin = nan"),
        ({"margin": "0.2"}, r"params\.margin = '0\.2'"),
        ({"kind": "foo"}, r"params\.kind = 'foo': .*'additive_angle' or 'additive_cosine'"),
        ({"scale": 0}, r"params\.scale = 0: .*greater than 0"),
        ({"margin_warmup_steps": -1}, r"params\.margin_warmup_steps = -1"),
        ({"prototypes": "moon"}, r"params\.prototypes = 'moon'"),
        ({"margn": 0.2}, r"params\.margn: .*Did you mean 'margin'\?"),
    ],
)
def test_wrong_parameters_are_named(params, message):
    with pytest.raises(ConfigError, match=message):
        build_loss("angular_margin", params)
