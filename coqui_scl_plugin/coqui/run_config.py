"""The config of a run as a command line names it: read, overridden and checked before anything is written."""

import contextlib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coqui_scl_plugin.errors import ConfigError, EvaluationSetError
from coqui_scl_plugin.utils.log_level import log_level

if TYPE_CHECKING:
    from coqui_scl_plugin.coqui.vits_config import SclVitsConfig

Samples = list[dict[str, Any]]


def read_config(path: str) -> dict[str, Any]:
    """The config file as a mapping: JSON, with comments as Coqui allows, or YAML."""
    import yaml
    from TTS.config import read_json_with_comments

    file = Path(path)
    if file.is_dir():
        raise ConfigError(f"The config {path}: this is a folder, name a file in it.")
    if not file.is_file() and "://" not in path:
        raise ConfigError(f"The config {path}: there is no such file.")
    is_yaml = file.suffix in (".yml", ".yaml")
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8")) if is_yaml else read_json_with_comments(path)
    except (json.JSONDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"The config {path}: not valid {'YAML' if is_yaml else 'JSON'}: {error}.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"The config {path}: must hold an object of keys and values, this is {type(data).__name__}.")
    if not isinstance(data.get("model_args") or {}, dict):
        raise ConfigError(f"model_args = {data['model_args']!r}: must be a section.")
    return data


def named_model(data: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """The model that an override or the config names."""
    model = re.search(r"--coqpit\.model[= ](\S+)", " ".join(overrides))
    return model.group(1) if model else data.get("model")


def asks_for_scl(data: Mapping[str, Any], overrides: Sequence[str]) -> bool:
    """Whether the config, or an override, names scl_vits, or is a stock VITS with stock's speaker consistency loss."""
    return named_model(data, overrides) == "scl_vits" or names_stock_loss(data)


def names_stock_loss(data: Mapping[str, Any]) -> bool:
    """Whether the config is of a stock VITS with stock's speaker consistency loss."""
    return data.get("model") == "vits" and bool((data.get("model_args") or {}).get("use_speaker_encoder_as_loss"))


def resolved_config(data: Mapping[str, Any], overrides: Sequence[str]) -> "SclVitsConfig":
    """The config with overrides applied, and with the section that a stock config means. Raises ConfigError."""
    from coqui_scl_plugin.coqui.vits_config import SclVitsConfig

    config = SclVitsConfig()
    config.from_dict({**data, "model": "scl_vits"})
    if unknown := config.parse_known_args(list(overrides), relaxed_parser=True):
        raise ConfigError(f"{unknown[0]}: unknown option. To override a value of the config, write --coqpit.KEY VALUE.")
    return config


def checked_config(data: Mapping[str, Any], overrides: Sequence[str]) -> "SclVitsConfig":
    """The config with overrides applied, once its encoders and its loss could be built and its data be listed."""
    from coqui_scl_plugin.consistency.term import SpeakerConsistency

    config = resolved_config(data, overrides)
    list_samples(config)
    if config.scl.enabled:
        SpeakerConsistency.from_config(config.scl)
    return config


def list_samples(config: "SclVitsConfig") -> tuple[Samples, Samples]:
    """The samples to train on and to evaluate with, as Coqui will split them. Raises ConfigError if it would fail."""
    from TTS.tts.datasets import load_tts_samples

    sizes = {"eval_split_max_size": config.eval_split_max_size, "eval_split_size": config.eval_split_size}
    with _reading(config):
        _check_split(config)
        train, evaluation = load_tts_samples(config, eval_split=True, **sizes)
    return train, evaluation


def list_all_samples(config: "SclVitsConfig") -> Samples:
    """The samples of all datasets, those of `meta_file_val` too, in no split. Raises ConfigError."""
    from TTS.tts.configs.shared_configs import BaseTTSConfig
    from TTS.tts.datasets import load_tts_samples

    with _reading(config):
        samples, _ = load_tts_samples(config, eval_split=False)
        if apart := [dataset for dataset in config.datasets if dataset.meta_file_val]:
            samples += load_tts_samples(BaseTTSConfig(datasets=apart), eval_split=True)[1]
    return list(samples)


@contextlib.contextmanager
def _reading(config: "SclVitsConfig") -> Iterator[None]:
    """Say in a ConfigError why samples cannot be listed."""
    if not config.datasets:
        example = '[{"formatter": "coqui", "path": "DIR", "meta_file_train": "metadata.csv"}]'
        raise ConfigError(f"datasets = []: name at least one, e.g. {example}.")
    for index, dataset in enumerate(config.datasets):
        if not Path(dataset.path).is_dir():
            raise ConfigError(f"datasets.{index}.path = {dataset.path!r}: there is no such folder.")
    try:
        with log_level(logging.ERROR, "TTS"):
            yield
    except ConfigError:
        raise
    except (OSError, LookupError, AssertionError, ValueError, TypeError) as error:
        folders = ", ".join(str(Path(dataset.path) / dataset.meta_file_train) for dataset in config.datasets)
        raise ConfigError(
            f"datasets: no samples could be read from {folders}: {str(error).strip() or repr(error)}."
        ) from error


def _check_split(config: "SclVitsConfig") -> None:
    """Coqui refuses an empty split, and looks for ever for more recordings than it may take. Raises ConfigError."""
    from TTS.tts.configs.shared_configs import BaseTTSConfig
    from TTS.tts.datasets import load_tts_samples

    share = config.eval_split_size
    for index, dataset in enumerate(config.datasets):
        if dataset.meta_file_val:
            continue
        samples, _ = load_tts_samples(BaseTTSConfig(datasets=[dataset]), eval_split=False)
        speakers = {sample["speaker_name"] for sample in samples}
        wanted, spare = int(share if share > 1 else len(samples) * share), len(samples) - len(speakers)
        if share <= 1 and config.eval_split_max_size:
            wanted = min(wanted, config.eval_split_max_size // len(config.datasets))
        if wanted < 1:
            msg = (
                f"eval_split_size = {share}: the evaluation set of datasets.{index} would be empty, of {len(samples)} "
                f"recordings. Set it to at least {1 / max(1, len(samples)):.2g}, or name meta_file_val."
            )
            raise EvaluationSetError(msg)
        if len(speakers) > 1 and wanted > spare:
            msg = (
                f"eval_split_size = {share}: {wanted} recordings are to be held out of datasets.{index}, but with one "
                f"left to train on for each of its {len(speakers)} speakers, {spare} of {len(samples)} can be. Lower "
                "it, add recordings, or name meta_file_val."
            )
            raise ConfigError(msg)


def check_checkpoint(path: str) -> None:
    """A local file must be a checkpoint with a model. Raises ConfigError."""
    from coqui_scl_plugin.encoders.loading.files import UNREADABLE
    from coqui_scl_plugin.utils.checkpoint import read_checkpoint

    if "://" in path:
        return
    if not Path(path).is_file():
        raise ConfigError(f"--restore_path {path}: there is no such file.")
    try:
        state = read_checkpoint(path)
    except UNREADABLE as error:
        raise ConfigError(f"--restore_path {path}: no checkpoint that can be loaded: {error}.") from error
    if not isinstance(state, dict) or not {"model", "step", "epoch"} <= state.keys():
        raise ConfigError(f"--restore_path {path}: no checkpoint of Coqui's trainer (it lacks model, step or epoch).")
