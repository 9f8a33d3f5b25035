"""What the guard says of a change, and what it does about it."""

import logging

import pytest
import torch
from torch import nn

from coqui_scl_plugin.errors import DriftError
from coqui_scl_plugin.freeze import DriftGuard
from coqui_scl_plugin.utils.fingerprint import named_tensors


def encoder() -> nn.Module:
    """With parameters, running statistics, and a buffer that a state dict leaves out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 2))
    module.register_buffer("window", torch.hann_window(8), persistent=False)
    return module.eval().requires_grad_(False)


def bits(module: nn.Module) -> dict[str, bytes]:
    return {name: tensor.detach().numpy().tobytes() for name, tensor in named_tensors(module).items()}


def said(module: nn.Module, change, optimizers=()) -> str:
    """The message about a change of `module`."""
    guard = DriftGuard({"ge2e": module})
    change(module)
    with pytest.raises(DriftError) as caught:
        guard.check(7, optimizers)
    return str(caught.value)


# --- what it says -----------------------------------------------------------------------------------------------------


def test_the_largest_changes_are_given_with_their_size():
    def change(module):
        module[3].bias[1] += 0.5
        module[0].weight[2, 0, 1] -= 0.25
        module.window[3] += 2.0
        module[0].bias[0] += 1e-3

    message = said(encoder(), change)
    assert "4 of 10 tensors, 0.bias, 0.weight, 3.bias, window." in message
    assert "Largest changes of a value: window 2.0e+00, 3.bias 5.0e-01, 0.weight 2.5e-01." in message


def test_not_a_number_is_the_largest_change():
    def change(module):
        module[3].bias[1] = float("nan")
        module.window[3] += 2.0

    assert "Largest changes of a value: 3.bias nan, window 2.0e+00." in said(encoder(), change)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.bfloat16])
def test_tensors_of_other_types_are_measured_too(dtype):
    module = encoder()
    module.register_buffer("mask", torch.ones(3, dtype=dtype))
    assert "mask 1.0e+00" in said(module, lambda m: m.mask.zero_())


def test_the_optimizer_that_holds_a_tensor_is_named():
    module = encoder()
    theirs = torch.optim.SGD(module[3].parameters(), lr=1.0)
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    assert "Optimizer 1 of the trainer holds some" in said(module, lambda m: m[3].bias.add_(1), [other, theirs])


def test_an_optimizer_is_not_blamed_for_a_tensor_that_it_does_not_hold():
    module = encoder()
    theirs = torch.optim.SGD(module[3].parameters(), lr=1.0)
    assert "Optimizer" not in said(module, lambda m: m[0].bias.add_(1), [theirs])


def test_running_statistics_point_at_train_mode():
    def hear(module):
        module.train()(torch.randn(4, 1, 8))

    assert "running statistics" in said(encoder(), hear)


@pytest.mark.parametrize("change", [nn.Module.half, nn.Module.double, lambda m: m.to(torch.bfloat16)])
def test_another_type_points_at_half(change):
    message = said(encoder(), change)
    assert "another type or shape" in message
    assert "half()" in message


def test_a_part_that_was_replaced():
    def replace(module):
        module[3] = nn.Linear(24, 3)

    message = said(encoder(), replace)
    assert "another type or shape" in message
    assert "3.bias, 3.weight" in message
    assert "Tensors were added or removed" in said(encoder(), lambda m: m.register_buffer("added", torch.zeros(1)))


def test_anything_else_is_called_a_write_from_outside():
    other = nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 2))
    message = said(encoder(), lambda m: m.load_state_dict(other.state_dict()))
    assert "load_state_dict" in message
    assert "Optimizer" not in message


# --- which steps ------------------------------------------------------------------------------------------------------


def test_a_run_that_begins_later_is_not_said_to_have_been_watched_from_step_0():
    module = encoder()
    guard = DriftGuard({"ge2e": module}, step=1000)
    module[3].bias.add_(1)
    with pytest.raises(DriftError, match="between step 1000 and step 1003"):
        guard.check(1003)


def test_a_save_after_the_check_of_its_step_does_not_turn_the_range_around():
    module = encoder()
    guard = DriftGuard({"ge2e": module}, "warn")
    guard.check(3)
    module[3].bias.add_(1)
    (drift,) = guard.check(2)
    assert (drift.after_step, drift.step) == (3, 3)


# --- what it does -----------------------------------------------------------------------------------------------------


def change_everything(module: nn.Module) -> None:
    for tensor in named_tensors(module).values():
        tensor.copy_(-(tensor + 1))


def test_restore_puts_back_every_bit_and_says_so(caplog):
    still, moving = encoder(), encoder()
    moving[3].bias.zero_()
    start = bits(moving)
    guard = DriftGuard({"still": still, "moving": moving}, "restore")
    assert guard.check(5) == []
    change_everything(moving)
    with caplog.at_level(logging.WARNING):
        (drift,) = guard.check(9)
    assert bits(moving) == start
    assert (drift.encoder, drift.after_step, drift.step, drift.tensors) == ("moving", 5, 9, sorted(start))
    assert [record.getMessage() for record in caplog.records] == [drift.message]
    assert "was put back" in drift.message
    assert guard.check(10) == []


def test_restore_sees_the_sign_of_zero():
    module = encoder()
    module[3].bias.zero_()
    start = bits(module)
    guard = DriftGuard({"ge2e": module}, "restore")
    module[3].bias.neg_()
    assert len(guard.check(1)) == 1
    assert bits(module) == start


@pytest.mark.parametrize(
    "change",
    [
        nn.Module.half,
        lambda m: m.register_buffer("added", torch.zeros(1)),
        lambda m: delattr(m, "window"),
        lambda m: m.register_buffer("window", torch.zeros(9), persistent=False),
    ],
    ids=["half", "added", "gone", "another shape"],
)
def test_what_cannot_be_put_back_ends_the_run(change):
    module = encoder()
    guard = DriftGuard({"ge2e": module}, "restore")
    change(module)
    with pytest.raises(DriftError, match="The run stops here"):
        guard.check(1)


def test_warn_says_it_once_per_change_and_leaves_the_encoder(caplog):
    module = encoder()
    guard = DriftGuard({"ge2e": module}, "warn")
    module[3].bias.add_(1)
    changed = bits(module)
    with caplog.at_level(logging.WARNING):
        found = [guard.check(step) for step in (1, 2, 3)]
        assert bits(module) == changed
        module[3].bias.add_(1)
        found += [guard.check(step) for step in (4, 5)]
    assert [len(drifts) for drifts in found] == [1, 0, 0, 1, 0]
    assert (found[3][0].after_step, found[3][0].step) == (3, 4)
    assert len(caplog.records) == 2
    assert all("continues with the changed encoder" in record.getMessage() for record in caplog.records)


def test_two_encoders_are_told_apart():
    first, second = encoder(), encoder()
    guard = DriftGuard({"first": first, "second": second}, "warn")
    change_everything(first)
    change_everything(second)
    assert [drift.encoder for drift in guard.check(1)] == ["first", "second"]
