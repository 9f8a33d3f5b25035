"""`TTS.bin.train_tts`, but with the config and the data checked before a run folder is made."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from TTS.bin.train_tts import TrainTTSArgs, main
from TTS.config import register_config
from TTS.utils.generic_utils import ConsoleFormatter, setup_logger

from coqui_scl_plugin.coqui.command_trainer import CommandTrainer
from coqui_scl_plugin.coqui.continuing import overridden, settle_checkpoints
from coqui_scl_plugin.coqui.distributed import deciding, decision, joined
from coqui_scl_plugin.coqui.dry_run import PreparedRun
from coqui_scl_plugin.coqui.launch import Launch
from coqui_scl_plugin.coqui.run_config import (
    asks_for_scl,
    check_checkpoint_exists,
    names_stock_loss,
    read_config,
    resolved_config,
    with_sections,
)
from coqui_scl_plugin.coqui.scratch_folder import own_folder
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.preflight.checks import check_skipped
from coqui_scl_plugin.preflight.report import PreflightReport
from coqui_scl_plugin.utils import processes
from coqui_scl_plugin.utils.fingerprint import hashing_once
from coqui_scl_plugin.utils.shown import shown
from coqui_scl_plugin.utils.suggest import did_you_mean

_KEPT = ("evaluation-set", "alphabet", "text-length", "test-sentences")
"""Checks of the model that take long, and look at nothing that the trainer makes or changes."""


def train(arguments: Sequence[str], launch: Launch | None = None, content: dict[str, Any] | None = None) -> None:
    """Do what `python -m TTS.bin.train_tts ARGUMENTS` does, with the additional option `--skip ID`.

    A stock config with stock's speaker consistency loss on is trained as `scl_vits`; any other model is left to
    Coqui's command.

    Args:
        arguments: Of the command.
        launch: The place of this process among several; None: it is alone.
        content: What the config file holds, if it was read.

    Raises:
        ConfigError: the config or an argument cannot be used.
        PreflightError: a check failed.
        ProcessError: another process ended.
    """
    with joined(launch or Launch()):
        prepared: _Prepared | None
        with hashing_once():
            if processes.rank() > 0:
                decision()
                prepared = _prepared(arguments, content)
            else:
                with deciding():
                    prepared = _checked(arguments, content)
            trainer = None if prepared is None else _trainer(prepared)
        if trainer is not None:
            trainer.train()


class _Prepared(NamedTuple):
    """A run that a command line asks for."""

    args: TrainTTSArgs
    run: PreparedRun
    overridden: dict[str, Any] | None
    """The config of a run that is continued with overrides, which Coqui's trainer would read again without them."""


def _checked(arguments: Sequence[str], content: dict[str, Any] | None) -> _Prepared | None:
    """Return a run whose config, data and model are checked; None if Coqui's own command has done all."""
    skip, others = _take_skipped(arguments)
    parsed, overrides = _parse(others)
    data = _read(parsed, content)
    if not asks_for_scl(data, overrides):
        if processes.several():
            msg = (
                f"model = {shown(data.get('model'))}: several processes train scl_vits alone. Use Coqui's own launcher."
            )
            raise ConfigError(msg)
        _leave_to_coqui(data.get("model"), others, skip)
        return None
    prepared = _prepared(arguments, data)
    run = prepared.run
    if parsed.continue_path:
        settle_checkpoints(Path(parsed.continue_path), run.config.reference_cache)
    # before a run folder is made; if anything fails, all that coqui-scl preflight finds is found
    checked = run.check("config", "data")
    if not (of_model := run.check("model")).passed:
        run.check("speech").raise_failures()
    run.model.parts.checked = _without_trainer(of_model, before=checked)
    if data.get("model") == "vits":
        sys.stderr.write(f"{_path_of(parsed)}: a vits config, trained as {run.config.model}.\n")
    return prepared


def _without_trainer(report: PreflightReport, before: PreflightReport) -> PreflightReport:
    """Return the results, among all up to the checks of the model, that a run need not find again with its trainer."""
    kept = _KEPT if torch.cuda.is_available() else (*_KEPT, "eval-mode")  # which may differ on the GPU
    earlier = {result.id for result in before.results}
    return PreflightReport([result for result in report.results if result.id in earlier or result.id in kept])


def _read(parsed: argparse.Namespace, content: dict[str, Any] | None) -> dict[str, Any]:
    return with_sections(content) if content is not None else read_config(_path_of(parsed))


def _prepared(arguments: Sequence[str], content: dict[str, Any] | None) -> _Prepared:
    """Return a run that is not checked. Raises ConfigError."""
    skip, arguments = _take_skipped(arguments)
    parsed, overrides = _parse(arguments)
    data = _read(parsed, content)
    if parsed.restore_path:
        check_checkpoint_exists(parsed.restore_path)
    config = resolved_config(data, overrides)
    written = config.to_dict()
    config.scl.preflight.skip += [id_ for id_ in skip if id_ not in config.scl.preflight.skip]
    check_skipped(config.scl.preflight.skip, "scl.preflight.skip")
    level = logging.INFO if processes.rank() == 0 else logging.ERROR
    setup_logger("TTS", level=level, stream=sys.stdout, formatter=ConsoleFormatter())
    args = TrainTTSArgs()
    args.parse_args(parsed)
    args.rank = processes.rank()
    run = PreparedRun(config, parsed.restore_path, written=data, names_stock_loss=names_stock_loss(data))
    return _Prepared(args, run, {**data, **written} if parsed.continue_path and overrides else None)


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the arguments into those of Coqui's command and overrides of the config."""
    parser = TrainTTSArgs().init_argparse(arg_prefix="")
    parser.add_argument("--skip", metavar="ID", help="Let a check of coqui-scl preflight fail; may be repeated.")
    parsed, overrides = parser.parse_known_args(list(arguments))
    del parsed.skip
    return parsed, overrides


def _path_of(parsed: argparse.Namespace) -> str:
    """Return the path of the config. Raises ConfigError."""
    path = parsed.config_path or (str(Path(parsed.continue_path) / "config.json") if parsed.continue_path else None)
    if path is None:
        raise ConfigError("train needs --config_path CONFIG, or --continue_path RUN.")
    return str(path)


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


def _trainer(prepared: _Prepared) -> CommandTrainer:
    """Make the trainer as `TTS.bin.train_tts.main` does, with the samples, the model and the encoders of the checks."""
    args, run = prepared.args, prepared.run
    train_samples, eval_samples = run.samples
    with own_folder(args, run.config.output_path) as output_path, contextlib.ExitStack() as starting:
        if prepared.overridden is not None:
            starting.enter_context(overridden(Path(args.continue_path) / "config.json", prepared.overridden))
        return CommandTrainer(
            args, run.model.config, output_path, model=run.model, train_samples=train_samples,
            eval_samples=eval_samples, parse_command_line_args=False,
        )  # fmt: skip
