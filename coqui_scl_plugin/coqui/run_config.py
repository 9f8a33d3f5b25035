"""The config of a run, as given on a command line: read, overridden and checked before anything is written."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coqui_scl_plugin.config import read_config_file
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.preflight.config_types import fit
from coqui_scl_plugin.utils.shown import MAX_SHOWN, named, shown, typed


def read_config(path: str) -> dict[str, Any]:
    """Read the config file of a run as a mapping; see `read_config_file`. Raises ConfigError."""
    return with_sections(read_config_file(path))


def with_sections(data: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a config file, of which `model_args` is a section if it is there. Raises ConfigError."""
    if not isinstance(data.get("model_args") or {}, dict):
        raise ConfigError(f"model_args = {shown(data['model_args'])}: must be a section.")
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
        msg = f"{named(unknown[0])}: unknown option. To override a value of the config, write --coqpit.KEY VALUE."
        raise ConfigError(msg)
    return config


def usable_config(data: Mapping[str, Any], overrides: Sequence[str]) -> SclVitsConfig:
    """Return the config as `resolved_config` does, for commands that run no checks.

    Raises:
        ConfigError: also if a value has a wrong type, which the check `values` of other commands reports.
    """
    _, misfits = fit(data, SclVitsConfig)
    if misfits:
        raise ConfigError(
            "; ".join(f"{wrong.key} = {typed(wrong.value)}: must be {wrong.expected}" for wrong in misfits)
        )
    return resolved_config(data, overrides)


def check_checkpoint_exists(path: str) -> None:
    """Check that a path, unless it is a URL, is a file. Raises ConfigError."""
    if "://" in path:
        return
    try:
        is_file, is_folder = Path(path).is_file(), Path(path).is_dir()
    except OSError as error:  # such as a name that is too long
        raise ConfigError(f"--restore_path {path[:MAX_SHOWN]}: {error.strerror}.") from error
    if is_folder:
        raise ConfigError(f"--restore_path {path} is a folder: name a checkpoint in it, such as best_model.pth.")
    if not is_file:
        raise ConfigError(f"--restore_path {path[:MAX_SHOWN]}: there is no such file.")
