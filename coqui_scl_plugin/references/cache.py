"""The file that caches embeddings, so that no encoder embeds the same recording twice."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.references.cache_entries import checksum, sound_entries
from coqui_scl_plugin.references.recordings import Recording, Stamp
from coqui_scl_plugin.utils.atomic import replacing
from coqui_scl_plugin.utils.fingerprint import fingerprint
from coqui_scl_plugin.utils.locked import locked
from coqui_scl_plugin.utils.shown import shown

logger = logging.getLogger(__name__)

_METADATA = "speaker_references"
_FORMAT = 1


def encoder_key(encoder: SegmentEncoder) -> str:
    """Return the key of an encoder's entries: its class, and a hash of everything that its embeddings depend on.

    The hash covers every bit of its weights and buffers, and every plain setting (number, string, boolean) of its
    modules.
    """
    settings = hashlib.blake2b(fingerprint(encoder).encode(), digest_size=8)
    for part, module in encoder.named_modules():
        for name, value in sorted(vars(module).items()):
            if isinstance(value, bool | int | float | str) and name != "training" and not name.startswith("_"):
                settings.update(f"{part}.{name}={value!r};".encode())
    return f"{type(encoder.encoder).__qualname__}-{settings.hexdigest()}"


class ReferenceCache:
    """Embeddings by encoder and recording, in memory and, if a path is given, in a safetensors file.

    The file holds one tensor `[N, D]` for each encoder, its rows sorted by name, and in its metadata the names, sizes
    and modification times of the embedded files, and a checksum of each row with these. The same content gives the same
    bytes. What a file holds is checked when it is read, and a bad entry is as good as none.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Create an empty cache; `load` reads one from a file."""
        self.path = path
        self._entries: dict[str, dict[str, tuple[Stamp, Tensor]]] = {}
        self._own: set[tuple[str, str]] = set()
        """Keys and names of the entries that this process put here."""
        self._state: tuple[int, int, int] | None = None
        """What tells whether the file is the one that was read or written last; None if it was neither."""

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """Read the file, if there is one.

        Raises:
            ConfigError: the file is not a readable reference cache. It is left as it is.
        """
        cache = cls(path)
        if path is not None:
            try:
                if not path.exists():
                    return cache
                state = _state_of(path)
                with safetensors.safe_open(path, "pt") as file:
                    header = json.loads((file.metadata() or {})[_METADATA])
                    # of the file that is open, which another run may replace meanwhile
                    cache._fill(header, {key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
                cache._state = state
            except (safetensors.SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
                msg = (
                    f"scl.reference.cache = {shown(str(path))}: this file is not a readable reference cache of this "
                    f"version ({type(error).__name__}: {error}). Name another file, or delete this one to compute it "
                    "again."
                )
                raise ConfigError(msg) from error
        return cache

    def _fill(self, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        if header["format"] != _FORMAT:
            raise ValueError(f"format {header['format']}, expected {_FORMAT}")
        left_out: list[str] = []
        for key, listing in header["encoders"].items():
            sound, reasons = sound_entries(listing, tensors.get(key))
            left_out += reasons
            if sound:
                self._entries[key] = {name: (stamp, row.clone()) for name, (stamp, row) in sound.items()}
        if left_out:
            causes = ", ".join(f"{number} ({cause})" for cause, number in Counter(left_out).most_common())
            logger.warning(
                "scl.reference.cache = %s: some embeddings in this file cannot be used, and are computed again: %s.",
                shown(str(self.path)), causes,
            )  # fmt: skip

    def keep_width(self, key: str, width: int | None) -> None:
        """Drop the entries of an encoder that are not as wide as its embeddings; None: any width will do."""
        entries = self._entries.get(key, {})
        wrong = [name for name, (_, row) in entries.items() if width is not None and len(row) != width]
        if wrong:
            logger.warning(
                "%s: %d embeddings of %s have another width than the encoder's %d, and are computed again.",
                f"scl.reference.cache = {shown(str(self.path))}", len(wrong), key, width,
            )  # fmt: skip
            self._entries[key] = {name: entry for name, entry in entries.items() if name not in set(wrong)}

    def get(self, key: str, recording: Recording) -> Tensor | None:
        """Return the embedding `[D]`; None if there is none or the file has changed since."""
        stamp, embedding = self._entries.get(key, {}).get(recording.name, (None, None))
        return embedding if stamp == recording.stamp else None

    def put(self, key: str, name: str, stamp: Stamp, embedding: Tensor) -> None:
        """Store the embedding `[D]` of a file, with the stamp it had when it was read."""
        self._entries.setdefault(key, {})[name] = (stamp, embedding.detach().float().cpu().clone())
        self._own.add((key, name))

    def save(self) -> None:
        """Write the file under a temporary name, then rename it. Without a path, do nothing.

        What another process has saved to the file meanwhile is kept.

        Raises:
            ConfigError: the file cannot be written, or is another's by now.
        """
        if self.path is None:
            return
        try:
            with locked(self.path):
                if _state_of(self.path) != self._state:
                    self._take_over(type(self).load(self.path))
                with replacing(self.path) as temporary:
                    temporary.write_bytes(self._content())
                self._state = _state_of(self.path)
        except OSError as error:
            raise ConfigError(f"scl.reference.cache = {shown(str(self.path))}: cannot be written: {error}.") from error

    def _take_over(self, other: "ReferenceCache") -> None:
        """Take the entries of another cache but those that this process put here itself."""
        for key, entries in other._entries.items():
            for name, entry in entries.items():
                if (key, name) not in self._own:
                    self._entries.setdefault(key, {})[name] = entry

    def _content(self) -> bytes:
        """Return the content of the file."""
        listings, tensors = {}, {}
        for key, entries in self._entries.items():
            if not entries:
                continue
            names = sorted(entries)
            stamps = [entries[name][0] for name in names]
            tensors[key] = torch.stack([entries[name][1] for name in names])
            listings[key] = {
                "names": names,
                "sizes": [stamp.size for stamp in stamps],
                "mtimes": [stamp.mtime for stamp in stamps],
                "checksums": [checksum(name, *entries[name]) for name in names],
            }
        header = json.dumps({"format": _FORMAT, "encoders": listings}, sort_keys=True)
        return save(tensors, {_METADATA: header})


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """Return what changes whenever a file is replaced; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
