"""Losses in calibrated units: cosines of 0 at the floor of real speech and of 1 at its ceiling."""

import logging
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coqui_scl_plugin import SclVitsConfig, build_loss
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.losses.base import SpeakerConsistencyLoss
from coqui_scl_plugin.losses.calibration import Calibration
from coqui_scl_plugin.plugins import registry

CALIBRATIONS = [Calibration(0.5, 0.8), Calibration(-0.1, 0.3), Calibration(0.0, 1.0), Calibration(-1.0, 1.0)]
KINDS = ("additive_angle", "additive_cosine")
SPEAKERS = torch.tensor([3, 1, 1, 7, 3])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(vectors: Tensor) -> np.ndarray:
    rows = vectors.detach().double().numpy()
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def calibrated(cosine: float | np.ndarray, calibration: Calibration) -> float | np.ndarray:
    return (cosine - calibration.floor) / (calibration.ceiling - calibration.floor)


# --- the formulas, in float64 and item by item ------------------------------------------------------------------------


def slow_cosine(generated: Tensor, reference: Tensor, calibration: Calibration) -> float:
    pairs = zip(unit(generated), unit(reference), strict=True)
    return float(np.mean([1 - calibrated(one @ other, calibration) for one, other in pairs]))


def slow_contrastive(generated: Tensor, reference: Tensor, calibration: Calibration, temperature: float) -> float:
    scores = np.exp(calibrated(unit(generated) @ unit(reference).T, calibration) / temperature)
    speakers, losses = SPEAKERS.tolist(), []
    for item, row in enumerate(scores):
        others = sum(score for score, speaker in zip(row, speakers, strict=True) if speaker != speakers[item])
        own = [score for score, speaker in zip(row, speakers, strict=True) if speaker == speakers[item]]
        losses.append(np.mean([-math.log(score / (score + others)) for score in own]))
    return float(np.mean(losses))


def psi(cosine: float, margin: float, kind: str) -> float:
    theta = math.acos(max(-1.0, min(1.0, cosine)))
    if kind == "additive_cosine":
        return math.cos(theta) - margin
    return math.cos(theta + margin) if theta <= math.pi - margin else math.cos(theta) - (1 - math.cos(margin))


def slow_angular_margin(
    generated: Tensor,
    prototypes: Tensor,
    rows: list[int],
    calibration: Calibration,
    *,
    margin: float,
    scale: float,
    kind: str,
) -> float:
    """The margin is one of angles, or of cosines as the encoder gives them; what it leaves is calibrated."""
    losses = []
    for item, own in zip(unit(generated) @ unit(prototypes).T, rows, strict=True):
        item[own] = psi(item[own], margin, kind)
        logits = scale * calibrated(item, calibration)
        losses.append(math.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[own])
    return float(np.mean(losses))


def batch_prototypes(reference: Tensor) -> tuple[Tensor, list[int]]:
    names = sorted(set(SPEAKERS.tolist()))
    directions = torch.from_numpy(unit(reference))
    means = torch.stack([directions[name == SPEAKERS].sum(dim=0) for name in names])
    return means, [names.index(speaker) for speaker in SPEAKERS.tolist()]


# --- each loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=str)
def test_cosine_is_1_minus_the_calibrated_cosine(calibration):
    generated, reference = random(5, 8), random(5, 8, seed=1)
    loss = build_loss("cosine")
    loss.set_calibration(calibration)
    assert loss(generated, reference).item() == pytest.approx(slow_cosine(generated, reference, calibration), rel=1e-5)


