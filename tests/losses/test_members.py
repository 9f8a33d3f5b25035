"""Members of an ensemble that differ, and that are sums of losses."""

import pytest
import torch
from torch import Tensor, nn

from coqui_scl_plugin import build_loss
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.losses.heard import Heard
from coqui_scl_plugin.plugins import registry

SPEAKERS = torch.tensor([0, 1, 0, 2])
ALIASES = ("one", "two")


def heard(seed: int) -> Heard:
    generator = torch.Generator().manual_seed(seed)
    return Heard(torch.randn(4, 8, generator=generator), [torch.randn(4, 3, 9, generator=generator) for _ in range(2)])


def batch() -> tuple[dict[str, Heard], dict[str, Heard]]:
    return {a: heard(n) for n, a in enumerate(ALIASES)}, {a: heard(10 + n) for n, a in enumerate(ALIASES)}


def ensemble(calibrate: bool = False, **params) -> nn.Module:
    return build_loss("ensemble", {"calibrate": calibrate, "encoders": dict.fromkeys(ALIASES, 1.0), **params})


def alone(name: str, generated: Heard, reference: Heard, **params) -> float:
    part = (lambda side: side.features) if name == "features" else (lambda side: side.embedding)
    return build_loss(name, params)(part(generated), part(reference), SPEAKERS).item()


@pytest.mark.parametrize(
    "member",
    [
        {"features": 2, "cosine": 0.5},
        [{"name": "features", "weight": 2.0}, {"name": "cosine", "weight": 0.5}],
        [{"name": "cosine", "params": {}, "weight": 0.5}, {"name": "features", "weight": 2}],
    ],
    ids=["names", "list", "list in another order"],
)
def test_a_member_is_the_weighted_sum_of_its_losses(member):
    generated, reference = batch()
    values = ensemble(member=member).member_losses(generated, reference, SPEAKERS)
    for alias in ALIASES:
        pair = generated[alias], reference[alias]
        expected = 2 * alone("features", *pair) + 0.5 * alone("cosine", *pair)
        assert values[alias].item() == pytest.approx(expected, rel=1e-6)


def test_losses_in_a_list_have_parameters_and_a_weight_of_1():
    generated, reference = batch()
    member = [{"name": "contrastive", "params": {"temperature": t}} for t in (0.1, 0.7)]
    value = ensemble(member=member).member_losses(generated, reference, SPEAKERS)["one"].item()
    expected = sum(alone("contrastive", generated["one"], reference["one"], temperature=t) for t in (0.1, 0.7))
    assert value == pytest.approx(expected, rel=1e-6)


def test_encoders_differ_by_members_and_the_others_have_the_common_one():
    generated, reference = batch()
    loss = ensemble(member={"name": "contrastive"}, members={"two": {"features": 1, "cosine": 1}})
    values = loss.member_losses(generated, reference, SPEAKERS)
    assert values["one"].item() == pytest.approx(alone("contrastive", generated["one"], reference["one"]), rel=1e-6)
    expected = alone("features", generated["two"], reference["two"]) + alone(
        "cosine", generated["two"], reference["two"]
    )
    assert values["two"].item() == pytest.approx(expected, rel=1e-6)
    assert list(loss.weights) == list(ALIASES)


@pytest.mark.parametrize("combine", ["mean", "worst", "random"])
def test_the_gradient_of_a_sum_reaches_embeddings_and_maps(combine):
    generated, reference = batch()
    for side in generated.values():
        for tensor in (side.embedding, *side.features):
            tensor.requires_grad_()
    loss = ensemble(member={"features": 1, "cosine": 1}, combine=combine)
    values = loss.member_losses(generated, reference, SPEAKERS)
    loss.join(values).backward()
    taught = [a for a, side in generated.items() if side.embedding.grad is not None and side.embedding.grad.any()]
    assert taught == (
        list(ALIASES) if combine == "mean" else [max(values, key=values.get)] if combine == "worst" else list(values)
    )
    for alias in taught:
        assert all(layer.grad.any() for layer in generated[alias].features)


def test_calibration_reaches_the_cosine_of_a_sum_alone():
    generated, reference = batch()
    calibration = Calibration(0.2, 0.6)
    loss = ensemble(calibrate=True, member={"features": 1, "cosine": 1})
    loss.set_calibrations(dict.fromkeys(ALIASES, calibration))
    values = loss.member_losses(generated, reference, SPEAKERS)
    for alias in ALIASES:
        pair = generated[alias], reference[alias]
        cosine = (1 - alone("cosine", *pair) - 0.2) / 0.4
        assert values[alias].item() == pytest.approx(alone("features", *pair) + 1 - cosine, rel=1e-5)


def test_an_encoder_without_cosines_needs_no_calibration():
    loss = ensemble(calibrate=True, member={"name": "cosine"}, members={"two": {"name": "features"}})
    assert [loss.wants_calibration(alias) for alias in ALIASES] == [True, False]
    with pytest.raises(ValueError, match="set_calibrations"):
        loss(*batch(), SPEAKERS)
    loss.set_calibrations({"one": Calibration(0.2, 0.6)})
    assert loss(*batch(), SPEAKERS).isfinite()


