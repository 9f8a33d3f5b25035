"""The recordings of a data set: their files and speakers, and stamps that reveal a changed file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import soundfile
import torch
import torchaudio
from torch import Tensor

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.references.audio_header import identity_of, read_audio_header


class Stamp(NamedTuple):
    """Size and modification time of a file, which tell it from a changed one."""

    size: int
    """Bytes."""
    mtime: int
    """Nanoseconds."""


@dataclass(frozen=True)
class Recording:
    """A file of real speech of one speaker."""

    name: str
    """Unique in the data set: Coqui's `audio_unique_name`."""
    path: Path
    speaker: str
    held_out: bool = False
    """Whether it is in the evaluation set; it then represents its speaker only if no training recording does."""

    @property
    def stamp(self) -> Stamp:
        """The current stamp of the file. Raises ConfigError if the file cannot be read."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise ConfigError(f"The recording {self.path} of the data set cannot be read: {error.strerror}.") from error
        return Stamp(status.st_size, status.st_mtime_ns)

    @property
    def seconds(self) -> float:
        """The length. Raises ConfigError if the file is not readable audio or is empty."""
        try:
            seconds = read_audio_header(str(self.path)).seconds
        except soundfile.SoundFileError:
            waveform, rate = self.load()
            seconds = len(waveform) / rate
        if seconds == 0.0:
            raise ConfigError(f"The recording {self.path} of the data set is empty: record it again or leave it out.")
        return seconds

    def load(self) -> tuple[Tensor, int]:
        """Return the waveform `[T]`, float32 in [-1, 1], averaged over channels, and its rate in Hz.

        Raises:
            ConfigError: the file is not readable audio.
        """
        try:
            samples, rate = soundfile.read(self.path, dtype="float32", always_2d=True)
            return torch.from_numpy(samples).mean(dim=1), int(rate)
        except (soundfile.SoundFileError, ValueError):  # another format, or a header without the length
            return self._load_as_coqui()

    def _load_as_coqui(self) -> tuple[Tensor, int]:
        try:
            waveform, rate = torchaudio.load(str(self.path))
        except (RuntimeError, OSError, ValueError, ImportError) as error:
            raise ConfigError(f"The recording {self.path} of the data set is not readable audio: {error}") from error
        return waveform.mean(dim=0), int(rate)


Kind = TypeVar("Kind", bound=Recording)


def by_file(recordings: Iterable[Kind]) -> list[list[Kind]]:
    """Group the recordings that are one file under several names, such as links, in the order of the first of each.

    A file that cannot be looked up is a group of its own.
    """
    groups: dict[object, list[Kind]] = {}
    for recording in recordings:
        groups.setdefault(identity_of(recording.path) or id(recording), []).append(recording)
    return list(groups.values())


def recordings_of(
    train_samples: Iterable[Mapping[str, Any]], eval_samples: Iterable[Mapping[str, Any]] = ()
) -> list[Recording]:
    """Return the recordings of Coqui's samples, each once, sorted by name; one in both sets is not held out."""
    recordings: dict[str, Recording] = {}
    for held_out, samples in ((True, eval_samples), (False, train_samples)):
        for sample in samples:
            name = sample["audio_unique_name"]
            recordings[name] = Recording(name, Path(sample["audio_file"]), sample["speaker_name"], held_out)
    return [recordings[name] for name in sorted(recordings)]
