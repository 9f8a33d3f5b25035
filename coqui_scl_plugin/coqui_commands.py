"""Coqui's own commands, run with this package imported, so that `"model": "scl_vits"` means something to them."""

import importlib.metadata
import json
import re
import runpy
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.suggest import did_you_mean


def run_module(name: str, arguments: Sequence[str]) -> None:
    """`python -m NAME ARGUMENTS` in this process. Raises ConfigError if there is no such module."""
    sys.argv = [name, *arguments]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except ImportError as error:
        if error.name and name.startswith(error.name):
            raise ConfigError(f"There is no module {name!r}: {error}.") from error
        raise


def run_script(name: str, arguments: Sequence[str]) -> None:
    """A console script of an installed distribution, such as `tts`. Raises ConfigError if there is none."""
    scripts = importlib.metadata.entry_points(group="console_scripts")
    for script in scripts.select(name=name):
        sys.argv = [name, *arguments]
        sys.exit(script.load()())
    coqui = {script.name for script in scripts if script.value.startswith("TTS.")}
    raise ConfigError(f"{name!r} is no installed command; for a module, use -m. {did_you_mean(name, coqui)}")


def _config_text(path: str) -> dict[str, Any]:
    """The config file as a mapping. JSON may hold comments, as Coqui allows; YAML is left to Coqui."""
    from TTS.config import read_json_with_comments

    try:
        data = read_json_with_comments(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(f"--config_path {path}: there is no such file.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config_path {path}: not valid JSON: {error}.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"--config_path {path}: must hold a JSON object.")
    return data


def _asks_for_scl(data: dict[str, Any], overrides: Sequence[str]) -> bool:
    """Whether the config, or an override, names scl_vits, or is a stock VITS with stock's speaker consistency loss."""
    model = re.search(r"--coqpit\.model[= ](\S+)", " ".join(overrides))
    if (model.group(1) if model else data.get("model")) == "scl_vits":
        return True
    return data.get("model") == "vits" and bool((data.get("model_args") or {}).get("use_speaker_encoder_as_loss"))


def _checked_config(path: str, overrides: Sequence[str]) -> Any:
    """The SclVitsConfig of a file with overrides applied, once its encoders and its loss could be built; or None.

    None where the config asks for another model, which then is Coqui's business alone.
    """
    from coqui_scl_plugin.consistency import SpeakerConsistency
    from coqui_scl_plugin.vits_config import SclVitsConfig

    data = {} if Path(path).suffix in (".yml", ".yaml") else _config_text(path)
    if not _asks_for_scl(data, overrides):
        return None
    config = SclVitsConfig()
    config.from_dict({**data, "model": "scl_vits"})
    if overrides:
        config.parse_known_args(list(overrides), relaxed_parser=True)
    if config.scl.enabled:
        SpeakerConsistency.from_config(config.scl, config.audio.sample_rate)
    _check_data(config)
    return config


def _check_data(config: Any) -> None:
    if not config.datasets:
        raise ConfigError(
            'datasets = []: name at least one, e.g. {"formatter": "coqui", "path": ..., "meta_file_train": ...}.'
        )
    for index, dataset in enumerate(config.datasets):
        if not Path(dataset.path).is_dir():
            raise ConfigError(f"datasets.{index}.path = {dataset.path!r}: there is no such folder.")


def train(arguments: Sequence[str]) -> None:
    """`python -m TTS.bin.train_tts ARGUMENTS`, with a config that is checked before a run folder is made.

    A stock config with stock's speaker consistency loss on is trained as `scl_vits`.

    Raises:
        ConfigError: the config or an argument cannot be used.
        EncoderError: an encoder that the config names cannot be loaded.
    """
    import torch
    from TTS.bin.train_tts import TrainTTSArgs, main

    parsed, overrides = TrainTTSArgs().init_argparse(arg_prefix="").parse_known_args(list(arguments))
    path = parsed.config_path or (str(Path(parsed.continue_path) / "config.json") if parsed.continue_path else None)
    if path is None:
        raise ConfigError("train needs --config_path CONFIG, or --continue_path RUN.")
    if parsed.restore_path and not Path(parsed.restore_path).is_file() and "://" not in parsed.restore_path:
        raise ConfigError(f"--restore_path {parsed.restore_path}: there is no such file.")
    config = _checked_config(path, overrides)
    if config is None:
        main(list(arguments))
        return
    # Coqui seeds after the model is made: without this, two runs of one config start from different weights
    torch.manual_seed(config.training_seed)
    if parsed.continue_path:
        main(list(arguments))
        return
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder) / "config.json"
        config.save_json(resolved)
        main([*arguments, "--config_path", str(resolved)])
