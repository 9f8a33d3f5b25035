"""`coqui-scl train`."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from coqui_scl_plugin.coqui.launch import launched
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.imports import importing


def train(ctx: typer.Context) -> None:
    """Train a model: TTS.bin.train_tts with every flag of its own (-h lists them), and --skip ID.

    The config is checked first; nothing is written if it cannot be used. --coqpit.scl.weight 5 and the like override
    single values. A stock config with use_speaker_encoder_as_loss is trained as scl_vits. --skip ID lets a check of
    coqui-scl preflight fail; the run folder records it.
    """
    launch = launched(ctx.args)  # before torch is imported
    # of several processes, the main one says what is wrong
    content = _read_config(ctx.args) if launch.count == 1 else None
    with importing():
        from coqui_scl_plugin.coqui.train_tts import train as train_tts

    train_tts(ctx.args, launch, content)


def _read_config(arguments: Sequence[str]) -> dict[str, Any] | None:
    """Read the config, before the imports of seconds and of hundreds of MB; None if none is named.

    Raises:
        ConfigError: it cannot be read.
    """
    import argparse

    from coqui_scl_plugin.config import read_config_file

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config_path", nargs="?")
    parser.add_argument("--continue_path", nargs="?")
    given, _ = parser.parse_known_args(list(arguments))
    if path := given.config_path or (given.continue_path and str(Path(given.continue_path) / "config.json")):
        try:
            return read_config_file(path)
        except ConfigError as error:
            copy = "" if given.config_path else _copy_in_a_checkpoint(Path(given.continue_path))
            raise ConfigError(f"{error}{copy}") from error
    return None


def _copy_in_a_checkpoint(folder: Path) -> str:
    """Say how to write the config of a run anew from its newest checkpoint, or that a path is no folder of a run."""
    if folder.is_file():
        return f" --continue_path takes the folder of a run, here {folder.parent}."
    checkpoints = [path for path in folder.glob("*.pth") if path.name.startswith(("checkpoint_", "best_model"))]
    if not checkpoints:
        return ""
    newest = max(checkpoints, key=lambda path: path.lstat().st_mtime)
    return (
        f' {newest.name} holds a copy. To write it: python -c "import json, torch; print(json.dumps(torch.load('
        f"{str(newest)!r}, weights_only=True)['config'], indent=4))\" > {shlex.quote(str(folder / 'config.json'))}"
    )


if __name__ == "__main__":  # as python -m trainer.distribute --script FILE starts a script
    from coqui_scl_plugin.cli import main

    sys.argv[1:1] = ["train"]
    main()