def test_cosine_is_1_at_the_floor_and_0_at_the_ceiling():
    loss = build_loss("cosine")
    loss.set_calibration(Calibration(0.5, 0.8))
    for cosine, expected in ((0.5, 1.0), (0.8, 0.0), (1.0, -2 / 3), (-1.0, 6.0)):
        generated = torch.tensor([[cosine, math.sqrt(1 - cosine**2)]])
        assert loss(generated, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=str)
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_contrastive_is_the_same_formula_on_calibrated_cosines(calibration, temperature):
    generated, reference = random(5, 8), random(5, 8, seed=1)
    loss = build_loss("contrastive", {"temperature": temperature})
    loss.set_calibration(calibration)
    expected = slow_contrastive(generated, reference, calibration, temperature)
    assert loss(generated, reference, SPEAKERS).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_angular_margin_is_the_same_formula_on_calibrated_cosines(calibration, kind):
    generated, reference, given = random(5, 8), random(5, 8, seed=1), random(4, 8, seed=2)
    loss = build_loss("angular_margin", {"kind": kind, "margin": 0.3, "scale": 7.0})
    loss.set_calibration(calibration)
    prototypes, rows = batch_prototypes(reference)
    settings = {"margin": 0.3, "scale": 7.0, "kind": kind}
    expected = slow_angular_margin(generated, prototypes, rows, calibration, **settings)
    assert loss(generated, reference, SPEAKERS).item() == pytest.approx(expected, rel=1e-4)
    rows = [3, 0, 0, 1, 3]
    expected = slow_angular_margin(generated, given, rows, calibration, **settings)
    assert loss(generated, reference, torch.tensor(rows), given).item() == pytest.approx(expected, rel=1e-4)


SOFT = {"cosine": {}, "contrastive": {"temperature": 1.0}, "angular_margin": {"scale": 1.0}}


@pytest.mark.parametrize("name", SOFT)
def test_raw_levels_change_nothing_and_narrow_ones_raise_the_gradient(name):
    generated, reference = random(5, 8).requires_grad_(), random(5, 8, seed=1)

    def value_and_gradient(calibration: Calibration | None) -> tuple[float, float]:
        loss = build_loss(name, SOFT[name])
        if calibration is not None:
            loss.set_calibration(calibration)
        value = loss(generated, reference, SPEAKERS)
        return value.item(), torch.autograd.grad(value, generated)[0].norm().item()

    untouched = value_and_gradient(None)
    assert value_and_gradient(Calibration(0.0, 1.0)) == pytest.approx(untouched, rel=1e-6)
    assert value_and_gradient(Calibration(0.5, 0.75))[1] > 1.5 * untouched[1] > 0


def test_the_levels_of_one_loss_are_not_those_of_another():
    one, other = build_loss("cosine"), build_loss("cosine")
    generated, reference = random(5, 8), random(5, 8, seed=1)
    before = other(generated, reference).item()
    one.set_calibration(Calibration(0.5, 0.8))
    assert other(generated, reference).item() == before == build_loss("cosine")(generated, reference).item()


# --- the ensemble -----------------------------------------------------------------------------------------------------

ENCODERS = {"near": Calibration(0.6, 0.9), "far": Calibration(0.0, 0.4)}


def ensemble(member: dict | None = None, *, weights: dict[str, float] | None = None, **params) -> nn.Module:
    encoders = weights or {"near": 1.0, "far": 1.0}
    return build_loss("ensemble", {"member": member or {"name": "cosine"}, "encoders": encoders, **params})


