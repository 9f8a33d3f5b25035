"""The policies, each on a small encoder with running statistics."""

import logging

import pytest
import torch
from torch import nn

from coqui_scl_plugin.freeze import FrozenPolicy, RestorePolicy, TrainablePolicy
from coqui_scl_plugin.utils.fingerprint import named_tensors

POLICIES = {"frozen": FrozenPolicy, "restore": RestorePolicy, "trainable": TrainablePolicy}


def encoder() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Dropout(), nn.Flatten(), nn.Linear(24, 2))
    module.register_buffer("window", torch.hann_window(8), persistent=False)
    module.register_buffer("zeros", torch.zeros(3))
    module.register_buffer("not_a_number", torch.tensor([float("nan"), 2.0]))
    return module


def bits(module: nn.Module) -> dict[str, bytes]:
    return {name: tensor.detach().numpy().tobytes() for name, tensor in named_tensors(module).items()}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_each_documents_what_it_blocks_and_costs(policy):
    text = policy.__doc__
    for aspect in ("weights", "buffers", "gradients", "optimizer", "checkpoint", "memory", "time"):
        assert aspect in text, aspect


def test_restore_undoes_what_an_optimizer_and_train_mode_did():
    module, policy = encoder(), RestorePolicy()
    start = bits(module)
    policy.apply(module)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(3):
        module.train().requires_grad_(True)
        module(torch.randn(4, 1, 8)).square().sum().backward()
        optimizer.step()
        assert bits(module) != start
        policy.apply(module)
        assert bits(module) == start
        assert all(p.grad is None and not p.requires_grad for p in module.parameters())
        assert not any(part.training for part in module.modules())


def test_restore_sees_single_bits():
    module, policy = encoder(), RestorePolicy()
    policy.apply(module)
    start = bits(module)
    module.zeros.neg_()
    module.not_a_number[1] = 3.0
    with torch.no_grad():
        module[0].weight.view(torch.int32).bitwise_xor_(1)
    assert bits(module) != start
    policy.apply(module)
    assert bits(module) == start


def test_restore_leaves_alone_what_it_cannot_put_back():
    module, policy = encoder(), RestorePolicy()
    policy.apply(module)
    module.half()
    module[4] = nn.Linear(24, 3)
    policy.apply(module)  # the guard finds both
    assert module[0].weight.dtype == torch.float16
    assert module[4].weight.shape == (3, 24)


def test_restore_works_where_evaluation_leaves_it():
    module, policy = encoder(), RestorePolicy()
    policy.apply(module)
    start = bits(module)
    with torch.no_grad():
        module[4].bias.add_(1)
    with torch.inference_mode():
        policy.apply(module)
    assert bits(module) == start
    waveform = torch.randn(2, 1, 8, requires_grad=True)
    module(waveform).sum().backward()
    assert waveform.grad.norm() > 0


def test_trainable_leaves_the_encoder_as_it_is_and_warns_once(caplog):
    module, policy = encoder().train(), TrainablePolicy()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            policy.apply(module)
    (record,) = caplog.records
    assert "CHANGE THE SPEAKER ENCODER" in record.getMessage()
    assert all(part.training for part in module.modules())
    assert all(p.requires_grad for p in module.parameters())
