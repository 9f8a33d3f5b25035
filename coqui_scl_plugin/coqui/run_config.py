"""The config of a run, as given on a command line: read, overridden and checked before anything is written."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientError
from TTS.config import read_json_with_comments

from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.preflight.config_types import fit


def read_config(path: str) -> dict[str, Any]:
    """Read the config file as a mapping: JSON, with comments as Coqui allows, or YAML. Raises ConfigError."""
    file = Path(path)
    if file.is_dir():
        raise ConfigError(f"The config {path} is a folder: name a file in it.")
    if not file.is_file() and "://" not in path:
        raise ConfigError(f"The config {path}: there is no such file.")
    is_yaml = file.suffix in (".yml", ".yaml")
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8")) if is_yaml else read_json_with_comments(path)
    except (json.JSONDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"The config {path} is not valid {'YAML' if is_yaml else 'JSON'}: {error}.") from error
    except (OSError, ValueError, ImportError, ClientError) as error:  # what fsspec raises for a URL
        raise ConfigError(f"The config {path} cannot be read: {type(error).__name__}: {error}.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"The config {path} must hold an object of keys and values, but holds {type(data).__name__}.")
    if not isinstance(data.get("model_args") or {}, dict):
        raise ConfigError(f"model_args = {data['model_args']!r}: must be a section.")
    return data


def named_model(data: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """Return the model that an override or else the config names."""
    model = re.search(r"--coqpit\.model[= ](\S+)", " ".join(overrides))
    return model.group(1) if model else data.get("model")


def asks_for_scl(data: Mapping[str, Any], overrides: Sequence[str]) -> bool:
    """Tell whether an override or the config names scl_vits, or the config is of a stock VITS with stock's loss on."""
    return named_model(data, overrides) == "scl_vits" or names_stock_loss(data)


def names_stock_loss(data: Mapping[str, Any]) -> bool:
    """Tell whether the config is of a stock VITS with stock's own speaker consistency loss on."""
    return data.get("model") == "vits" and bool((data.get("model_args") or {}).get("use_speaker_encoder_as_loss"))


def resolved_config(data: Mapping[str, Any], overrides: Sequence[str]) -> SclVitsConfig:
    """Return the config with overrides applied, and a stock config with the section it implies. Raises ConfigError."""
    config = SclVitsConfig()
    # values of a wrong type are left out, for the check `values` names each; Coqpit would lose a whole section
    kept, _ = fit(data, config)
    config.from_dict({**kept, "model": "scl_vits"})
    if overrides and (unknown := config.parse_known_args(list(overrides), relaxed_parser=True)):
        raise ConfigError(f"{unknown[0]}: unknown option. To override a value of the config, write --coqpit.KEY VALUE.")
    return config


def check_checkpoint_exists(path: str) -> None:
    """Check that a path, unless it is a URL, is a file. Raises ConfigError."""
    if "://" not in path and not Path(path).is_file():
        raise ConfigError(f"--restore_path {path}: there is no such file.")
