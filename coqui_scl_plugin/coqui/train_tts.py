"""Coqui's own commands, run with this package imported, so that `"model": "scl_vits"` means something to them."""

import argparse
import importlib.metadata
import importlib.util
import runpy
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coqui_scl_plugin.coqui.run_config import asks_for_scl, check_checkpoint, checked_config, read_config
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.suggest import did_you_mean


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


def _flags(parsed: Mapping[str, Any]) -> list[str]:
    """Arguments of Coqui's trainer as a command line again, without the overrides that its config holds by now."""
    given = {name: value for name, value in parsed.items() if value not in (None, "")}
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in given.items()]


def _skipped(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The checks that `--skip` names, and the other arguments. Raises ConfigError for a check that does not exist."""
    parser = argparse.ArgumentParser(prog="coqui-scl train", add_help=False, allow_abbrev=False)
    parser.add_argument("--skip", action="append", default=[], metavar="ID")
    given, others = parser.parse_known_args(list(arguments))
    if given.skip:
        from coqui_scl_plugin.preflight.checks import check_skipped

        check_skipped(given.skip, "--skip")
    return given.skip, others


def train(arguments: Sequence[str]) -> None:
    """`python -m TTS.bin.train_tts ARGUMENTS`, with a config that is checked before a run folder is made.

    `--skip ID` is taken beside the arguments of Coqui's.

    A stock config with stock's speaker consistency loss on is trained as `scl_vits`; any other model is Coqui's
    business alone.

    Raises:
        ConfigError: the config or an argument cannot be used.
        EncoderError: an encoder that the config names cannot be loaded.
    """
    import torch
    from TTS.bin.train_tts import TrainTTSArgs, main
    from TTS.config import register_config

    skip, arguments = _skipped(arguments)
    parser = TrainTTSArgs().init_argparse(arg_prefix="")
    parser.add_argument("--skip", metavar="ID", help="Let a check of coqui-scl preflight fail; may be repeated.")
    parsed, overrides = parser.parse_known_args(arguments)
    path = parsed.config_path or (str(Path(parsed.continue_path) / "config.json") if parsed.continue_path else None)
    if path is None:
        raise ConfigError("train needs --config_path CONFIG, or --continue_path RUN.")
    data = read_config(path)
    if not asks_for_scl(data, overrides):
        try:
            register_config(str(data.get("model")).lower())
        except ModuleNotFoundError as error:
            known = did_you_mean(str(data.get("model")), ["scl_vits", "vits"])
            raise ConfigError(f"model = {data.get('model')!r}: Coqui has no such model. {known}") from error
        if skip:
            raise ConfigError(f"--skip {skip[0]}: this config trains a model of Coqui's own, without any check.")
        main(arguments)
        return
    if parsed.restore_path:
        check_checkpoint(parsed.restore_path)
    config = checked_config(data, overrides)
    config.scl.preflight.skip += [id_ for id_ in skip if id_ not in config.scl.preflight.skip]
    if data.get("model") == "vits":
        sys.stderr.write(f"{path}: a vits config, trained as {config.model}.\n")
    # Coqui seeds after the model is made: without this, two runs of one config start from different weights
    torch.manual_seed(config.training_seed)
    if parsed.continue_path:
        skips = ["--coqpit.scl.preflight.skip", *config.scl.preflight.skip] if skip else []
        main([*arguments, *skips])
        return
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder) / "config.json"
        config.save_json(resolved)
        main(_flags({**vars(parsed), "config_path": str(resolved)}))
