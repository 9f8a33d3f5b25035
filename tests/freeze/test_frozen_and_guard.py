import copy

import pytest
import torch
from torch import nn

from coqui_scl_plugin.errors import DriftError
from coqui_scl_plugin.freeze import DriftGuard, FrozenPolicy
from coqui_scl_plugin.utils.fingerprint import fingerprint


def encoder() -> nn.Module:
    """With parameters, running statistics, and a buffer that a state dict leaves out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 2))
    module.register_buffer("window", torch.hann_window(8), persistent=False)
    return module


def flip_one_bit(tensor: torch.Tensor) -> None:
    """The lowest bit of the last element."""
    with torch.no_grad():
        tensor.detach().reshape(-1).view(torch.uint8)[-tensor.element_size()] ^= 1


def holding(*tensors: torch.Tensor) -> nn.Module:
    module = nn.Module()
    for index, tensor in enumerate(tensors):
        module.register_buffer(f"t{index}", tensor)
    return module


def test_equal_modules_have_equal_fingerprints():
    assert fingerprint(encoder()) == fingerprint(encoder()) == fingerprint(copy.deepcopy(encoder()))
    assert len(fingerprint(encoder())) == 16
    int(fingerprint(encoder()), 16)


def test_mode_and_gradients_are_not_part_of_the_fingerprint():
    module = encoder()
    before = fingerprint(module)
    module.train().requires_grad_(True)[0].weight.grad = torch.ones(4, 1, 3)
    assert fingerprint(module) == before


@pytest.mark.parametrize("name", ["0.weight", "3.bias", "1.running_mean", "1.num_batches_tracked", "window"])
def test_a_single_bit_changes_the_fingerprint(name):
    module = encoder()
    before = fingerprint(module)
    flip_one_bit({**dict(module.named_parameters()), **dict(module.named_buffers())}[name])
    assert fingerprint(module) != before


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(3, dtype=torch.bfloat16),
        torch.ones(3, dtype=torch.float64),
        torch.tensor(2.5),
        torch.tensor(2**40),
        torch.tensor([True]),
        torch.ones(2, 3).T,
    ],
    ids=["bfloat16", "float64", "0-d", "0-d integer", "bool", "not contiguous"],
)
def test_a_single_bit_counts_in_every_kind_of_tensor(tensor):
    before = fingerprint(holding(tensor))
    changed = tensor.clone(memory_format=torch.contiguous_format)
    flip_one_bit(changed)
    assert fingerprint(holding(changed)) != before
    flip_one_bit(changed)
    assert fingerprint(holding(changed)) == before


def test_type_shape_and_name_count_though_the_bits_are_equal():
    zeros = torch.zeros(4)
    others = [zeros.view(torch.int32), zeros.view(2, 2), zeros[:, None], torch.zeros(8, dtype=torch.bfloat16)]
    prints = [fingerprint(holding(tensor)) for tensor in (zeros, *others)] + [
        fingerprint(holding(zeros, zeros.clone()))
    ]
    renamed = nn.Module()
    renamed.register_buffer("other", zeros)
    assert len({*prints, fingerprint(renamed)}) == 7


def test_empty_tensors_and_negative_zero_are_told_apart():
    assert fingerprint(holding(torch.zeros(0))) == fingerprint(holding(torch.zeros(0)))
    assert fingerprint(holding(torch.zeros(0))) != fingerprint(holding(torch.zeros(0, 2)))
    assert fingerprint(holding(torch.tensor(0.0))) != fingerprint(holding(torch.tensor(-0.0)))
    assert fingerprint(nn.Module()) == fingerprint(nn.Identity())


def test_not_a_number_is_equal_to_itself():
    assert fingerprint(holding(torch.tensor(float("nan")))) == fingerprint(holding(torch.tensor(float("nan"))))


def test_the_guard_is_silent_while_nothing_moves():
    module = encoder().eval()
    guard = DriftGuard({"ge2e": module})
    for step in range(3):
        module(torch.randn(2, 1, 8)).sum().backward()
        guard.check(step)


@pytest.mark.parametrize("name", ["0.weight", "1.running_var", "window"])
def test_the_guard_names_encoder_tensor_and_steps(name):
    still, moving = encoder(), encoder()
    guard = DriftGuard({"still": still, "moving": moving})
    guard.check(100)
    guard.check(200)
    flip_one_bit({**dict(moving.named_parameters()), **dict(moving.named_buffers())}[name])
    with pytest.raises(DriftError) as caught:
        guard.check(300)
    message = str(caught.value)
    assert "'moving'" in message
    assert "'still'" not in message
    assert "between step 200 and step 300" in message
    assert "1 of 10 tensors" in message
    assert name in message


def test_the_guard_sees_what_train_mode_does_to_running_statistics():
    module = encoder().requires_grad_(False).train()
    guard = DriftGuard({"ge2e": module})
    module(torch.randn(4, 1, 8))
    with pytest.raises(DriftError, match=r"1\.num_batches_tracked, 1\.running_mean, 1\.running_var"):
        guard.check(1)


def test_the_guard_sees_an_optimizer_step_and_names_the_first_five_tensors():
    module = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    guard = DriftGuard({"ge2e": module})
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    with pytest.raises(DriftError, match=r"8 of 8 tensors, 0\.bias, 0\.weight, 1\.bias, 1\.weight, 2\.bias and 3 more"):
        guard.check(1)


def test_the_guard_sees_tensors_come_and_go():
    module = encoder()
    guard = DriftGuard({"ge2e": module})
    module.register_buffer("added", torch.zeros(1))
    del module.window
    with pytest.raises(DriftError, match="added, window"):
        guard.check(1)


def test_the_guard_goes_on_comparing_with_the_start():
    module = encoder()
    guard = DriftGuard({"ge2e": module})
    flip_one_bit(module[0].weight)
    for step in (1, 2):
        with pytest.raises(DriftError, match=f"between step 0 and step {step}"):
            guard.check(step)
    flip_one_bit(module[0].weight)
    guard.check(3)


def test_a_frozen_encoder_computes_no_gradient_for_itself_and_passes_it_on():
    module = encoder()
    FrozenPolicy().apply(module)
    waveform = torch.randn(2, 1, 8, requires_grad=True)
    module(waveform).sum().backward()
    assert all(parameter.grad is None for parameter in module.parameters())
    assert waveform.grad.norm() > 0


def test_frozen_applied_again_undoes_train_mode_gradients_and_requires_grad():
    module, policy = encoder(), FrozenPolicy()
    policy.apply(module)
    before = fingerprint(module)
    module.train().requires_grad_(True)
    module(torch.randn(2, 1, 8).abs()).sum().backward()
    assert module[0].weight.grad is not None
    assert fingerprint(module) != before  # so train mode had something to undo
    policy.apply(module)
    frozen = fingerprint(module)
    assert not any(part.training for part in module.modules())
    assert all(not p.requires_grad and p.grad is None for p in module.parameters())
    module(torch.randn(2, 1, 8))
    assert fingerprint(module) == frozen
