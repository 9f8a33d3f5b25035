"""Exact hashes of a module's parameters and buffers, which reveal any changed bit."""

import hashlib
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
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bytes(one), _bytes(other))


def _digest(tensor: Tensor) -> bytes:
    digest = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=16)
    digest.update(_bytes(tensor.cpu()).numpy().data)
    return digest.digest()


def tensor_digests(module: nn.Module) -> dict[str, bytes]:
    """Return an exact hash of each parameter and buffer by name: equal if and only if type, shape and bits are."""
    tensors = named_tensors(module)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # hashlib releases Python's lock
        return dict(zip(tensors, pool.map(_digest, tensors.values()), strict=True))


def fingerprint(module: nn.Module) -> str:
    """Return one hash of all parameters and buffers, as 16 hexadecimal digits."""
    total = hashlib.blake2b(digest_size=8)
    for name, digest in sorted(tensor_digests(module).items()):
        total.update(name.encode() + digest)
    return total.hexdigest()
