"""Exact hashes of a module's parameters and buffers, which reveal any changed bit."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name, including those that a state dict leaves out."""
    parameters = module.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(module.named_buffers(remove_duplicate=False))}


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors on one device have the same type, shape and bits: 0.0 differs from -0.0, NaN is NaN.

    >>> same_bits(torch.tensor(0.0), torch.tensor(-0.0))
    False
    """
    return _same_form(one, other) and torch.equal(_bytes(one), _bytes(other))


def _same_form(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape


def all_same_bits(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Tell `same_bits` of all pairs of two lists of tensors, the answers of a GPU read at once instead of one by one.

    >>> all_same_bits([torch.ones(2), torch.zeros(3)], [torch.ones(2), torch.zeros(3)])
    True
    """
    on_gpu: dict[torch.device, list[Tensor]] = {}
    for one, other in zip(some, others, strict=True):
        if not _same_form(one, other) or (one.device.type == "cpu" and not same_bits(one, other)):
            return False
        if one.device.type != "cpu":
            on_gpu.setdefault(one.device, []).append((_bytes(one) == _bytes(other)).all())
    return all(bool(torch.stack(same).all()) for same in on_gpu.values())


def _digest(tensor: Tensor, content: Tensor) -> bytes:
    digest = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=16)
    digest.update(content.numpy().data)
    return digest.digest()


def _contents(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the bytes of each tensor on the CPU. Those on a GPU are copied together, so the program waits once."""
    if len({tensor.device for tensor in tensors} - {torch.device("cpu")}) != 1:
        yield from (_bytes(tensor.cpu()) for tensor in tensors)
        return
    contents = [_bytes(tensor) for tensor in tensors]
    on_gpu = [content for content in contents if content.device.type != "cpu"]
    copied = iter(torch.cat(on_gpu).cpu().split([len(content) for content in on_gpu]))
    yield from (content if content.device.type == "cpu" else next(copied) for content in contents)


def tensor_digests(module: nn.Module) -> dict[str, bytes]:
    """Return an exact hash of each parameter and buffer by name: equal if and only if type, shape and bits are."""
    tensors = named_tensors(module)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # hashlib releases Python's lock
        digests = pool.map(_digest, tensors.values(), _contents(list(tensors.values())))
        return dict(zip(tensors, digests, strict=True))


def fingerprint(module: nn.Module) -> str:
    """Return one hash of all parameters and buffers, as 16 hexadecimal digits."""
    total = hashlib.blake2b(digest_size=8)
    for name, digest in sorted(tensor_digests(module).items()):
        total.update(name.encode() + digest)
    return total.hexdigest()
