"""The held-out sentences of a run, spoken or copied by its best model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import soundfile
import torch
from torch import Tensor
from tqdm import tqdm

from coqui_scl_plugin.coqui.run_config import Samples, list_all_samples, list_samples, read_config, resolved_config
from coqui_scl_plugin.coqui.run_folder import read_evaluation_set
from coqui_scl_plugin.coqui.vits import SclVits
from coqui_scl_plugin.coqui.vits_audio import copy_speech, spectrogram_for
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.encoders.loading.files import UNREADABLE
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SyntheticRecording, a_few_of_each
from coqui_scl_plugin.references.recordings import Recording, recordings_of
from coqui_scl_plugin.utils.atomic import replacing_folder
from coqui_scl_plugin.utils.checkpoint import read_checkpoint
from coqui_scl_plugin.utils.fingerprint import fingerprint

Method = Literal["tts", "reconstruction", "conversion"]
METHODS: tuple[Method, ...] = get_args(Method)
_ONLY_FOR_TRAINING = re.compile(r"^disc\.|speaker_encoder")
REAL_RECORDINGS = 20
"""Of each speaker, at most so many real recordings are compared with: held-out ones first."""


@dataclass(frozen=True)
class TrainedRun:
    """A run folder, with its model in eval mode."""

    folder: Path
    config: SclVitsConfig
    checkpoint: Path
    model: SclVits

    @property
    def label(self) -> str:
        """Its name in results."""
        return self.folder.resolve().name


def _number(path: Path) -> int:
    found = re.search(r"_(\d+)$", path.stem)
    return int(found.group(1)) if found else -1


def find_checkpoint(folder: Path) -> Path:
    """The best model of a run folder, or else its latest checkpoint. Raises ConfigError where there is none."""
    best = sorted(folder.glob("best_model*.pth"), key=_number)
    latest = sorted(folder.glob("checkpoint_*.pth"), key=_number)
    for found in (folder / "best_model.pth", *best[-1:], *latest[-1:], folder / "model.pth"):
        if found.is_file():
            return found
    raise ConfigError(f"{folder}: holds no best_model.pth and no checkpoint_N.pth; is it the folder of a run?")


def load_run(folder: Path, checkpoint: Path | None, overrides: Sequence[str]) -> TrainedRun:
    """Read a run folder; its speaker encoders are not loaded.

    Args:
        folder: As Coqui's trainer leaves it.
        checkpoint: Another file than the best model.
        overrides: `--coqpit.KEY VALUE` for its config.

    Raises:
        ConfigError: it holds no config or no checkpoint, or they cannot be used.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such run folder.")
    config = resolved_config(read_config(str(folder / "config.json")), overrides)
    config.model_args.init_discriminator = False  # it takes no part in synthesis
    if (own := folder / "speakers.pth").is_file():  # the config has the path that the folder had while training
        config.speakers_file = config.model_args.speakers_file = str(own)
    path = checkpoint or find_checkpoint(folder)
    try:
        state = read_checkpoint(str(path))
    except UNREADABLE as error:
        raise ConfigError(f"{path}: no checkpoint that can be loaded: {error}.") from error
    if not isinstance(state, dict) or "model" not in state:
        raise ConfigError(f"{path}: no checkpoint of Coqui's trainer (it lacks model).")
    model = SclVits(config)
    weights = {name: value for name, value in state["model"].items() if not _ONLY_FOR_TRAINING.search(name)}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(f"{path}: does not fit the config in {folder}: {error}") from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TrainedRun(folder, config, path, model.to(device).eval())


# --- one recording ----------------------------------------------------------------------------------------------------


def _speak(run: TrainedRun, sample: dict[str, str], speaker: str) -> Tensor:
    language = sample.get("language") if run.model.language_manager.num_languages > 1 else None
    try:
        spoken = run.model.synthesize(sample["text"], speaker=speaker, language=language)["wav"]
    except (RuntimeError, ValueError, IndexError, KeyError) as error:
        raise ConfigError(
            f"{run.label} cannot speak {sample['text']!r} as {speaker!r} ({sample['audio_file']}): {error}"
        ) from error
    return torch.as_tensor(np.atleast_1d(spoken))


