"""`stop_at_ceiling`: an item that is as similar as two recordings of the person teaches nothing more."""

import math

import pytest
import torch
from torch import Tensor, nn

from coqui_scl_plugin import build_loss
from coqui_scl_plugin.losses.calibration import Calibration

CALIBRATION = Calibration(0.25, 0.75)
STOPPING = {"name": "cosine", "params": {"stop_at_ceiling": True}}


def at(*cosines: float) -> tuple[Tensor, Tensor]:
    """Generated embeddings with these cosines to their references, which are two in turn."""
    turned = [index % 2 for index in range(len(cosines))]
    pairs = [(2 * c, 2 * math.sqrt(1 - c * c)) for c in cosines]
    generated = torch.tensor([pair[::-1] if turn else pair for pair, turn in zip(pairs, turned, strict=True)])
    return generated.requires_grad_(), torch.eye(2)[turned]


def stopping(ceiling: float = 0.75) -> nn.Module:
    loss = build_loss("cosine", {"stop_at_ceiling": True})
    loss.set_ceiling(ceiling)
    return loss


def gradient(loss: nn.Module, pair: tuple[Tensor, Tensor]) -> Tensor:
    return torch.autograd.grad(loss(*pair), pair[0])[0]


def test_below_the_ceiling_it_is_the_plain_cosine_bit_by_bit():
    pair = at(-0.9, 0.0, 0.3, 0.7499)
    assert torch.equal(stopping()(*pair), build_loss("cosine")(*pair))
    assert torch.equal(gradient(stopping(), pair), gradient(build_loss("cosine"), pair))


def test_an_item_beyond_the_ceiling_gets_no_gradient_and_the_others_keep_theirs():
    pair = at(0.2, 0.8, 0.6, 0.99)
    stopped, plain = gradient(stopping(), pair), gradient(build_loss("cosine"), pair)
    assert torch.equal(stopped[[0, 2]], plain[[0, 2]])
    assert not stopped[[1, 3]].any()
    assert plain[[1, 3]].abs().amax(dim=1).min() > 0.01
    expected = 1 - (0.2 + 0.75 + 0.6 + 0.75) / 4
    assert stopping()(*pair).item() == pytest.approx(expected, abs=1e-6)


def test_its_floor_is_one_minus_the_ceiling():
    assert stopping()(*at(0.9, 1.0)).item() == pytest.approx(0.25, abs=1e-7)


def test_without_the_ceiling_there_is_no_value():
    with pytest.raises(ValueError, match="set_ceiling"):
        build_loss("cosine", {"stop_at_ceiling": True})(*at(0.5))


def test_it_is_off_by_default():
    loss = build_loss("cosine")
    loss.set_ceiling(0.1)
    assert loss(*at(0.9)).item() == pytest.approx(0.1, abs=1e-6)


def ensemble(calibrate: bool, aliases: tuple[str, ...] = ("only",), **params) -> nn.Module:
    loss = build_loss(
        "ensemble", {"member": STOPPING, "calibrate": calibrate, "encoders": dict.fromkeys(aliases, 1.0), **params}
    )
    loss.set_calibrations(dict.fromkeys(aliases, CALIBRATION))
    return loss


def test_knowing_the_calibration_rescales_nothing_unless_the_ensemble_calibrates():
    generated, reference = at(0.2, 0.5)
    sides = {"only": generated}, {"only": reference}
    assert torch.equal(ensemble(calibrate=False)(*sides), build_loss("cosine")(generated, reference))
    calibrated = 1 - ((0.2 - 0.25) / 0.5 + 0.5) / 2
    assert ensemble(calibrate=True)(*sides).item() == pytest.approx(calibrated, abs=1e-6)


def test_in_calibrated_units_the_ceiling_is_1_and_the_loss_ends_at_exactly_0():
    generated, reference = at(0.8, 1.0)
    loss = ensemble(calibrate=True)({"only": generated}, {"only": reference})
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, generated)[0].any()


@pytest.mark.parametrize("calibrate", [False, True])
def test_an_ensemble_asks_for_the_calibration_before_it_gives_a_value(calibrate):
    loss = build_loss("ensemble", {"member": STOPPING, "calibrate": calibrate, "encoders": {"only": 1.0}})
    generated, reference = at(0.5)
    assert loss.wants_calibration("only")
    with pytest.raises(ValueError, match="set_calibrations"):
        loss({"only": generated}, {"only": reference})


def test_with_the_ceilings_lifted_every_item_teaches_and_after_that_as_before():
    loss, (generated, reference) = ensemble(calibrate=False), at(0.8, 0.9)
    sides = {"only": generated}, {"only": reference}
    with loss.ceilings_lifted():
        assert torch.equal(loss(*sides), build_loss("cosine")(generated, reference))
    assert loss(*sides).item() == pytest.approx(0.25)


# --- whether a batch has something to teach ---------------------------------------------------------------------------


def idle(loss: nn.Module, cosines: dict[str, tuple[float, ...]], speakers: int = 2) -> bool:
    pairs = {alias: at(*values) for alias, values in cosines.items()}
    sides = {alias: pair[0] for alias, pair in pairs.items()}, {alias: pair[1] for alias, pair in pairs.items()}
    losses = loss.member_losses(*sides)
    said = bool(loss.is_idle(losses, *sides, speakers))
    if loss.combine != "random" and speakers > 1:  # and what it says is so
        gradients = torch.autograd.grad(loss.join(losses), list(sides[0].values()), allow_unused=True)
        assert said == (not any(g is not None and bool(g.any()) for g in gradients))
    return said


def test_a_batch_is_idle_if_all_its_items_are_beyond_the_ceiling():
    assert idle(ensemble(calibrate=False), {"only": (0.8, 0.9)})
    assert not idle(ensemble(calibrate=False), {"only": (0.8, 0.7)})
    assert not idle(ensemble(calibrate=False, member={"name": "cosine"}), {"only": (0.8, 0.9)})


@pytest.mark.parametrize("combine", ["mean", "worst", "random"])
def test_an_ensemble_is_idle_as_its_members_are(combine):
    loss = ensemble(calibrate=True, aliases=("a", "b"), combine=combine)
    assert idle(loss, {"a": (0.8, 0.9), "b": (0.9, 0.9)})
    assert not idle(loss, {"a": (0.1, 0.1), "b": (0.1, 0.9)})


def test_of_the_worst_the_one_that_counts_decides():
    mixed = {"a": STOPPING, "b": {"name": "cosine"}}
    loss = ensemble(calibrate=True, aliases=("a", "b"), combine="worst", member=None, members=mixed)
    assert idle(loss, {"a": (0.9, 0.9), "b": (0.8, 0.8)})  # 0, and less than 0
    assert not idle(loss, {"a": (0.9, 0.9), "b": (0.5, 0.8)})
    assert not idle(ensemble(True, ("a", "b"), member=None, members=mixed), {"a": (0.9, 0.9), "b": (0.8, 0.8)})


def test_a_sum_is_idle_if_each_of_its_losses_is():
    member = [STOPPING, {"name": "contrastive"}]
    loss = ensemble(calibrate=False, member=member)
    assert not idle(loss, {"only": (0.8, 0.9)})
    assert idle(loss, {"only": (0.8, 0.9)}, speakers=1)
    assert not idle(loss, {"only": (0.8, 0.1)}, speakers=1)
