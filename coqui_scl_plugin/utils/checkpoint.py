"""Files of weights, as `torch.save` writes them and as Coqui's trainer fills them."""

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

_Value = TypeVar("_Value")

_CHUNK = 1 << 20
_REFUSED = re.compile(r"(?:GLOBAL|Unsupported (?:global|class|operand)\S*)\s+`?([\w.]+)")
_NO_CODE = "Nothing in it was run"
_WEIGHT_NORM = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}
"""Former names of tensors, under which torch still loads them."""


def read_checkpoint(path: str) -> Any:
    """Read a local file onto the CPU without running code in it; tensors are loaded from disk when they are used."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)


def why_unreadable(path: str, error: Exception) -> str:
    """Say what is wrong with a file that `read_checkpoint` cannot read, as the end of the sentence "It is …"."""
    file = Path(path)
    with file.open("rb") as content:
        start = content.read(512)
    if not start:
        return "an empty file"
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            return "a TorchScript file, a program with weights"
        if not any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
            return "a zip archive of something else than weights"
    elif start.startswith(b"PK"):
        return "cut off or damaged: copy or download it again"
    elif file.suffix == ".safetensors" or start[8:9] == b"{":
        return "a safetensors file, which has weights alone"
    text = str(error)
    if refused := _REFUSED.search(text):
        return f"not weights alone: it holds an object of {refused[1][:100]}, which takes code to load. {_NO_CODE}"
    first = text.strip().partition("\n")[0].rstrip(".")
    return f"damaged, or of another kind ({first[:150] or type(error).__name__})"


def damaged_part(path: str) -> str | None:
    """Return the first part of a file whose checksum is wrong; None if there is none, or none has a checksum.

    torch reads a file without comparing checksums, and can write one without them.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        parts = [part for part in archive.infolist() if part.file_size]
        wrong = [part.filename for part in parts if not _is_whole(archive, part)]
    return wrong[0] if wrong and len(wrong) < len(parts) else None


def _is_whole(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(part) as content:
            while content.read(_CHUNK):
                pass
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError):
        return False
    return True


def with_present_names(state: Mapping[str, _Value]) -> dict[str, _Value]:
    """Return a state dict in which the tensors of former weight norms have their present names, too.

    >>> sorted(with_present_names({"conv.weight_g": 1, "conv.bias": 2}))
    ['conv.bias', 'conv.parametrizations.weight.original0', 'conv.weight_g']
    """
    present = {}
    for name, value in state.items():
        for ending, now in _WEIGHT_NORM.items():
            if name.endswith(ending):
                present[name.removesuffix(ending) + now] = value
    return {**state, **present}
