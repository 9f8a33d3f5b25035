"""Small inputs that people who fine-tune VITS have reported, made from real speech: what each gets wrong.

`CASES` has each one's builder by name. A builder receives an `Input` of four speakers and changes it.
"""

import csv
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile
from tiny_vits import PLAIN, SIZES
from trainer.io import save_model

from coqui_scl_plugin import SclVits, SclVitsConfig

_SECONDS = 3.0
_WORDS = 8


@dataclass
class Input:
    """Recordings with a table, and a config, in a folder; `write` puts it there once a builder has changed it."""

    folder: Path
    corpus: Path
    rows: list[list[str]] = field(default_factory=list)
    header: str = "audio_file|text|speaker_name"
    encoding: str = "utf-8"
    config: dict[str, Any] = field(default_factory=dict)
    start: Path | None = None
    """The checkpoint to start from."""

    @property
    def data(self) -> Path:
        """The folder of the recordings."""
        return self.folder / "data"

    def record(
        self, *, first: int = 0, speakers: int = 4, each: int = 5, rate: int = 16_000, channels: int = 1
    ) -> "Input":
        """Write the beginnings of recordings of some speakers, and a sound config for them."""
        self.data.mkdir(parents=True)
        with (self.corpus / "metadata.csv").open(encoding="utf-8") as file:
            table = list(csv.DictReader(file, delimiter="|"))
        names = sorted({row["speaker_name"] for row in table})[first : first + speakers]
        taken = [row for name in names for row in [r for r in table if r["speaker_name"] == name][:each]]
        self.rows = []
        for row in taken:
            audio, own = soundfile.read(self.corpus / row["audio_file"], dtype="float32")
            audio = audio[: int(_SECONDS * own)]
            if rate != own:
                audio = np.clip(librosa.resample(audio, orig_sr=own, target_sr=rate), -1, 1)
            name = f"{Path(row['audio_file']).stem}.wav"
            soundfile.write(self.data / name, audio if channels == 1 else np.stack([audio] * channels, 1), rate)
            self.rows.append([name, " ".join(row["text"].split()[:_WORDS]), row["speaker_name"]])
        self.config = _sound_config(self.data)
        return self

    def change(self, **sections: dict[str, Any]) -> None:
        """Change keys of sections of the config; `top` are those at the top level."""
        for name, keys in sections.items():
            (self.config if name == "top" else self.config[name]).update(keys)

    def write(self) -> None:
        """Write the table and the config."""
        lines = [self.header, *map("|".join, self.rows)]
        (self.data / "metadata.csv").write_text("".join(f"{line}\n" for line in lines), encoding=self.encoding)
        (self.folder / "config.json").write_text(json.dumps(self.config))

    def arguments(self) -> list[str]:
        """Return the options of `coqui-scl preflight` and `train` for this input."""
        restore = ["--restore_path", str(self.start)] if self.start is not None else []
        return ["--config_path", str(self.folder / "config.json"), *restore]


def _sound_config(data: Path) -> dict[str, Any]:
    dataset = {"formatter": "coqui", "dataset_name": "case", "path": str(data), "meta_file_train": "metadata.csv"}
    return {
        "model": "scl_vits",
        "output_path": "runs",
        "epochs": 1,
        "batch_size": 4,
        "eval_batch_size": 2,
        "eval_split_size": 4,
        "num_loader_workers": 0,
        "num_eval_loader_workers": 0,
        "text_cleaner": "basic_cleaners",
        "test_delay_epochs": 100,
        "use_speaker_embedding": True,
        "datasets": [dataset | {"language": "en"}],
        "audio": {"sample_rate": 16_000},
        "model_args": SIZES | {"spec_segment_size": 32},
        "scl": dict(PLAIN),
    }


def _checkpoint(made: Input, config: dict[str, Any], speakers: Sequence[str]) -> Path:
    """Save an untrained model with these speakers, as Coqui's trainer saves a checkpoint."""
    own = SclVitsConfig()
    own.from_dict(config)
    own.speakers = list(speakers)
    path = made.folder / "start.pth"
    save_model(own, SclVits(own), path, current_step=0, epoch=0)
    return path


def _speakers(made: Input) -> list[str]:
    return sorted({row[2] for row in made.rows})


def _lost_language(made: Input) -> None:
    made.record()
    made.start = _checkpoint(made, made.config, _speakers(made))
    made.change(
        top={"use_language_embedding": True},
        model_args={"use_language_embedding": True, "embedded_language_dim": 4},
    )


def _one_new_speaker(made: Input) -> None:
    made.record(speakers=5)
    made.start = _checkpoint(made, made.config, _speakers(made)[:4])


def _other_speakers(made: Input) -> None:
    made.record(speakers=5)
    speakers = _speakers(made)
    made.start = _checkpoint(made, made.config, speakers[:4])
    made.rows = [row for row in made.rows if row[2] != speakers[0]]


