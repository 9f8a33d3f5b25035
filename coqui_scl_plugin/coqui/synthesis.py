"""Synthesis of a run's held-out recordings: spoken, reconstructed or converted by its model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from coqui_scl_plugin.coqui.run_folder import TrainedRun, read_evaluation_set
from coqui_scl_plugin.coqui.samples import Samples, list_all_samples, list_samples
from coqui_scl_plugin.coqui.vits_audio import convert_voice, reconstruct, speak, speaker_conditioning, spectrogram_for
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.evaluation_set import (
    EvaluationSet,
    SpokenRecording,
    SyntheticRecording,
    first_of_each_speaker,
)
from coqui_scl_plugin.references.recordings import Recording, recordings_of
from coqui_scl_plugin.utils.atomic import replacing_folder
from coqui_scl_plugin.utils.fingerprint import fingerprint
from coqui_scl_plugin.utils.wav_file import write_wav

Method = Literal["tts", "reconstruction", "conversion"]
METHODS: tuple[Method, ...] = get_args(Method)
_MAX_REAL_RECORDINGS = 20
"""Real recordings of each speaker to compare with, at most; held-out ones come first."""


def _language(sample: Mapping[str, str]) -> str:
    return sample.get("language") or ""


def _spoken(recording: Recording, sample: Mapping[str, str]) -> SpokenRecording:
    return SpokenRecording(
        recording.name, recording.path, recording.speaker, recording.held_out,
        text=sample["text"], language=_language(sample),
    )  # fmt: skip


# --- one recording ----------------------------------------------------------------------------------------------------


def _speak(run: TrainedRun, sample: dict[str, str], speaker: str) -> Tensor:
    language = sample.get("language") if run.model.language_manager.num_languages > 1 else None
    try:
        return speak(run.model, sample["text"], speaker, language)
    except (RuntimeError, ValueError, IndexError, KeyError) as error:
        raise ConfigError(
            f"{run.label} cannot speak {sample['text']!r} as {speaker!r} ({sample['audio_file']}): {error}"
        ) from error


def _next_speaker(speaker: str, speakers: Sequence[str]) -> str:
    return speakers[(speakers.index(speaker) + 1) % len(speakers)]


def _synthesise(run: TrainedRun, method: Method, recording: Recording, sample: dict[str, str], speaker: str) -> Tensor:
    """Return `[T]`: the sentence spoken, or the recording reconstructed or converted, in the speaker's voice."""
    if method == "tts":
        return _speak(run, sample, speaker)
    spec = spectrogram_for(run.model, *recording.load())
    source = speaker_conditioning(run.model, recording.speaker)
    if method == "reconstruction":
        return reconstruct(run.model, spec, source)
    return convert_voice(run.model, spec, source, speaker_conditioning(run.model, speaker))


# --- a run ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunRecordings:
    """The recordings of a run's datasets, of which some were held out."""

    all: list[Recording]
    samples: dict[str, dict[str, str]]
    """Coqui's samples, by name of the recording."""

    @property
    def held_out(self) -> list[Recording]:
        """Those with which the run was evaluated during training."""
        return [recording for recording in self.all if recording.held_out]


def _samples_of(run: TrainedRun) -> tuple[Samples, Samples]:
    """Return the samples that the run trained on, and those that it was evaluated on during training."""
    kept = read_evaluation_set(run.folder)
    if kept is None:
        return list_samples(run.config)
    samples = list_all_samples(run.config)
    evaluation = [sample for sample in samples if sample["audio_unique_name"] in kept]
    if not evaluation:
        raise ConfigError(
            f"{run.folder}: none of the {len(kept)} recordings that the run was evaluated on is among the "
            f"{len(samples)} recordings of its datasets. Name their folder, e.g. --coqpit.datasets.0.path DIR."
        )
    return [sample for sample in samples if sample["audio_unique_name"] not in kept], evaluation


def list_recordings(run: TrainedRun) -> RunRecordings:
    """List the recordings of a run's datasets. Raises ConfigError if they cannot be found."""
    train, evaluation = _samples_of(run)
    return RunRecordings(
        recordings_of(train, evaluation), {sample["audio_unique_name"]: sample for sample in (*train, *evaluation)}
    )


def evaluation_set_from_run(
    run: TrainedRun, method: Method, sentences: int, seed: int, out: Path, label: str
) -> EvaluationSet:
    """Synthesise the first held-out sentences of each speaker, `sentences` at most, as `synthesise_recordings` does."""
    recordings = list_recordings(run)
    held_out = first_of_each_speaker(recordings.held_out, sentences)
    return synthesise_recordings(run, recordings, held_out, method, seed, out, label)


def synthesise_recordings(
    run: TrainedRun,
    recordings: RunRecordings,
    held_out: Sequence[Recording],
    method: Method,
    seed: int,
    out: Path,
    label: str,
) -> EvaluationSet:
    """Synthesise the sentences of held-out recordings into wav files; shows a progress bar.

    Args:
        run: The run and its model.
        recordings: All of the run's recordings, from which real speech is taken, too.
        held_out: Those to synthesise.
        method: `tts` speaks the text; `reconstruction` generates the recording anew in its own voice; `conversion`, in
            the next speaker's voice.
        seed: Seed of random draws; each sentence has its own.
        out: Folder of the wav files, which replace all of its content.
        label: Label of the evaluation set.

    Raises:
        ConfigError: a sentence cannot be spoken.
    """
    samples, chosen = recordings.samples, {recording.name for recording in held_out}
    ordered = sorted(recordings.all, key=lambda r: (r.name not in chosen, r.name))
    real = first_of_each_speaker(ordered, _MAX_REAL_RECORDINGS)
    speakers, synthetic = sorted({recording.speaker for recording in held_out}), []
    if method == "conversion" and len(speakers) < 2:
        raise ConfigError(
            f"--synthesis conversion: {run.label} has only one held-out speaker, so there is nobody to convert to."
        )
    with replacing_folder(out) as temporary:
        for index, recording in enumerate(tqdm(held_out, desc=f"{label}, synthesis", unit="sentence", mininterval=1.0)):
            torch.manual_seed(seed + index)
            converts, sample = method == "conversion", samples[recording.name]
            speaker = _next_speaker(recording.speaker, speakers) if converts else recording.speaker
            waveform = _synthesise(run, method, recording, sample, speaker).cpu().clamp(-1, 1)
            file = f"{index:03d}-{speaker}-{recording.path.stem}.wav".replace("/", "_")  # may occur in speakers' names
            # samples that are not finite become silence, which the evaluation reports
            write_wav(temporary / file, torch.nan_to_num(waveform), run.config.audio.sample_rate)
            reference = None if converts else recording.name
            made = SyntheticRecording(
                Path(file).stem, out / file, speaker, text=sample["text"], language=_language(sample),
                reference=reference,
            )  # fmt: skip
            synthetic.append(made)
    source = {
        "run": str(run.folder), "checkpoint": run.checkpoint.name, "model_fingerprint": fingerprint(run.model),
        "synthesis": method,
    }  # fmt: skip
    return EvaluationSet(label, source, [_spoken(recording, samples[recording.name]) for recording in real], synthetic)