def test_a_sum_is_told_the_step_and_needs_what_its_losses_need():
    warming = {
        "name": "angular_margin",
        "params": {"margin": 0.4, "margin_warmup_steps": 100, "prototypes": "centroid"},
    }
    loss = ensemble(member=[warming, {"name": "features"}, {"name": "contrastive"}])
    loss.set_step(50)
    assert [member.terms[0].current_margin for member in loss.members.values()] == [0.2, 0.2]
    assert (loss.min_speakers, loss.min_batch_speakers, loss.wants_prototypes) == (2, 2, True)
    without = ensemble(member={"features": 1, "cosine": 1})
    assert (without.min_speakers, without.min_batch_speakers, without.wants_prototypes) == (1, 1, False)
    centroids = ensemble(member=[warming])
    assert (centroids.min_speakers, centroids.min_batch_speakers, centroids.wants_prototypes) == (2, 1, True)


def test_prototypes_go_to_the_losses_that_ask_for_them():
    generated, reference = batch()
    prototypes = {alias: torch.randn(3, 8, generator=torch.Generator().manual_seed(5)) for alias in ALIASES}
    centroid = {"name": "angular_margin", "params": {"prototypes": "centroid"}}
    loss = ensemble(member=[centroid, {"name": "angular_margin"}])
    value = loss.member_losses(generated, reference, SPEAKERS, prototypes)["one"].item()
    one, other = generated["one"].embedding, reference["one"].embedding
    with_prototypes = build_loss("angular_margin", centroid["params"])(one, other, SPEAKERS, prototypes["one"]).item()
    assert value == pytest.approx(
        with_prototypes + alone("angular_margin", generated["one"], reference["one"]), rel=1e-6
    )


class Weighted(nn.Module):
    """A loss with a weight of its own."""

    def __init__(self):
        super().__init__()
        self.own = nn.Parameter(torch.tensor(2.0))

    def forward(self, generated: Tensor, reference: Tensor, speaker_ids=None, prototypes=None) -> Tensor:
        return self.own * (generated - reference).square().mean()


def test_a_loss_that_is_not_in_a_sum_has_the_keys_that_it_always_had(monkeypatch):
    monkeypatch.setitem(registry.installed().losses, "weighted", registry.Entry(Weighted, "a test"))
    loss = ensemble(member={"name": "weighted"}, members={"two": {"weighted": 1, "features": 1}})
    assert set(loss.state_dict()) == {"members.one.own", "members.two.terms.0.own"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"member": {"features": 1, "cosin": 1}}, r"^params\.member\.cosin = 'cosin': .*Did you mean 'cosine'"),
        ({"member": {"features": 1, "cosine": 0}}, r"^params\.member\.cosine = 0: .*greater than 0"),
        ({"member": {"features": 1, "cosine": "1"}}, r"^params\.member\.cosine = '1'"),
        ({"member": {"features": 1, "cosine": True}}, r"^params\.member\.cosine = True"),
        ({"member": {"ensemble": 1, "cosine": 1}}, r"^params\.member\.ensemble = 'ensemble': .*cannot be a member"),
        ({"member": []}, r"^params\.member = \[\]: needs at least one loss"),
        ({"member": ["cosine"]}, r"^params\.member\.0 = 'cosine'"),
        ({"member": [{"name": "cosine", "weight": -1}]}, r"^params\.member\.0\.weight = -1"),
        ({"member": [{"name": "cosine", "wieght": 1}]}, r"^params\.member\.0\.wieght: .*'weight'"),
        ({"member": [{"weight": 1}]}, r"^params\.member\.0 = .*needs a name"),
        (
            {"member": [{"name": "cosine"}, {"name": "angular_margin", "params": {"margn": 1}}]},
            r"^params\.member\.1\.params\.margn: .*'margin'",
        ),
        ({"members": {"two": {"name": "cosin"}}}, r"^params\.members\.two\.name = 'cosin'"),
        ({"members": {"two": {"cosine": -1.0}}}, r"^params\.members\.two\.cosine = -1"),
        ({"members": {"three": {"name": "cosine"}}}, r"members names 'three'.*\['one', 'two'\]"),
        ({"members": {"two": 3}}, r"^params\.members"),
        (
            {"calibrate": True, "member": {"cosine": 1, "metric_learning": 1}},
            r"^params\.member\.metric_learning: MetricLearningLoss needs loss",
        ),
        (
            {"calibrate": True, "member": [{"name": "metric_learning", "params": {"loss": "SupConLoss"}}]},
            r"^params\.calibrate = true: 'metric_learning' cannot rescale",
        ),
        ({"calibrate": True, "member": {"features": 1}}, r"^params\.calibrate = true: no member compares cosines"),
    ],
)
def test_what_does_not_fit_is_named(params, message):
    with pytest.raises(ConfigError, match=message):
        ensemble(**params)
