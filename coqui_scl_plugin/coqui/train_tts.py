"""`TTS.bin.train_tts`, but with the config checked and the encoders loaded before a run folder is made."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from trainer import Trainer
from TTS.bin.train_tts import TrainTTSArgs, main
from TTS.config import register_config
from TTS.tts.models import setup_model
from TTS.utils.generic_utils import ConsoleFormatter, setup_logger

from coqui_scl_plugin.consistency.build import build_consistency
from coqui_scl_plugin.consistency.term import SpeakerConsistency
from coqui_scl_plugin.coqui.run_config import asks_for_scl, check_checkpoint, read_config, resolved_config
from coqui_scl_plugin.coqui.samples import Samples, list_samples
from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.preflight.checks import check_skipped
from coqui_scl_plugin.utils.suggest import did_you_mean


def train(arguments: Sequence[str]) -> None:
    """Do what `python -m TTS.bin.train_tts ARGUMENTS` does, with the additional option `--skip ID`.

    A stock config with stock's speaker consistency loss on is trained as `scl_vits`; any other model is left to
    Coqui's command.

    Raises:
        ConfigError: the config or an argument cannot be used.
        EncoderError: an encoder that the config names cannot be loaded.
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
        check_checkpoint(parsed.restore_path)
    config = resolved_config(data, overrides)
    config.scl.preflight.skip += [id_ for id_ in skip if id_ not in config.scl.preflight.skip]
    samples = list_samples(config)
    # built first, so that an encoder that cannot be loaded leaves no run folder behind
    consistency = build_consistency(config.scl) if config.scl.enabled else None
    if data.get("model") == "vits":
        sys.stderr.write(f"{path}: a vits config, trained as {config.model}.\n")
    del parsed.skip
    args.parse_args(parsed)
    _train(args, config, samples, consistency)


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
        raise ConfigError(f"model = {model!r}: Coqui has no such model. {known}") from error
    if skip:
        raise ConfigError(f"--skip {skip[0]}: this config trains a model of Coqui's own, without any check.")
    main(list(arguments))


def _train(
    args: TrainTTSArgs,
    config: SclVitsConfig,
    samples: tuple[Samples, Samples],
    consistency: SpeakerConsistency | None,
) -> None:
    """Train as `TTS.bin.train_tts.main` does, with samples that are already listed and encoders that are loaded."""
    setup_logger("TTS", level=logging.INFO, stream=sys.stdout, formatter=ConsoleFormatter())
    # Coqui seeds only after the model is made, so two runs of one config would start from different weights
    torch.manual_seed(config.training_seed)
    model = setup_model(config)
    model.parts.take_consistency(consistency)
    trainer = Trainer(
        args, model.config, config.output_path, model=model, train_samples=samples[0], eval_samples=samples[1],
        parse_command_line_args=False,
    )  # fmt: skip
    trainer.fit()
