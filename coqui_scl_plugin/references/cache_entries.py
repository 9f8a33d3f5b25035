"""The entries of a reference cache as its file lists them: what makes one sound, and its checksum."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from coqui_scl_plugin.references.recordings import Stamp

Entry = tuple[Stamp, Tensor]
"""The stamp of a file, and its embedding `[D]`."""
_LISTS: Mapping[str, type] = {"names": str, "sizes": int, "mtimes": int}


def checksum(name: str, stamp: Stamp, embedding: Tensor) -> str:
    """Return the checksum of an entry: 16 hexadecimal digits, over its name, stamp and every bit of its embedding."""
    digest = hashlib.blake2b(f"{name}\0{stamp.size}\0{stamp.mtime}\0".encode("utf-8", "surrogatepass"), digest_size=8)
    digest.update(embedding.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def sound_entries(listing: Any, tensor: Tensor | None) -> tuple[dict[str, Entry], list[str]]:
    """Return the sound entries of an encoder by name, and for each other one what is wrong with it.

    Files of earlier versions list no checksums; everything else is checked in them too.

    Args:
        listing: What the metadata lists: `names`, `sizes`, `mtimes` and `checksums`, of one length each.
        tensor: The embeddings `[N, D]`; None if the file has none for this encoder.
    """
    names = listing.get("names") if isinstance(listing, Mapping) else None
    number = len(tensor) if tensor is not None and tensor.ndim else len(names) if isinstance(names, list) else 1
    if (wrong := _wrong_with_all(listing, tensor)) is not None or tensor is None:
        return {}, [wrong or ""] * max(1, number)
    stamps = list(map(Stamp, listing["sizes"], listing["mtimes"]))
    sums = listing.get("checksums") or [None] * number
    finite, found = tensor.isfinite().all(dim=1).tolist(), tensor.bool().any(dim=1).tolist()
    sound, reasons = {}, []
    for name, stamp, row, is_finite, is_some, expected in zip(
        listing["names"], stamps, tensor, finite, found, sums, strict=True
    ):
        if not is_finite:
            reasons.append("not finite")
        elif not is_some:
            reasons.append("all 0")
        elif expected is not None and expected != checksum(name, stamp, row):
            reasons.append("another checksum")
        else:
            sound[name] = (stamp, row)
    return sound, reasons


def _wrong_with_all(listing: Any, tensor: Tensor | None) -> str | None:
    """Return what is wrong with all entries of an encoder; None if each may be sound."""
    if tensor is None:
        return "no tensor"
    if tensor.dtype != torch.float32 or tensor.ndim != 2 or not tensor.shape[1]:
        return f"{tensor.dtype} {list(tensor.shape)} in place of float32 [N, D]"
    if not isinstance(listing, Mapping):
        return "no list of recordings"
    lists = {**_LISTS, "checksums": str} if "checksums" in listing else _LISTS
    for key, kind in lists.items():
        values = listing.get(key)
        if not isinstance(values, list) or any(type(value) is not kind for value in values):
            return f"no list of {key}"
        if len(values) != len(tensor):
            return f"{len(values)} {key} for {len(tensor)} rows"
    return None if len(set(listing["names"])) == len(tensor) else "a recording listed twice"
