"""Run folders: records written when a run starts, so that it can be repeated and evaluated, and the trained model."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from TTS.tts.models.vits import Vits

from coqui_scl_plugin.config import SECTION, SclConfig, check_config
from coqui_scl_plugin.config.measured import record_measured
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.run_config import read_config, resolved_config
from coqui_scl_plugin.coqui.sound_checkpoint import sound_beside
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.encoders.loading.files import UNREADABLE
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.atomic import replacing
from coqui_scl_plugin.utils.checkpoint import damaged_part, read_checkpoint, why_unreadable
from coqui_scl_plugin.utils.shown import shown

_EVALUATION_SET = "evaluation_set.json"
_ONLY_FOR_TRAINING = re.compile(r"^disc\.|speaker_encoder")


# --- records ----------------------------------------------------------------------------------------------------------


def record_measurements(config: SclConfig, consistency: SpeakerConsistency) -> None:
    """Record the SHA-256 of each encoder's weights, its floor and its ceiling in the section."""
    for spec in (*config.encoders, *config.holdout):
        encoder = consistency.encoders[spec.label].encoder
        calibration = consistency.calibrations.get(spec.label)
        record_measured(spec, getattr(encoder, "sha256", None), calibration)


def write_section(path: Path, config: SclConfig) -> None:
    """Replace the section in a config file, and leave the rest unchanged."""
    data = json.loads(path.read_text(encoding="utf-8"))
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**data, SECTION: config.to_dict()}, indent=4), encoding="utf-8")


def write_evaluation_set(folder: Path, samples: Iterable[Mapping[str, Any]]) -> None:
    """Record the names of the recordings that a run holds out, since a script may split the data unlike its config."""
    names = sorted(sample["audio_unique_name"] for sample in samples)
    with replacing(folder / _EVALUATION_SET) as temporary:
        temporary.write_text(json.dumps(names, indent=1), encoding="utf-8")


def read_evaluation_set(folder: Path) -> set[str] | None:
    """Read the names of the recordings that a run held out; None if they were not recorded. Raises ConfigError."""
    file = folder / _EVALUATION_SET
    if not file.is_file():
        return None
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        names = error
    if not isinstance(names, list) or any(not isinstance(name, str) for name in names):
        raise ConfigError(
            f"{file} is cut off or damaged: it must list the recordings that the run held out. Copy it again, or "
            "remove it if the datasets and their split are as they were in training."
        )
    return set(names)


# --- the trained model ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainedRun:
    """A run folder and its model, in eval mode."""

    folder: Path
    config: SclVitsConfig
    checkpoint: Path
    model: Vits
    """Stock, since synthesis needs no speaker encoder."""
    step: int | None
    """Training steps that the checkpoint has seen; None if it does not say."""

    @property
    def label(self) -> str:
        """Name of the run in results."""
        return self.folder.resolve().name


def labels_of(runs: Sequence[TrainedRun]) -> list[str]:
    """Return the label of each run, followed by its number where several have the same."""
    names = [run.label for run in runs]
    return [f"{name} ({index + 1})" if names.count(name) > 1 else name for index, name in enumerate(names)]


def _number(path: Path) -> int:
    found = re.search(r"_(\d+)$", path.stem)
    return int(found.group(1)) if found else -1


def holds_model(folder: Path) -> bool:
    """Tell whether a run folder has a checkpoint or a best model, so that it must not be removed."""
    return any(path.name.startswith(("checkpoint_", "best_model")) for path in folder.glob("*.pth"))


def find_checkpoint(folder: Path) -> Path:
    """Return the best model of a run folder, or else its latest checkpoint. Raises ConfigError if there is none."""
    best = sorted(folder.glob("best_model*.pth"), key=_number)
    latest = sorted(folder.glob("checkpoint_*.pth"), key=_number)
    for found in (folder / "best_model.pth", *best[-1:], *latest[-1:], folder / "model.pth"):
        if found.is_file():
            return found
    raise ConfigError(f"{folder}: contains neither best_model.pth nor checkpoint_N.pth; is it a run folder?")


def load_run(folder: Path, checkpoint: Path | None, overrides: Sequence[str]) -> TrainedRun:
    """Load a run folder, without its speaker encoders.

    Args:
        folder: Folder as Coqui's trainer leaves it.
        checkpoint: File to load instead of the best model.
        overrides: `--coqpit.KEY VALUE` for its config.

    Raises:
        ConfigError: it contains no config or no checkpoint, or they cannot be used.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such run folder.")
    config = resolved_config(read_config(str(folder / "config.json")), overrides)
    check_config(config.scl)  # overrides are not checked as they are applied
    config.model_args.use_speaker_encoder_as_loss = config.model_args.init_discriminator = False  # of training alone
    config.model_args.speaker_encoder_model_path = config.model_args.speaker_encoder_config_path = ""
    if (own := folder / "speakers.pth").is_file():  # the config names the folder of the training run
        config.speakers_file = config.model_args.speakers_file = str(own)
    _check_named_files(folder, config)
    path = checkpoint or find_checkpoint(folder)
    state = _read(path)
    if not isinstance(state, dict) or "model" not in state:
        raise ConfigError(f"{path} is not a checkpoint of Coqui's trainer (it lacks model).")
    try:
        model = Vits(config)
    except UNREADABLE as error:
        raise ConfigError(f"{folder / 'config.json'}: Coqui cannot build its model: {error}") from error
    weights = {name: value for name, value in state["model"].items() if not _ONLY_FOR_TRAINING.search(name)}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(f"{path}: does not fit the config in {folder}: {error}") from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TrainedRun(folder, config, path, model.to(device).eval(), _whole_number(state.get("step")))


def _read(checkpoint: Path) -> Any:
    """Read a checkpoint every byte of which is sound. Raises ConfigError."""
    try:
        state = read_checkpoint(str(checkpoint))
        damaged = damaged_part(str(checkpoint))
    except UNREADABLE as error:
        why = f"not a readable checkpoint: it is {why_unreadable(str(checkpoint), error)}"
        raise ConfigError(f"{checkpoint} is {why}. {_another(checkpoint)}") from error
    if damaged is not None:
        raise ConfigError(
            f"{checkpoint} is damaged: the checksum of its part {damaged[:80]!r} is wrong. {_another(checkpoint)}"
        )
    return state


def _another(checkpoint: Path) -> str:
    sound = sound_beside(checkpoint)
    return f"Name another one: --checkpoint {'FILE' if sound is None else shlex.quote(str(sound))}"


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _check_named_files(folder: Path, config: SclVitsConfig) -> None:
    """Check that the files of speakers and languages exist that the model is built with. Raises ConfigError."""
    args = config.model_args
    named: dict[str, Any] = {}
    if args.use_speaker_embedding and not config.speakers:
        named["speakers_file"] = args.speakers_file or config.speakers_file
    if args.use_d_vector_file:
        named["d_vector_file"] = args.d_vector_file or config.d_vector_file
    if args.use_language_embedding and args.language_ids_file:
        named["language_ids_file"] = args.language_ids_file
    for key, value in named.items():
        for file in value if isinstance(value, list) else [value]:
            if not file or ("://" not in str(file) and not Path(file).is_file()):
                raise ConfigError(
                    f"{folder / 'config.json'}: model_args.{key} = {shown(file)}: there is no such file here. Name it: "
                    f"--coqpit.model_args.{key} FILE."
                )
