"""The headers of recordings: each file is opened once, for all checks."""

import contextlib
import os
import stat
import struct
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import soundfile
from tqdm import tqdm

from coqui_scl_plugin.references.audio_header import read_audio_header

ENDINGS = ("wav", "flac", "mp3")
"""Of the names of recordings that Coqui's data loader reads; it leaves out all others."""
_THREADS = 4
_CHUNK = 50
"""Files that a thread reads before the next one has its turn."""
_MIN_FILES_SHOWN = 2_000
"""From this number of files on, a progress bar is shown."""
_STREAMED = (0, 0xFFFFFFFF)
"""Sizes in a WAV file's header that say nothing, since it was written as a stream."""
_KINDS = (
    (0, b"version https://git-lfs", "pointers of Git LFS, not the files themselves"),
    (0, b"<", "web pages: their download has failed"),
    (4, b"ftyp", "MP4 or M4A by their content"),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska by their content"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "WMA by their content"),
    (0, b"\0\x05\x16\x07", "notes of macOS ('._' files), not recordings"),
)
"""Place and bytes by which a file is known that is no audio of its ending."""

Problem = Literal["", "gone", "folder", "unreadable", "no audio", "empty", "ending"]


@dataclass(frozen=True)
class Header:
    """What the header of a recording says."""

    path: str
    problem: Problem = ""
    """Why Coqui does not take it: it is not there, not a file, may not be read, is no audio or empty, or its ending."""
    rate: int = 0
    """Hz; 0 where it is not known, as `channels` and `frames`."""
    channels: int = 0
    frames: int = 0
    subtype: str = ""
    """How soundfile calls the format of the samples, such as `PCM_16`."""
    kind: str = ""
    """What a file is that is no audio of its ending, as far as its first bytes say."""
    is_cut: bool = False
    """Whether the header promises more than the file holds."""

    @property
    def seconds(self) -> float:
        """The length."""
        return self.frames / self.rate if self.rate else 0.0

    @property
    def ending(self) -> str:
        """The ending of the name, in lower case and with its dot."""
        return Path(self.path).suffix.lower() or "no ending"


class Headers:
    """Reads headers when they are first asked for."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self._known: dict[str, Header] = {}

    def of(self, samples: Iterable[Mapping[str, Any]]) -> list[Header]:
        """Return the header of each sample's recording, in the order of the samples."""
        paths = [str(sample["audio_file"]) for sample in samples]
        if new := [path for path in dict.fromkeys(paths) if path not in self._known]:
            self._known |= zip(new, _read_all(new), strict=True)
        return [self._known[path] for path in paths]

    def once(self, samples: Iterable[Mapping[str, Any]]) -> list[Header]:
        """Return the header of each recording once."""
        return list(dict.fromkeys(self.of(samples)))


def _read_all(paths: Sequence[str]) -> list[Header]:
    chunks = [paths[begin : begin + _CHUNK] for begin in range(0, len(paths), _CHUNK)]
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        tqdm(
            desc="Headers", total=len(paths), unit="file", mininterval=0.5, disable=len(paths) < _MIN_FILES_SHOWN
        ) as bar,
    ):
        headers: list[Header] = []
        for chunk in pool.map(lambda some: [read_header(path) for path in some], chunks):
            headers += chunk
            bar.update(len(chunk))
    return headers


def read_header(path: str) -> Header:
    """Read the header of a file, whatever it is."""
    if problem := _problem_of(path):
        return Header(path, problem)
    try:
        info = read_audio_header(path)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError):
        return _read_by_ffmpeg(path)
    accepted = path.rpartition(".")[2].lower() in ENDINGS
    found: Problem = "empty" if info.frames == 0 else "" if accepted else "ending"
    cut = info.format == "WAV" and _is_cut(path)
    return Header(path, found, info.rate, info.channels, info.frames, info.subtype, is_cut=cut)


def _problem_of(path: str) -> Problem:
    try:
        status = os.stat(path)  # noqa: PTH116  # quicker than Path's
        if not stat.S_ISREG(status.st_mode):
            return "folder"
        if not os.access(path, os.R_OK):
            return "unreadable"
        return "" if status.st_size else "empty"
    except PermissionError:
        return "unreadable"
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return "gone"


def _read_by_ffmpeg(path: str) -> Header:
    """Read the header of a format that soundfile does not know, and Coqui's data loader leaves out."""
    accepted = path.rpartition(".")[2].lower() in ENDINGS
    if accepted:
        return Header(path, "no audio", kind=_kind_of(path))
    try:
        from torchcodec.decoders import AudioDecoder  # type: ignore[attr-defined]  # takes a second, and few need it

        meta = AudioDecoder(path).metadata
        rate, channels = int(meta.sample_rate or 0), int(meta.num_channels or 0)
        frames = round(float(meta.duration_seconds_from_header or 0.0) * rate)
    except (ImportError, OSError, RuntimeError, ValueError, TypeError, AttributeError):
        return Header(path, "ending")
    return Header(path, "ending", rate, channels, frames)


def _kind_of(path: str) -> str:
    with contextlib.suppress(OSError), Path(path).open("rb") as file:
        begin = file.read(64)
        return next((kind for at, mark, kind in _KINDS if begin[at:].startswith(mark)), "")
    return ""


def _is_cut(path: str) -> bool:
    """Tell whether a WAV file ends before its header says so."""
    try:
        with Path(path).open("rb") as file:
            begin = file.read(12)
        size = struct.unpack("<I", begin[4:8])[0] if begin[:4] == b"RIFF" and len(begin) == 12 else 0
        return size not in _STREAMED and size + 8 > Path(path).stat().st_size + 1  # one byte may be padding
    except OSError:
        return False