def pairs() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Generated and reference embeddings, by encoder: cosines of 0.7 by `near`, and of 0.3 by `far`."""
    generated = {
        alias: torch.tensor([[c, math.sqrt(1 - c**2)]]).requires_grad_()
        for alias, c in {"near": 0.7, "far": 0.3}.items()
    }
    return generated, {alias: torch.tensor([[1.0, 0.0]]) for alias in generated}


def test_each_member_is_calibrated_by_its_own_encoder():
    loss = ensemble(combine="mean")
    loss.set_calibrations(ENCODERS)
    members = loss.member_losses(*pairs())
    assert members["near"].item() == pytest.approx(1 - 0.1 / 0.3, abs=1e-5)
    assert members["far"].item() == pytest.approx(1 - 0.3 / 0.4, abs=1e-5)
    assert loss(*pairs()).item() == pytest.approx((2 / 3 + 1 / 4) / 2, abs=1e-5)


@pytest.mark.parametrize(
    "member",
    [
        {"name": "angular_margin", "params": {"margin": 0.3, "scale": 7.0}},
        {"name": "contrastive", "params": {"temperature": 0.5}},
    ],
    ids=lambda member: member["name"],
)
def test_members_of_every_kind_are_calibrated(member):
    loss = ensemble(member, weights={"near": 3.0, "far": 1.0})
    loss.set_calibrations(ENCODERS)
    generated = {alias: random(5, 8, seed=seed) for seed, alias in enumerate(ENCODERS)}
    reference = {alias: random(5, 8, seed=10 + seed) for seed, alias in enumerate(ENCODERS)}
    expected = {}
    for alias, calibration in ENCODERS.items():
        if member["name"] == "contrastive":
            expected[alias] = slow_contrastive(generated[alias], reference[alias], calibration, 0.5)
        else:
            prototypes, rows = batch_prototypes(reference[alias])
            expected[alias] = slow_angular_margin(
                generated[alias], prototypes, rows, calibration, margin=0.3, scale=7.0, kind="additive_angle"
            )
    mean = 0.75 * expected["near"] + 0.25 * expected["far"]
    assert loss(generated, reference, SPEAKERS).item() == pytest.approx(mean, rel=1e-4)


def test_worst_in_calibrated_units_is_another_than_in_raw_cosines():
    taught = {}
    for calibrate in (False, True):
        loss, (generated, reference) = ensemble(combine="worst", calibrate=calibrate), pairs()
        if calibrate:
            loss.set_calibrations(ENCODERS)
        value = loss(generated, reference)
        gradients = torch.autograd.grad(value, list(generated.values()), allow_unused=True)
        taught[calibrate] = [
            alias for alias, g in zip(generated, gradients, strict=True) if g is not None and g.abs().max() > 0
        ]
        assert value.item() == pytest.approx(2 / 3 if calibrate else 0.7, abs=1e-5)
    assert taught == {False: ["far"], True: ["near"]}


def test_random_is_calibrated_too():
    loss = ensemble(combine="random")
    loss.set_calibrations(ENCODERS)
    seen = {}
    for step in range(20):
        (alias,) = loss.active(step)
        seen[alias] = loss(*pairs(), step=step).item()
    assert seen == pytest.approx({"near": 2 / 3, "far": 1 / 4}, abs=1e-5)


@pytest.mark.parametrize("combine", ["mean", "worst", "random"])
def test_without_levels_a_calibrated_ensemble_gives_no_value(combine):
    loss = ensemble(combine=combine)
    with pytest.raises(ValueError, match="set_calibrations"):
        loss(*pairs())
    loss.set_calibrations(ENCODERS)
    assert loss(*pairs()).isfinite()


def test_calibration_is_what_one_gets_unless_it_is_switched_off():
    assert build_loss("ensemble").calibrate is True
    loss = ensemble(calibrate=False)
    assert loss(*pairs()).item() == pytest.approx((0.3 + 0.7) / 2, abs=1e-5)


class Plain(nn.Module):
    """A loss of a third party, which knows nothing of calibrations."""

    def forward(self, generated, reference, speaker_ids=None, prototypes=None):
        return (generated - reference).square().sum(dim=-1).mean() / 2


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.setitem(registry.installed().losses, "plain", registry.Entry(Plain, "a test"))
    return {"name": "plain"}


def test_a_member_that_cannot_be_calibrated_is_refused(plain):
    with pytest.raises(ConfigError, match=r"params\.calibrate = true: 'plain' .*set it to false"):
        build_loss("ensemble", {"member": plain})
    with pytest.raises(ConfigError, match=r"^scl\.loss\.params\.calibrate = true: 'plain'"):
        SclVitsConfig().from_dict({"scl": {"loss": {"name": "ensemble", "params": {"member": plain}}}})


def test_a_member_that_cannot_be_calibrated_works_uncalibrated(plain):
    config = SclVitsConfig()
    config.from_dict({"scl": {"loss": {"name": "ensemble", "params": {"member": plain, "calibrate": False}}}})
    loss = ensemble(plain, calibrate=False)
    assert loss(*pairs()).item() == pytest.approx((0.3 + 0.7) / 2, abs=1e-5)


class CalibratedBefore(nn.Module):
    """A loss of a plugin of before, which calls its calibration levels."""

    takes_levels = True

    def __init__(self):
        super().__init__()
        self.scale = 1.0

    def set_levels(self, levels):
        self.scale = levels.ceiling - levels.floor

    def forward(self, generated, reference, speaker_ids=None, prototypes=None):
        return (generated - reference).square().sum(dim=-1).mean() / 2 / self.scale


def test_a_plugin_that_names_its_calibration_as_before_is_calibrated(monkeypatch):
    monkeypatch.setitem(registry.installed().losses, "before", registry.Entry(CalibratedBefore, "a test"))
    loss = ensemble({"name": "before"})
    loss.set_calibrations(ENCODERS)
    assert loss(*pairs()).item() == pytest.approx((0.3 / 0.3 + 0.7 / 0.4) / 2, abs=1e-5)


class DerivedBefore(SpeakerConsistencyLoss):
    """A loss of a plugin of before, which overrides `set_levels`, and reads `levels`."""

    takes_levels = True
    told = 0

    def set_levels(self, levels):
        super().set_levels(levels)
        self.told += 1

    def compute(self, generated, reference, speaker_ids, prototypes):
        return (1 - self.levels.rescale(torch.cosine_similarity(generated, reference))).mean()


def test_a_loss_of_before_that_derives_from_ours_is_calibrated(monkeypatch):
    monkeypatch.setitem(registry.installed().losses, "derived", registry.Entry(DerivedBefore, "a test"))
    loss = ensemble({"name": "derived"})
    loss.set_calibrations(ENCODERS)
    assert [member.told for member in loss.members.values()] == [1, 1]
    assert loss(*pairs()).item() == pytest.approx((2 / 3 + 1 / 4) / 2, abs=1e-5)
    alone = build_loss("derived")
    assert alone(torch.eye(2), torch.eye(2)).item() == pytest.approx(0, abs=1e-6)


# --- prototypes of the whole data set ---------------------------------------------------------------------------------


def centroid(**params) -> nn.Module:
    return build_loss("angular_margin", {"prototypes": "centroid", **params})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("calibration", CALIBRATIONS[:3], ids=str)
def test_every_speaker_of_the_data_set_is_a_negative(kind, calibration):
    generated, reference, centroids = random(5, 8), random(5, 8, seed=1), random(9, 8, seed=2)
    rows = [8, 2, 2, 0, 5]  # five speakers of nine are not in the batch
    loss = centroid(kind=kind, margin=0.25, scale=9.0)
    loss.set_calibration(calibration)
    found = loss(generated, reference, torch.tensor(rows), centroids).item()
    settings = {"margin": 0.25, "scale": 9.0, "kind": kind}
    assert found == pytest.approx(slow_angular_margin(generated, centroids, rows, calibration, **settings), rel=1e-4)
    # one more speaker is one more negative, and the references of the batch count for nothing
    more = torch.cat([centroids, generated[:1]])
    assert loss(generated, reference, torch.tensor(rows), more).item() > found
    assert loss(generated, -reference, torch.tensor(rows), centroids).item() == found


def test_a_batch_of_one_speaker_has_a_gradient(caplog):
    generated, reference, centroids = random(4, 8).requires_grad_(), random(4, 8, seed=1), random(3, 8, seed=2)
    rows = torch.ones(4, dtype=torch.long)
    with caplog.at_level(logging.WARNING, logger="coqui_scl_plugin"):
        value = centroid()(generated, reference, rows, centroids)
        (gradient,) = torch.autograd.grad(value, generated)
    assert value.item() > 0
    assert (gradient.norm(dim=1) > 1e-4).all()
    assert caplog.records == []
    # where the batch's own speakers are the prototypes, there is nothing to tell apart
    assert build_loss("angular_margin")(generated, reference, rows).item() == 0.0


@pytest.mark.parametrize("given", [(), (torch.tensor([0, 1, 1, 2, 0]),)], ids=["no speakers", "speakers"])
def test_without_the_prototypes_it_asks_for_there_is_no_value(given):
    with pytest.raises(ValueError, match="prototypes"):
        centroid()(random(5, 8), random(5, 8, seed=1), *given)


def test_it_says_that_it_wants_them():
    assert centroid().wants_prototypes is True
    assert build_loss("angular_margin").wants_prototypes is False
    member = {"name": "angular_margin", "params": {"prototypes": "centroid"}}
    assert ensemble(member).wants_prototypes is True
    assert ensemble({"name": "angular_margin"}).wants_prototypes is False
