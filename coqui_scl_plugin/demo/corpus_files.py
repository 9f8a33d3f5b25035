"""Speech of the demo: the bundled corpus, or any folder in Coqui's `coqui` csv format."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import soundfile
import torch
from torch import Tensor
from TTS.config.shared_configs import BaseDatasetConfig
from TTS.tts.datasets.formatters import coqui

from coqui_scl_plugin.errors import ConfigError

Sample = dict[str, Any]

BUNDLED = Path(__file__).parent / "corpus"
_META = "metadata.csv"
_BEGINNING_SECONDS = 5.0


def dataset_config(folder: Path) -> BaseDatasetConfig:
    """Return Coqui's dataset entry for a folder."""
    return BaseDatasetConfig(
        formatter="coqui", dataset_name="demo", path=str(folder), meta_file_train=_META, language="en"
    )


def load_samples(folder: Path) -> list[Sample]:
    """List the samples of a folder, as Coqui's loader does.

    Raises:
        ConfigError: metadata.csv is missing or not in the `coqui` format, or there are fewer than two speakers.
    """
    meta = folder / _META
    if not meta.is_file():
        raise ConfigError(f"--data {folder}: {meta} does not exist. It must list audio_file|text|speaker_name.")
    header = meta.read_text(encoding="utf-8").partition("\n")[0].strip().split("|")
    if missing := {"audio_file", "text", "speaker_name"} - set(header):
        raise ConfigError(
            f"{meta}: the first line lacks {', '.join(sorted(missing))}; it must name audio_file|text|speaker_name."
        )
    samples = coqui(str(folder), _META)
    for sample in samples:
        name = Path(sample["audio_file"]).relative_to(folder).with_suffix("")
        sample.update(language="en", audio_unique_name=f"demo#{name}")
    if len({sample["speaker_name"] for sample in samples}) < 2:
        raise ConfigError(f"--data {folder}: needs at least two speakers with audio.")
    return samples


def sample_rate(samples: list[Sample]) -> int:
    """Return the sample rate of all files, in Hz. Raises ConfigError if they differ."""
    rates = {soundfile.info(sample["audio_file"]).samplerate: sample["audio_file"] for sample in samples}
    if len(rates) > 1:
        found = ", ".join(f"{rate} Hz ({file})" for rate, file in sorted(rates.items()))
        raise ConfigError(f"All audio must have one sample rate, found {found}. Resample it first.")
    return int(next(iter(rates)))


def split(samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Split samples into training and held-out ones: the last fifth of each speaker by file name, at least one.

    Raises:
        ConfigError: a speaker has only one recording.
    """
    by_speaker: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda s: str(s["audio_file"])):
        by_speaker[sample["speaker_name"]].append(sample)
    train, held_out = [], []
    for speaker, own in by_speaker.items():
        if len(own) < 2:
            raise ConfigError(
                f"The speaker {speaker!r} has only one recording; two are needed, one to train on and one to hold out."
            )
        count = max(1, len(own) // 5)
        train += own[:-count]
        held_out += own[-count:]
    return train, held_out


@dataclass(frozen=True)
class Corpus:
    """A folder of speech, split into training and held-out samples."""

    folder: Path
    rate: int
    train: list[Sample]
    held_out: list[Sample]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder. Raises ConfigError if it cannot be used."""
        samples = load_samples(folder)
        return cls(folder, sample_rate(samples), *split(samples))

    @property
    def speakers(self) -> list[str]:
        """Names of the speakers, sorted."""
        return sorted({sample["speaker_name"] for sample in self.held_out})

    @property
    def shortest(self) -> float:
        """Length of the shortest recording, in seconds."""
        return min(soundfile.info(sample["audio_file"]).duration for sample in (*self.train, *self.held_out))


def load_beginning(sample: Sample) -> Tensor:
    """Load the first five seconds of a recording, `[T]`, float32 in [-1, 1]: more would only cost time."""
    frames = int(_BEGINNING_SECONDS * soundfile.info(sample["audio_file"]).samplerate)
    waveform, _ = soundfile.read(sample["audio_file"], frames=frames, dtype="float32")
    return torch.from_numpy(waveform)
