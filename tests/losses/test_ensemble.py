import itertools
from collections import Counter

import pytest
import torch

from coqui_scl_plugin import build_loss
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.plugins import registry

WEIGHTS = {"small": 1.0, "wide": 2.0, "deep": 5.0}
DIMS = {"small": 8, "wide": 32, "deep": 16}
SPEAKERS = torch.tensor([0, 1, 0, 2])
MEMBERS = [{"name": "cosine"}, {"name": "angular_margin", "params": {"margin": 0.3}}, {"name": "contrastive"}]


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def embeddings(seed: int) -> dict[str, torch.Tensor]:
    return {alias: random(4, dim, seed=seed + dim) for alias, dim in DIMS.items()}


def ensemble(combine: str, weights: dict[str, float] = WEIGHTS, member: dict | None = None, seed: int = 0):
    params = {"combine": combine, "member": member or {"name": "cosine"}, "seed": seed, "calibrate": False}
    return build_loss("ensemble", {**params, "encoders": weights})


def member_loss(member: dict, *args) -> torch.Tensor:
    return build_loss(member["name"], member.get("params"))(*args)


def draws(steps: range, weights: dict[str, float] = WEIGHTS, seed: int = 0) -> list[str]:
    loss = ensemble("random", weights, seed=seed)
    drawn = []
    for step in steps:
        (alias,) = loss.active(step)
        drawn.append(alias)
    return drawn


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member["name"])
def test_gradient_of_mean_is_the_weighted_mean_of_the_members_gradients(member):
    generated, reference = embeddings(0), embeddings(100)
    for tensor in generated.values():
        tensor.requires_grad_()
    loss = ensemble("mean", member=member)(generated, reference, SPEAKERS)
    value = 0.0
    gradients = torch.autograd.grad(loss, list(generated.values()))
    for (alias, tensor), gradient in zip(generated.items(), gradients, strict=True):
        alone = member_loss(member, tensor, reference[alias], SPEAKERS)
        expected = WEIGHTS[alias] / 8 * torch.autograd.grad(alone, tensor)[0]
        assert expected.norm() > 1e-4
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)
        value += WEIGHTS[alias] / 8 * alone.item()
    assert loss.item() == pytest.approx(value, rel=1e-6)


def test_the_members_gradients_meet_in_a_shared_waveform():
    waveform = random(4, 100, seed=1).requires_grad_()
    maps = {alias: random(100, dim, seed=dim) for alias, dim in DIMS.items()}
    reference = embeddings(100)

    def heard(alias: str) -> torch.Tensor:
        return torch.tanh(waveform @ maps[alias] / 10)

    loss = ensemble("mean")({alias: heard(alias) for alias in DIMS}, reference, SPEAKERS)
    (together,) = torch.autograd.grad(loss, waveform)
    alone = {
        alias: torch.autograd.grad(member_loss({"name": "cosine"}, heard(alias), reference[alias]), waveform)[0]
        for alias in DIMS
    }
    expected = sum(WEIGHTS[alias] * gradient for alias, gradient in alone.items()) / 8
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-8)
    # equal weights would be seen
    assert (together - sum(alone.values()) / 3).norm() > 0.1 * together.norm()


def test_only_the_ratios_of_the_weights_matter():
    generated, reference = embeddings(0), embeddings(100)
    for combine in ("mean", "worst"):
        tenfold = {alias: 10 * weight for alias, weight in WEIGHTS.items()}
        loss, scaled = (ensemble(combine, weights)(generated, reference, SPEAKERS) for weights in (WEIGHTS, tenfold))
        assert scaled.item() == pytest.approx(loss.item(), rel=1e-6)


def test_worst_is_the_largest_weighted_member_and_teaches_that_one_only():
    reference = embeddings(100)
    # unweighted losses of 2, about 1.9 and 0.05; weighted, with a mean weight of 1, about 0.75, 1.4 and 0.1
    noise = embeddings(200)
    generated = {
        "small": -reference["small"],
        "wide": -reference["wide"] + 0.3 * noise["wide"],
        "deep": reference["deep"] + 0.3 * noise["deep"],
    }
    for tensor in generated.values():
        tensor.requires_grad_()
    alone = {a: member_loss({"name": "cosine"}, generated[a], reference[a]).item() for a in DIMS}
    weighted = {a: alone[a] * WEIGHTS[a] / (8 / 3) for a in DIMS}
    assert max(alone, key=alone.get) == "small"
    assert max(weighted, key=weighted.get) == "wide"
    loss = ensemble("worst")(generated, reference, SPEAKERS)
    loss.backward()
    assert loss.item() == pytest.approx(weighted["wide"], rel=1e-5)
    for alias, tensor in generated.items():
        taught = tensor.grad is not None and bool(tensor.grad.abs().max() > 0)
        assert taught == (alias == "wide"), alias


def test_random_draws_one_encoder_a_step_alike_for_a_seed():
    assert draws(range(200)) == draws(range(200))
    assert set(draws(range(200))) == set(WEIGHTS)
    # it is the step that counts, not how often was drawn: a run that is restored at step 100 goes on alike
    assert draws(range(100, 200)) == draws(range(200))[100:]


def test_random_differs_by_seed():
    same = sum(a == b for a, b in zip(draws(range(200)), draws(range(200), seed=1), strict=True))
    # independent draws agree in 47 % of steps
    assert 60 < same < 130