def _next_speaker(speaker: str, speakers: Sequence[str]) -> str:
    return speakers[(speakers.index(speaker) + 1) % len(speakers)]


def _synthesise(run: TrainedRun, method: Method, recording: Recording, sample: dict[str, str], speaker: str) -> Tensor:
    """`[T]`: the sentence, or a copy of the recording, as the speaker."""
    if method == "tts":
        return _speak(run, sample, speaker)
    model = run.model
    target = model.voice_of(speaker) if method == "conversion" else None
    return copy_speech(model, spectrogram_for(model, *recording.load()), model.voice_of(recording.speaker), target)


# --- a run ------------------------------------------------------------------------------------------------------------


def _samples_of(run: TrainedRun) -> tuple[Samples, Samples]:
    """Those that the run trained on, and those that it was evaluated with."""
    kept = read_evaluation_set(run.folder)
    if kept is None:
        return list_samples(run.config)
    samples = list_all_samples(run.config)
    evaluation = [sample for sample in samples if sample["audio_unique_name"] in kept]
    if not evaluation:
        raise ConfigError(
            f"{run.folder}: none of the {len(kept)} recordings that the run was evaluated with is among the "
            f"{len(samples)} of its datasets. Name their folder, e.g. --coqpit.datasets.0.path DIR."
        )
    return [sample for sample in samples if sample["audio_unique_name"] not in kept], evaluation


def evaluation_set_from_run(
    run: TrainedRun, method: Method, sentences: int, seed: int, out: Path, label: str
) -> EvaluationSet:
    """Synthesise the held-out sentences of each speaker, under a progress bar, into wav files.

    Args:
        run: With its model.
        method: `tts` speaks the text; `reconstruction` copies the recording in the same voice; `conversion` in that of
            the next speaker.
        sentences: Of each speaker, at most.
        seed: Of random draws; each sentence has its own.
        out: The folder of the wav files; they take the place of all that it held.
        label: Of the material.

    Raises:
        ConfigError: the data of the run cannot be found, or a sentence cannot be spoken.
    """
    train, evaluation = _samples_of(run)
    samples = {sample["audio_unique_name"]: sample for sample in evaluation}
    recordings = recordings_of(train, evaluation)
    held_out = a_few_of_each([recording for recording in recordings if recording.held_out], sentences)
    real = a_few_of_each(sorted(recordings, key=lambda r: (r not in held_out, r.name)), REAL_RECORDINGS)
    speakers, synthetic = sorted({recording.speaker for recording in held_out}), []
    if method == "conversion" and len(speakers) < 2:
        raise ConfigError(f"--synthesis conversion: {run.label} has one held-out speaker, and nobody to convert to.")
    with replacing_folder(out) as temporary:
        for index, recording in enumerate(tqdm(held_out, desc=f"{label}, synthesis", unit="sentence", mininterval=1.0)):
            torch.manual_seed(seed + index)
            converts, sample = method == "conversion", samples[recording.name]
            speaker = _next_speaker(recording.speaker, speakers) if converts else recording.speaker
            waveform = _synthesise(run, method, recording, sample, speaker).cpu().clamp(-1, 1)
            file = f"{index:03d}-{speaker}-{recording.path.stem}.wav".replace("/", "_")  # speakers may be named so
            # what is not finite becomes silence, which is reported
            soundfile.write(temporary / file, torch.nan_to_num(waveform).numpy(), run.config.audio.sample_rate)
            reference = None if converts else recording.name
            made = SyntheticRecording(Path(file).stem, out / file, speaker, reference=reference, text=sample["text"])
            synthetic.append(made)
    source = {
        "run": str(run.folder), "checkpoint": run.checkpoint.name, "model_fingerprint": fingerprint(run.model),
        "synthesis": method,
    }  # fmt: skip
    return EvaluationSet(label, source, real, synthetic)
