"""Coqui's own commands, run with this package imported, so that `"model": "scl_vits"` means something to them."""

import importlib.metadata
import importlib.util
import json
import logging
import re
import runpy
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.quiet import quiet
from coqui_scl_plugin.suggest import did_you_mean

if TYPE_CHECKING:
    from coqui_scl_plugin.vits_config import SclVitsConfig


def run_module(name: str, arguments: Sequence[str]) -> None:
    """`python -m NAME ARGUMENTS` in this process. Raises ConfigError if there is no such module."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(f"There is no module {name!r}. Coqui's own are named TTS.bin.NAME.")
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def run_script(name: str, arguments: Sequence[str]) -> None:
    """A console script of an installed distribution, such as `tts`. Raises ConfigError if there is none."""
    scripts = importlib.metadata.entry_points(group="console_scripts")
    for script in scripts.select(name=name):
        sys.argv = [name, *arguments]
        sys.exit(script.load()())
    coqui = {script.name for script in scripts if script.value.startswith("TTS.")}
    raise ConfigError(f"{name!r} is no installed command; for a module, use -m. {did_you_mean(name, coqui)}")


def _read_config(path: str) -> dict[str, Any]:
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


def _asks_for_scl(data: Mapping[str, Any], overrides: Sequence[str]) -> bool:
    """Whether the config, or an override, names scl_vits, or is a stock VITS with stock's speaker consistency loss."""
    model = re.search(r"--coqpit\.model[= ](\S+)", " ".join(overrides))
    if (model.group(1) if model else data.get("model")) == "scl_vits":
        return True
    return data.get("model") == "vits" and bool((data.get("model_args") or {}).get("use_speaker_encoder_as_loss"))


def _checked_config(data: Mapping[str, Any], overrides: Sequence[str]) -> "SclVitsConfig":
    """The config with overrides applied, once its encoders and its loss could be built and its data be listed."""
    from coqui_scl_plugin.consistency import SpeakerConsistency
    from coqui_scl_plugin.vits_config import SclVitsConfig

    config = SclVitsConfig()
    config.from_dict({**data, "model": "scl_vits"})
    if overrides:
        config.parse_known_args(list(overrides), relaxed_parser=True)
    _check_data(config)
    if config.scl.enabled:
        SpeakerConsistency.from_config(config.scl, config.audio.sample_rate)
    return config


def _check_data(config: "SclVitsConfig") -> None:
    """List the samples as Coqui will, which ends with a traceback there. Raises ConfigError."""
    from TTS.tts.datasets import load_tts_samples

    if not config.datasets:
        example = '[{"formatter": "coqui", "path": "DIR", "meta_file_train": "metadata.csv"}]'
        raise ConfigError(f"datasets = []: name at least one, e.g. {example}.")
    for index, dataset in enumerate(config.datasets):
        if not Path(dataset.path).is_dir():
            raise ConfigError(f"datasets.{index}.path = {dataset.path!r}: there is no such folder.")
    sizes = {"eval_split_max_size": config.eval_split_max_size, "eval_split_size": config.eval_split_size}
    try:
        with quiet(logging.ERROR, "TTS"):
            load_tts_samples(config, eval_split=True, **sizes)
    except (OSError, LookupError, AssertionError, ValueError, TypeError) as error:
        folders = ", ".join(str(Path(dataset.path) / dataset.meta_file_train) for dataset in config.datasets)
        raise ConfigError(
            f"datasets: no samples could be read from {folders}: {str(error).strip() or repr(error)}."
        ) from error


def _check_checkpoint(path: str) -> None:
    """A local file must be a checkpoint with a model. Raises ConfigError."""
    import torch

    from coqui_scl_plugin.encoders.base import UNREADABLE

    if "://" in path:
        return
    if not Path(path).is_file():
        raise ConfigError(f"--restore_path {path}: there is no such file.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except UNREADABLE as error:
        raise ConfigError(f"--restore_path {path}: no checkpoint that can be loaded: {error}.") from error
    if not isinstance(state, dict) or not {"model", "step", "epoch"} <= state.keys():
        raise ConfigError(f"--restore_path {path}: no checkpoint of Coqui's trainer (it lacks model, step or epoch).")


def _flags(parsed: Mapping[str, Any]) -> list[str]:
    """Arguments of Coqui's trainer as a command line again, without the overrides that its config holds by now."""
    given = {name: value for name, value in parsed.items() if value not in (None, "")}
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in given.items()]


def train(arguments: Sequence[str]) -> None:
    """`python -m TTS.bin.train_tts ARGUMENTS`, with a config that is checked before a run folder is made.

    A stock config with stock's speaker consistency loss on is trained as `scl_vits`; any other model is Coqui's
    business alone.

    Raises:
        ConfigError: the config or an argument cannot be used.
        EncoderError: an encoder that the config names cannot be loaded.
    """
    import torch
    from TTS.bin.train_tts import TrainTTSArgs, main
    from TTS.config import register_config

    parsed, overrides = TrainTTSArgs().init_argparse(arg_prefix="").parse_known_args(list(arguments))
    path = parsed.config_path or (str(Path(parsed.continue_path) / "config.json") if parsed.continue_path else None)
    if path is None:
        raise ConfigError("train needs --config_path CONFIG, or --continue_path RUN.")
    data = _read_config(path)
    if not _asks_for_scl(data, overrides):
        try:
            register_config(str(data.get("model")).lower())
        except ModuleNotFoundError as error:
            known = did_you_mean(str(data.get("model")), ["scl_vits", "vits"])
            raise ConfigError(f"model = {data.get('model')!r}: Coqui has no such model. {known}") from error
        main(list(arguments))
        return
    if parsed.restore_path:
        _check_checkpoint(parsed.restore_path)
    config = _checked_config(data, overrides)
    if data.get("model") == "vits":
        sys.stderr.write(f"{path}: a vits config, trained as {config.model}.\n")
    # Coqui seeds after the model is made: without this, two runs of one config start from different weights
    torch.manual_seed(config.training_seed)
    if parsed.continue_path:
        main(list(arguments))
        return
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder) / "config.json"
        config.save_json(resolved)
        main(_flags({**vars(parsed), "config_path": str(resolved)}))