def _speakers_at_top_only(made: Input) -> None:
    made.record().change(model_args={"use_speaker_embedding": False})


def _languages_at_top_only(made: Input) -> None:
    made.record().change(top={"use_language_embedding": True})


def _one_stereo_file(made: Input) -> None:
    made.record()
    path = made.data / made.rows[7][0]
    audio, rate = soundfile.read(path)
    soundfile.write(path, np.stack([audio, audio], 1), rate)


def _stereo_at_44k(made: Input) -> None:
    made.record(rate=44_100, channels=2)


def _unpaired_quote(made: Input) -> None:
    made.record().rows[3][1] = '"he said hello'


def _pipe_in_text(made: Input) -> None:
    made.record().rows[3][1] = "hello | there"


def _missing_files(made: Input) -> None:
    for row in made.record(each=8).rows[:24]:
        (made.data / row[0]).unlink()


def _backslashes(made: Input) -> None:
    for row in made.record().rows:
        folder = made.data / row[2]
        folder.mkdir(exist_ok=True)
        (made.data / row[0]).rename(folder / row[0])
        row[0] = f"{row[2]}\\{row[0]}"


def _three_ogg(made: Input) -> None:
    for row in made.record().rows[:3]:
        audio, rate = soundfile.read(made.data / row[0])
        (made.data / row[0]).unlink()
        row[0] = f"{Path(row[0]).stem}.ogg"
        soundfile.write(made.data / row[0], audio, rate)


def _all_m4a_at_44k(made: Input) -> None:
    for row in made.record(rate=44_100).rows:
        old, new = made.data / row[0], made.data / f"{Path(row[0]).stem}.m4a"
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", old, "-c:a", "aac", new], check=True)
        old.unlink()
        row[0] = new.name


def _d_vectors(made: Input, *, beside_embedding: bool) -> None:
    made.record().change(
        top={"use_speaker_embedding": beside_embedding},
        model_args={
            "use_speaker_embedding": beside_embedding,
            "use_d_vector_file": True,
            "d_vector_file": ["absent.pth"],
            "d_vector_dim": 256,
        },
    )


def _phonemes(made: Input, **keys: str) -> None:
    made.record().change(top={"use_phonemes": True, "phoneme_language": "en-us"} | keys)


def _encoder_rate(made: Input) -> None:
    made.record(rate=44_100).change(
        audio={"sample_rate": 44_100}, model_args={"encoder_sample_rate": 16_000, "interpolate_z": True}
    )


def _sampler_attribute(made: Input) -> None:
    made.record().change(top={"use_weighted_sampler": True, "weighted_sampler_attrs": {"speaker": 1.0}})


def _language_empty(made: Input) -> None:
    made.record().change(model_args={"use_language_embedding": True, "embedded_language_dim": 4})
    made.config["datasets"][0]["language"] = ""


def _row_without_speaker(made: Input) -> None:
    del made.record().rows[3][2]


def _stock_encoder_absent(made: Input) -> None:
    made.record().change(
        top={"model": "vits"},
        model_args={
            "use_speaker_encoder_as_loss": True,
            "speaker_encoder_model_path": "absent.pth",
            "speaker_encoder_config_path": "absent.json",
        },
    )
    del made.config["scl"]


def _byte_order_mark(made: Input) -> None:
    made.record().encoding = "utf-8-sig"


def _foreign_alphabet(made: Input) -> None:
    for row in made.record().rows:
        row[1] = "привет как дела"


CASES: dict[str, Callable[[Input], None]] = {
    "lost-language": _lost_language,
    "one-new-speaker": _one_new_speaker,
    "other-speakers": _other_speakers,
    "speakers-at-top-only": _speakers_at_top_only,
    "languages-at-top-only": _languages_at_top_only,
    "both-conditionings": lambda made: _d_vectors(made, beside_embedding=True),
    "unpaired-quote": _unpaired_quote,
    "pipe-in-text": _pipe_in_text,
    "missing-files": _missing_files,
    "backslashes": _backslashes,
    "row-without-speaker": _row_without_speaker,
    "byte-order-mark": _byte_order_mark,
    "one-stereo-file": _one_stereo_file,
    "stereo-at-44k": _stereo_at_44k,
    "three-ogg": _three_ogg,
    "all-m4a-at-44k": _all_m4a_at_44k,
    "hop-length": lambda made: made.record().change(audio={"hop_length": 300}),
    "encoder-rate": _encoder_rate,
    "sampler-attribute": _sampler_attribute,
    "language-empty": _language_empty,
    "d-vector-file-absent": lambda made: _d_vectors(made, beside_embedding=False),
    "phonemizer-absent": lambda made: _phonemes(made, phonemizer="gruut"),
    "phonemes-without-cache": lambda made: _phonemes(made, phonemizer="espeak", text_cleaner="phoneme_cleaners"),
    "stock-encoder-absent": _stock_encoder_absent,
    "foreign-alphabet": _foreign_alphabet,
}
