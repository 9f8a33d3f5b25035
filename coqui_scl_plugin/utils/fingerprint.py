"""Exact hashes of a module's parameters and buffers, which reveal any changed bit."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

_remembered: dict[int, tuple[Tensor, tuple[int, int], bytes]] | None = None
"""Within `hashing_once`, by the `id` of a tensor: the tensor, its version and place, and its hash."""


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
    known = {name: digest for name, tensor in tensors.items() if (digest := _known_digest(tensor)) is not None}
    new = {name: tensor for name, tensor in tensors.items() if name not in known}
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # hashlib releases Python's lock
        digests = pool.map(_digest, new.values(), _contents(list(new.values()))) if new else ()
        known |= zip(new, digests, strict=True)
    for name, tensor in new.items():
        if _remembered is not None and not tensor.is_inference():  # of which torch counts no changes
            _remembered[id(tensor)] = (tensor, _version(tensor), known[name])
    return {name: known[name] for name in tensors}


def _version(tensor: Tensor) -> tuple[int, int]:
    return tensor._version, tensor.data_ptr()


def _known_digest(tensor: Tensor) -> bytes | None:
    if _remembered is None or (found := _remembered.get(id(tensor))) is None:
        return None
    return found[2] if found[1] == _version(tensor) else None


@contextlib.contextmanager
def hashing_once() -> Iterator[None]:
    """Within the block, hash a tensor again only if torch counts a change of it; what it holds is kept in memory.

    For the start of a run, in which several parts ask for the fingerprint of an encoder and nothing trains. Changes
    that torch does not count, such as those through `.data`, are not seen: a guard compares bits, by `moved_tensors`.
    """
    global _remembered
    former, _remembered = _remembered, {} if _remembered is None else _remembered
    try:
        yield
    finally:
        _remembered = former


def copied_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of each parameter and buffer on the CPU, by name."""
    return {name: tensor.detach().cpu().clone() for name, tensor in named_tensors(module).items()}


def moved_tensors(module: nn.Module, copies: Mapping[str, Tensor]) -> list[str]:
    """Return the sorted names of tensors that are not, bit by bit, as `copied_tensors` found them, or came or went."""
    tensors = named_tensors(module)
    kept = [name for name, tensor in tensors.items() if name in copies and _same_form(tensor, copies[name])]
    contents = zip(kept, _contents([tensors[name] for name in kept]), strict=True)
    same = {name for name, content in contents if torch.equal(content, _bytes(copies[name]))}
    return sorted((tensors.keys() | copies.keys()) - same)


def fingerprint(module: nn.Module) -> str:
    """Return one hash of all parameters and buffers, as 16 hexadecimal digits."""
    total = hashlib.blake2b(digest_size=8)
    for name, digest in sorted(tensor_digests(module).items()):
        total.update(name.encode() + digest)
    return total.hexdigest()
