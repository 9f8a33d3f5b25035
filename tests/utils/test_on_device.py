"""Small tensors on a device, and what the pretended device counts."""

import pytest
import torch
from pretend_cuda import CUDA, OnCuda, moved, pretended_cuda

from coqui_scl_plugin.utils.fingerprint import all_same_bits, tensor_digests
from coqui_scl_plugin.utils.on_device import cut, cut_at, on_device, rows


def test_a_copy_to_a_gpu_waits_for_nothing():
    with pretended_cuda() as ledger:
        copied = on_device(torch.arange(3), CUDA)
    assert copied.is_cuda
    assert torch.equal(copied.held, torch.arange(3))
    assert sum(ledger.own("copies").values()) == 1
    assert ledger.waits == {}


def test_pieces_and_rows_read_nothing_back():
    tensor = torch.arange(30.0).reshape(3, 2, 5)
    with pretended_cuda() as ledger:
        there = OnCuda(tensor)
        assert torch.equal(rows(there, [2, 0]).held, tensor[[2, 0]])
        assert rows(there, [0, 1, 2]) is there
        pieces = cut(there, [1, 0], [1, 3], 3).held
        at = cut_at(there, OnCuda(torch.tensor([0, 1, 4])), 3).held
    assert torch.equal(pieces, torch.stack([tensor[1, :, 1:4], torch.nn.functional.pad(tensor[0, :, 3:], (0, 1))]))
    assert torch.equal(at[:2], torch.stack([tensor[0, :, :3], tensor[1, :, 1:4]]))
    assert torch.equal(at[2], torch.nn.functional.pad(tensor[2, :, 4:], (0, 2)))
    assert ledger.waits == {}


def test_many_tensors_are_compared_and_hashed_with_one_read_each():
    module = torch.nn.Sequential(*[torch.nn.Linear(3, 3) for _ in range(4)])
    digests, copies = tensor_digests(module), [p.detach().clone() for p in module.parameters()]
    with pretended_cuda() as ledger:
        there = list(moved(module).parameters())
        copies = [OnCuda(copy) for copy in copies]
        assert all_same_bits(there, copies)
        assert sum(ledger.waits.values()) == 1
        copies[5].held.view(torch.uint8)[0] ^= 1
        assert not all_same_bits(there, copies)
        ledger.clear()
        assert tensor_digests(module) == digests
        assert sum(ledger.waits.values()) == 1


def test_the_pretended_gpu_refuses_and_counts_what_a_real_one_would():
    with pretended_cuda() as ledger:
        there, here = OnCuda(torch.arange(4.0)), torch.arange(4.0)
        for wrong in (lambda: there + here, lambda: here[there.long()], lambda: torch.cat([there, here])):
            with pytest.raises(RuntimeError, match=r"cpu|same device"):
                wrong()
        with pytest.raises(TypeError, match="can't convert cuda"):
            there.numpy()
        assert ledger.waits == {}
        for count, waits in enumerate(
            [
                there.sum().item, there.tolist, there.cpu, lambda: here.to(CUDA), lambda: there[there > 1],
                lambda: there[[1, 2]], lambda: torch.tensor([1.0], device=CUDA), lambda: bool((there > 0).all()),
                there.unique, there.nonzero,
            ],
            start=1,
        ):  # fmt: skip
            waits()
            assert sum(ledger.waits.values()) >= count
        assert torch.equal(there[[1, 2]].held, here[1:3])
        assert (there * 2.0 + torch.tensor(1.0)).is_cuda  # a scalar may be on the CPU
