"""Real speech as the ablation's judges find it: measured once, and kept on disk for all models."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from benchmarks.ablation.bench import Bench, BySpeaker, mean_by_speaker
from benchmarks.ablation.voice_measures import DISTANCES, Voice, distances, voice_of
from coqui_scl_plugin.demo.corpus_files import Corpus, Sample, load_beginning
from coqui_scl_plugin.evaluation.evaluation_set import SpokenRecording
from coqui_scl_plugin.evaluation.verification import EmbeddedRecording, embed_recordings
from coqui_scl_plugin.utils.atomic import replacing

_FORMAT = 1


def real_recordings(corpus: Corpus) -> list[SpokenRecording]:
    """Return all recordings of the corpus, the held-out ones first."""
    return [_recording(sample) for sample in (*corpus.held_out, *corpus.train)]


def _recording(sample: Sample) -> SpokenRecording:
    name, file = sample["audio_unique_name"], Path(sample["audio_file"])
    return SpokenRecording(name, file, sample["speaker_name"], text=sample["text"], language="en")


def _voices(samples: Iterable[Sample], corpus: Corpus) -> dict[str, Voice]:
    """Pool the beginnings of each speaker's recordings."""
    beginnings = [(sample["speaker_name"], load_beginning(sample).numpy()) for sample in samples]
    return {
        speaker: voice_of([waveform for own, waveform in beginnings if own == speaker], corpus.rate)
        for speaker in corpus.speakers
    }


@dataclass(frozen=True)
class RealSpeech:
    """What the judges find in real speech."""

    voices: dict[str, Voice]
    """Of the training recordings by speaker: the voices that models should have."""
    held_out: dict[str, Voice]
    """Of the held-out recordings, whose sentences the models say."""
    embedded: dict[str, EmbeddedRecording]
    """All recordings, by name."""
    quality: BySpeaker
    errors: BySpeaker | None
    """Character error rates of the held-out recordings, if a recogniser was asked."""
    asr: str | None

    @classmethod
    def measure(cls, corpus: Corpus, asr: str | None) -> Self:
        """Let all judges hear the recordings: one or two minutes of one core. Raises ConfigError."""
        bench, recordings = Bench.of_this_process(asr), real_recordings(corpus)
        held_out = recordings[: len(corpus.held_out)]
        embedded = embed_recordings(recordings, bench.encoders, None, "real speech", {})
        return cls(
            _voices(corpus.train, corpus), _voices(corpus.held_out, corpus),
            {recording.name: one for recording, one in zip(recordings, embedded, strict=True)},
            bench.quality_of(held_out), bench.errors_of(held_out) if asr else None, asr,
        )  # fmt: skip

    @classmethod
    def kept(cls, corpus: Corpus, asr: str | None, file: Path) -> Self:
        """Read what was measured before, or measure and write it if it is of other recordings or another recogniser."""
        names = [recording.name for recording in real_recordings(corpus)]
        if file.is_file():
            read = json.loads(file.read_text(encoding="utf-8"))
            if read["format"] == _FORMAT and list(read["embedded"]) == names and asr in (None, read["asr"]):
                return cls._read(read)
        found = cls.measure(corpus, asr)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(found._written()), encoding="utf-8")
        return found

    @classmethod
    def _read(cls, read: dict[str, Any]) -> Self:
        embedded = {
            name: EmbeddedRecording(
                one["seconds"], one["problem"], {alias: torch.tensor(row) for alias, row in one["embeddings"].items()}
            )
            for name, one in read["embedded"].items()
        }
        voices, held_out = (
            {speaker: Voice(**voice) for speaker, voice in read[key].items()} for key in ("voices", "held_out")
        )
        return cls(voices, held_out, embedded, read["quality"], read["errors"], read["asr"])

    def _written(self) -> dict[str, Any]:
        embedded = {
            name: {
                "seconds": one.seconds, "problem": one.problem,
                "embeddings": {alias: row.tolist() for alias, row in one.embeddings.items()},
            }
            for name, one in self.embedded.items()
        }  # fmt: skip
        voices, held_out = (
            {speaker: asdict(voice) for speaker, voice in voices.items()} for voices in (self.voices, self.held_out)
        )
        return {
            "format": _FORMAT, "voices": voices, "held_out": held_out, "embedded": embedded, "quality": self.quality,
            "errors": self.errors, "asr": self.asr,
        }  # fmt: skip

    def _to_others(self, speaker: str) -> dict[str, float | None]:
        """Return the mean distances of a speaker's held-out speech to the voices of all others."""
        far = [distances(self.held_out[speaker], voice) for other, voice in self.voices.items() if other != speaker]
        return {measure: mean_by_speaker((speaker, one[measure]) for one in far)[speaker] for measure in DISTANCES}

    def ends(self) -> dict[str, dict[str, BySpeaker]]:
        """Return the scale of the measures that are no similarity: by `same` and `other` speaker, measure and speaker.

        `same` compares held-out with training recordings of a speaker, `other` with those of each other speaker.
        """
        same: dict[str, BySpeaker] = _by_measure(
            {speaker: distances(voice, self.voices[speaker]) for speaker, voice in self.held_out.items()}
        )
        same["unvoiced"] = {speaker: voice.unvoiced for speaker, voice in self.held_out.items()}
        same["dnsmos"] = self.quality
        if self.errors is not None:
            same["cer"] = self.errors
        return {"same": same, "other": _by_measure({speaker: self._to_others(speaker) for speaker in self.held_out})}

    def voice_measures(self, made: Sequence[tuple[str, Voice]]) -> dict[str, BySpeaker]:
        """Compare synthetic voices, each with the name of its speaker, with the real ones: by measure and speaker."""
        found = _by_measure({speaker: distances(voice, self.voices[speaker]) for speaker, voice in made})
        return {**found, "unvoiced": {speaker: voice.unvoiced for speaker, voice in made}}


def _by_measure(by_speaker: dict[str, dict[str, float | None]]) -> dict[str, BySpeaker]:
    return {measure: {speaker: own[measure] for speaker, own in by_speaker.items()} for measure in DISTANCES}
