"""The headers of audio files: each is read once in a process, unless the file changes."""

import os
from pathlib import Path
from typing import NamedTuple

import soundfile


class AudioHeader(NamedTuple):
    """What soundfile reads in the header of a file."""

    frames: int
    rate: int
    """Hz."""
    channels: int
    format: str
    """The container, such as `WAV`."""
    subtype: str
    """The format of the samples, such as `PCM_16`."""

    @property
    def seconds(self) -> float:
        """The length."""
        return self.frames / self.rate if self.rate else 0.0


_known: dict[str, tuple[tuple[int, ...], AudioHeader]] = {}
"""By path: the identity of the file when it was read, and its header."""


def read_audio_header(path: str) -> AudioHeader:
    """Read the header of a file, or return what was read before if the file is as it was.

    Raises:
        soundfile.SoundFileError: there is no such file, or soundfile does not know its format.
    """
    identity = identity_of(path)
    known = _known.get(path)
    if known is not None and known[0] == identity:
        return known[1]
    info = soundfile.info(path)
    header = AudioHeader(info.frames, info.samplerate, info.channels, info.format, info.subtype)
    if identity is not None:
        _known[path] = (identity, header)
    return header


def identity_of(path: str | Path) -> tuple[int, ...] | None:
    """Return device, inode, size and modification time of a file, which tell it from all others; None if there is none.

    Size and time are for disks that know no inodes.
    """
    try:
        found = os.stat(path)  # noqa: PTH116  # quicker than Path's
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