def test_random_draws_by_weight():
    steps = 2000
    counts = Counter(draws(range(steps)))
    for alias, weight in WEIGHTS.items():
        share = weight / 8
        four_sigma = 4 * (steps * share * (1 - share)) ** 0.5
        assert abs(counts[alias] - steps * share) < four_sigma, counts


def test_random_draws_are_independent_from_step_to_step():
    drawn = draws(range(2000), {"a": 1.0, "b": 1.0})
    repeats = sum(a == b for a, b in itertools.pairwise(drawn))
    assert abs(repeats - 999.5) < 4 * (1999 * 0.25) ** 0.5


def test_random_is_the_drawn_members_own_loss():
    generated, reference = embeddings(0), embeddings(100)
    loss = ensemble("random")
    for step in range(10):
        (alias,) = loss.active(step)
        drawn = loss({alias: generated[alias]}, {alias: reference[alias]}, SPEAKERS, step=step)
        assert drawn.item() == pytest.approx(member_loss({"name": "cosine"}, generated[alias], reference[alias]).item())


def test_mean_and_worst_need_every_encoder():
    assert ensemble("mean").active(7) == list(WEIGHTS)
    assert ensemble("worst").active(7) == list(WEIGHTS)


@pytest.mark.parametrize(("step", "margin"), [(0, 0.0), (50, 0.2), (100, 0.4)])
def test_members_get_the_step(step, margin):
    generated, reference = embeddings(0), embeddings(100)
    params = {"margin": 0.4, "margin_warmup_steps": 100}
    warming = ensemble("mean", member={"name": "angular_margin", "params": params})
    fixed = ensemble("mean", member={"name": "angular_margin", "params": {"margin": margin}})
    expected = fixed(generated, reference, SPEAKERS).item()
    assert warming(generated, reference, SPEAKERS, step=step).item() == pytest.approx(expected, rel=1e-6)


def test_prototypes_go_to_their_own_encoder():
    generated, reference, prototypes = embeddings(0), embeddings(100), embeddings(300)
    speakers = torch.tensor([0, 1, 2, 3])
    member = {"name": "angular_margin"}
    loss = ensemble("mean", member=member)(generated, reference, speakers, prototypes)
    expected = sum(
        WEIGHTS[a] / 8 * member_loss(member, generated[a], reference[a], speakers, prototypes[a]).item() for a in DIMS
    )
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"member": {"name": "ensemble"}}, "cannot be a member of an ensemble"),
        ({"member": {"name": "cosin"}}, r"member\.name = 'cosin': .*Did you mean 'cosine'\?"),
        ({"member": {"params": {}}}, "needs a name"),
        ({"member": {"name": "cosine", "weight": 2}}, r"member\.weight: unknown key"),
        ({"member": {"name": "angular_margin", "params": {"margn": 1}}}, r"member\.params\.margn: .*'margin'"),
        ({"member": {"name": "angular_margin", "params": {"margin": -1}}}, r"member\.params\.margin = -1"),
        ({"combine": "sum"}, r"params\.combine = 'sum'"),
        ({"seed": -1}, r"params\.seed = -1"),
    ],
)
def test_what_does_not_fit_is_named(params, message):
    with pytest.raises(ConfigError, match=message):
        build_loss("ensemble", params)


def test_random_takes_the_drawn_encoder_of_all_that_are_given():
    loss, generated, reference = ensemble("random"), embeddings(1), embeddings(2)
    drawn = set()
    for step in range(40):
        (chosen,) = loss.active(step)
        drawn.add(chosen)
        expected = build_loss("cosine")(generated[chosen], reference[chosen])
        assert loss(generated, reference, step=step).item() == pytest.approx(expected.item(), abs=1e-6)
    assert drawn == set(DIMS)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member["name"])
def test_an_ensemble_of_one_is_its_member_bit_by_bit(member):
    generated, reference = random(4, 32, seed=1).requires_grad_(), random(4, 32, seed=2)
    alone = member_loss(member, generated, reference, SPEAKERS)
    one = ensemble("mean", {"only": 0.3}, member)
    assert one.weights == {"only": 1.0}
    value = one({"only": generated}, {"only": reference}, SPEAKERS)
    assert torch.equal(value, alone)
    assert torch.equal(torch.autograd.grad(value, generated)[0], torch.autograd.grad(alone, generated)[0])


def test_an_encoder_of_weight_0_is_refused():
    with pytest.raises(ConfigError, match=r"params\.encoders"):
        build_loss("ensemble", {"encoders": {"a": 1.0, "b": 0.0}})


class Counting(torch.nn.Module):
    """Notes the steps that it is told."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def set_step(self, step):
        self.steps.append(step)

    def forward(self, generated, reference, speaker_ids=None, prototypes=None):
        return (generated - reference).square().mean()


@pytest.mark.parametrize("combine", ["mean", "random"])
def test_every_member_is_told_each_step_once(combine, monkeypatch):
    monkeypatch.setitem(registry.installed().losses, "counting", registry.Entry(Counting, "a test"))
    loss, generated, reference = ensemble(combine, member={"name": "counting"}), embeddings(0), embeddings(100)
    for step in (0, 0, 1, 2, 2):
        loss(generated, reference, step=step)
    assert [member.steps for member in loss.members.values()] == [[0, 1, 2]] * 3
