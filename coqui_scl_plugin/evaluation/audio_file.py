"""Files of an evaluation, any of which may be damaged or no audio at all, without an end of the evaluation."""

import contextlib
import errno
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

import soundfile
import torch
from torch import Tensor

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.shown import shorten

NOT_UTF_8 = "the name is not UTF-8; rename it"
NO_SUCH_FILE = "there is no such file"
_MAX_SECONDS = 3600.0
_MAX_VALUES = 2**29
"""Samples of all channels: 2 GiB as they are decoded."""
_COMPLETE = 0.95
"""Share of the announced length below which a file counts as cut off; some formats announce an estimate."""
_UNKNOWN_LENGTH = 0x7FFF0000
"""Programs that write to a pipe announce this many bytes or more, since they do not know how many will come."""

_ENDLESS = 2**62
"""Frames that libsndfile reports of a file whose header does not know them."""


class Heard(NamedTuple):
    """What a file holds."""

    waveform: Tensor
    """`[T]`, averaged over channels; without samples if the file cannot be read."""
    rate: int
    """Hz."""
    problem: str | None
    """What is wrong with the file: "is" can stand before it. None if it is sound; samples are not inspected."""
    is_read: bool
    """Whether the file could be read."""


def unusable_file(path: Path) -> str | None:
    """Say why a path cannot be opened as a file, such as "there is no such file"; None if it can.

    Pipes and devices are not opened, which could wait or read forever.
    """
    try:
        mode = path.stat().st_mode
    except ValueError:  # NUL, or a surrogate that stands for no byte
        return "no file can have this name"
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            with contextlib.suppress(OSError):
                return f"a link to {shorten(path.readlink())}, which does not exist"
            return NO_SUCH_FILE
        return f"cannot be opened: {error.strerror}"
    if stat.S_ISDIR(mode):
        return "a folder, not a file"
    if not stat.S_ISREG(mode):
        return "a pipe or a device, not a file"
    if not os.access(path, os.R_OK):
        return f"cannot be opened: {os.strerror(errno.EACCES)}"
    return None


def is_text(path: Path) -> bool:
    """Tell whether the path is UTF-8, as the files of results are; a name of other bytes is not."""
    return not any("\ud800" <= letter <= "\udfff" for letter in str(path))


def read_audio(recording: Recording) -> Heard:
    """Read a recording, and say what is wrong with its file; nothing that a file holds raises an error."""
    if problem := unusable_file(recording.path):
        return _unread(f"not readable: {problem}")
    try:
        if recording.path.stat().st_size == 0:  # also those of /proc, of which some never end
            return Heard(torch.zeros(0), 1, "empty", is_read=True)
        announced = _announced(recording.path)
        if announced is not None and (problem := announced.excess()):
            return _unread(problem)
        waveform, rate = recording.load()
    except MemoryError:
        return _unread("too long for the memory of this machine: cut it")
    except (ConfigError, OSError, RuntimeError, ValueError, TypeError) as error:
        return _unread(f"not readable audio ({shorten(_first_error(error)).removesuffix('.')})")
    if len(waveform) > _MAX_SECONDS * rate:
        return _unread(f"longer than {_MAX_SECONDS:g} s: cut it")
    cut = announced.cut_off(len(waveform)) if announced is not None and len(waveform) else None
    return Heard(waveform, rate, cut, is_read=True)


def announced_seconds(path: Path) -> float:
    """Return the length that the header of a file announces; 0 if there is none, or the file cannot be opened."""
    try:
        if unusable_file(path) or path.stat().st_size == 0:
            return 0.0
        announced = _announced(path)
    except (OSError, RuntimeError):  # what is wrong with the file is said when it is read
        return 0.0
    return announced.frames / announced.rate if announced is not None and announced.rate else 0.0


def _first_error(error: BaseException) -> BaseException:
    """Return soundfile's error where another reader was tried after it, whose error names its own source files."""
    chain: list[BaseException] = [error]
    while earlier := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(earlier)
    return next((one for one in reversed(chain) if isinstance(one, soundfile.SoundFileError)), error)


def _unread(problem: str) -> Heard:
    return Heard(torch.zeros(0), 1, problem, is_read=False)


class _Announced(NamedTuple):
    """What the header of a file says."""

    frames: int
    rate: int
    channels: int
    ends_early: bool

    def excess(self) -> str | None:
        """Say that the file is too long to be decoded; None if it is not."""
        if self.frames > _MAX_SECONDS * self.rate:
            return f"longer than {_MAX_SECONDS:g} s ({self.frames / self.rate:g} s by its header): cut it"
        if self.frames * self.channels > _MAX_VALUES:
            return f"too long ({self.frames} samples of {self.channels} channels): cut it"
        return None

    def cut_off(self, frames: int) -> str | None:
        """Say that fewer frames were there than the header announces; None if all are there."""
        if self.ends_early:
            return "cut off: its last part is missing"
        if frames < _COMPLETE * self.frames:
            return f"cut off: {frames / self.rate:.2f} s of {self.frames / self.rate:.2f} s are there"
        return None


def _announced(path: Path) -> _Announced | None:
    """Read the header of a file; None if soundfile does not know its format."""
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, ValueError):
        return None
    frames = info.frames if info.frames < _ENDLESS else 0
    if found := re.search(r"^data : (\d+) \(should be (\d+)\)", info.extra_info, re.MULTILINE):
        said, there = int(found[1]), int(found[2])
        if there < said < _UNKNOWN_LENGTH and there > 0:
            frames = round(frames * said / there)
    early = "lacks an end-of-stream bit" in info.extra_info
    return _Announced(frames, int(info.samplerate), int(info.channels), early)
