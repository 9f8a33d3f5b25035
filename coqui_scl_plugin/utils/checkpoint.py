"""Files of weights, as `torch.save` writes them and as Coqui's trainer fills them."""

import errno
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

_Value = TypeVar("_Value")

_CHUNK = 1 << 20
_REFUSED = re.compile(r"(?:GLOBAL|Unsupported (?:global|class))\s+`?([A-Za-z_][\w.]*)")
_REASON = re.compile(r"WeightsUnpickler error:\s*(.+)")
_MAX_REASON = 100
_NO_CODE = "Nothing in it was run"
_BEGINNINGS = {
    b"PK": "cut off or damaged: copy or download it again",
    b"<": "a web page: the download has failed",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file itself",
}
"""What a file is that begins in this way."""
_WEIGHT_NORM = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}
"""Former names of tensors, under which torch still loads them."""


def read_checkpoint(path: str) -> Any:
    """Read a local file onto the CPU without running code in it; tensors are loaded from disk when they are used."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path) or None)


def _is_zip(path: str) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # which this function of all raises where the end of a file is damaged
        return False


def why_unreadable(path: str, error: Exception) -> str:
    """Say what is wrong with a file that `read_checkpoint` cannot read, as the end of the sentence "It is …"."""
    if (
        isinstance(error, OSError) and error.strerror and error.errno != errno.EINVAL
    ):  # of a place that a cut file lacks
        return f"out of reach: {error.strerror}"
    if (kind := _kind_of_archive(path) if _is_zip(path) else _kind_of_file(Path(path))) is not None:
        return kind
    text = str(error)
    if refused := _REFUSED.search(text):
        return f"not weights alone: it holds an object of {refused[1][:100]}, which takes code to load. {_NO_CODE}"
    reason = found[1] if (found := _REASON.search(text)) else text.strip().partition("\n")[0]
    return f"damaged, or of another kind ({reason.rstrip('.')[:_MAX_REASON] or type(error).__name__})"


def _kind_of_archive(path: str) -> str | None:
    if (part := damaged_part(path)) is not None:
        return f"damaged: the checksum of its part {part[:_MAX_REASON]!r} is wrong. Copy or download it again"
    with zipfile.ZipFile(path) as archive:
        names = [Path(name).name for name in archive.namelist()]
    if "constants.pkl" in names:
        return "a TorchScript file, a program with weights"
    return None if "data.pkl" in names else "a zip archive of something else than weights"


def _kind_of_file(file: Path) -> str | None:
    with file.open("rb") as content:
        start = content.read(512)
    if not start:
        return "an empty file"
    if file.suffix == ".safetensors" or start[8:9] == b"{":
        return "a safetensors file, which has weights alone"
    for beginning, kind in _BEGINNINGS.items():
        if start.lstrip().startswith(beginning):
            return kind
    return "a text file" if start.decode("latin-1").replace("\n", " ").isprintable() else None


def damaged_part(path: str) -> str | None:
    """Return the first part of a file whose checksum is wrong; None if there is none, or none has a checksum.

    torch reads a file without comparing checksums, and can write one without them.
    """
    if not _is_zip(path):
        with Path(path).open("rb") as content:  # torch may read a file whose directory is damaged
            return "directory" if content.read(4) == b"PK\x03\x04" else None
    try:
        with zipfile.ZipFile(path) as archive:
            stored = [
                part for part in archive.infolist() if part.file_size and part.compress_type == zipfile.ZIP_STORED
            ]
            wrong = [part.filename for part in stored if not _is_whole(archive, part)]
    except Exception:  # noqa: BLE001  # zipfile trusts the bytes of a directory
        return "directory"
    return wrong[0] if wrong and len(wrong) < len(stored) else None


def _is_whole(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(part) as content:
            while content.read(_CHUNK):
                pass
    except Exception:  # noqa: BLE001  # as above
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
