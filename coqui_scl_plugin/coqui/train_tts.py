"""`TTS.bin.train_tts`, but with the config and the data checked before a run folder is made."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer import Trainer
from TTS.bin.train_tts import TrainTTSArgs, main
from TTS.config import register_config
from TTS.utils.generic_utils import ConsoleFormatter, setup_logger

from coqui_scl_plugin.coqui.continuing import overridden, settle_checkpoints
from coqui_scl_plugin.coqui.dry_run import PreparedRun
from coqui_scl_plugin.coqui.run_config import (
    asks_for_scl,
    check_checkpoint_exists,
    names_stock_loss,
    read_config,
    resolved_config,
)
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.preflight.checks import check_skipped
from coqui_scl_plugin.utils.shown import shown
from coqui_scl_plugin.utils.suggest import did_you_mean


def train(arguments: Sequence[str]) -> None:
    """Do what `python -m TTS.bin.train_tts ARGUMENTS` does, with the additional option `--skip ID`.

    A stock config with stock's speaker consistency loss on is trained as `scl_vits`; any other model is left to
    Coqui's command.

    Raises:
        ConfigError: the config or an argument cannot be used.
        PreflightError: a check failed.
    """
    skip, arguments = _take_skipped(arguments)
    args = TrainTTSArgs()
    parser = args.init_argparse(arg_prefix="")
    parser.add_argument("--skip", metavar="ID", help="Let a check of coqui-scl preflight fail; may be repeated.")
    parsed, overrides = parser.parse_known_args(arguments)
    path = parsed.config_path or (str(Path(parsed.continue_path) / "config.json") if parsed.continue_path else None)
    if path is None:
        raise ConfigError("train needs --config_path CONFIG, or --continue_path RUN.")
    data = read_config(path)
    if not asks_for_scl(data, overrides):
        _leave_to_coqui(data.get("model"), arguments, skip)
        return
    if parsed.restore_path:
        check_checkpoint_exists(parsed.restore_path)
    config = resolved_config(data, overrides)
    written = config.to_dict()
    if parsed.continue_path:
        settle_checkpoints(Path(parsed.continue_path), config.reference_cache)
    config.scl.preflight.skip += [id_ for id_ in skip if id_ not in config.scl.preflight.skip]
    check_skipped(config.scl.preflight.skip, "scl.preflight.skip")
    setup_logger("TTS", level=logging.INFO, stream=sys.stdout, formatter=ConsoleFormatter())
    run = PreparedRun(config, parsed.restore_path, written=data, names_stock_loss=names_stock_loss(data))
    # before a run folder is made; if anything fails, all that coqui-scl preflight finds is found
    checked = run.check("config", "data")
    if not run.check("model").passed:
        run.check("speech").raise_failures()
    run.model.parts.checked = checked
    if data.get("model") == "vits":
        sys.stderr.write(f"{path}: a vits config, trained as {config.model}.\n")
    del parsed.skip
    args.parse_args(parsed)
    if parsed.continue_path and overrides:  # Coqui's trainer reads the config of the run again, without them
        with overridden(Path(path), {**data, **written}) as starting:
            _train(args, run, starting)
    else:
        _train(args, run)


def _take_skipped(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split off the checks that `--skip` names. Raises ConfigError for an unknown check."""
    parser = argparse.ArgumentParser(prog="coqui-scl train", add_help=False, allow_abbrev=False)
    parser.add_argument("--skip", action="append", default=[], metavar="ID")
    given, others = parser.parse_known_args(list(arguments))
    check_skipped(given.skip, "--skip")
    return given.skip, others


def _leave_to_coqui(model: Any, arguments: Sequence[str], skip: Sequence[str]) -> None:
    try:
        register_config(str(model).lower())
    except ModuleNotFoundError as error:
        known = did_you_mean(str(model), ["scl_vits", "vits"])
        raise ConfigError(f"model = {shown(model)}: Coqui has no such model. {known}") from error
    if skip:
        raise ConfigError(f"--skip {skip[0]}: this config trains a model of Coqui's own, without any check.")
    main(list(arguments))


def _train(args: TrainTTSArgs, run: PreparedRun, starting: contextlib.ExitStack | None = None) -> None:
    """Train as `TTS.bin.train_tts.main` does, with the samples, the model and the encoders of the checks."""
    train_samples, eval_samples = run.samples
    trainer = Trainer(
        args, run.model.config, run.config.output_path, model=run.model, train_samples=train_samples,
        eval_samples=eval_samples, parse_command_line_args=False,
    )  # fmt: skip
    if starting is not None:
        starting.pop_all()
    trainer.fit()
