"""What a run that is continued does before Coqui's trainer reads its checkpoint, and what every run folder gets."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer import Trainer

from coqui_scl_plugin.coqui.distributed import is_main_process
from coqui_scl_plugin.coqui.sound_checkpoint import find_sound, why_torn
from coqui_scl_plugin.coqui.whole_files import write_whole
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.atomic import replacing
from coqui_scl_plugin.utils.leftovers import remove_leftovers


def tidy_folder(folder: Path) -> None:
    """Let files in a run folder be written whole, and remove what dead processes left unfinished in it."""
    write_whole(folder)
    remove_leftovers(folder)


def settle_checkpoints(folder: Path, cache: Path | None) -> None:
    """Make a run folder ready to be continued, before anything is built: torn checkpoints are set aside.

    Args:
        folder: The run folder.
        cache: The reference cache, if there is one.

    Raises:
        ConfigError: the run has no sound checkpoint.
    """
    tidy_folder(folder)
    if cache is not None:
        remove_leftovers(cache.parent, f"{cache.stem}.*")
    if message := find_sound(folder).message:
        sys.stderr.write(f"{message}\n")


@contextlib.contextmanager
def overridden(path: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """Write the config of a run that continues with overrides, as Coqui's trainer does; put it back if the block fails.

    Args:
        path: The config file of the run.
        config: What it holds with the overrides.
    """
    former = path.read_bytes()
    try:
        _replace(path, json.dumps(config, indent=4).encode())
        yield
    except BaseException:
        _replace(path, former)
        raise


def _replace(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def settle_run(trainer: Trainer, cache: Path | None) -> None:
    """Do the same for a trainer that has made its folder, and let it go on from the newest sound checkpoint.

    Raises:
        ConfigError: a run that is continued has no sound checkpoint, or `--best_path` names a torn one.
    """
    folder = Path(trainer.output_path)
    write_whole(folder)
    if is_main_process(trainer):
        remove_leftovers(folder)
        if cache is not None:
            remove_leftovers(cache.parent, f"{cache.stem}.*")
    if not trainer.continue_run:
        return
    found = find_sound(folder)
    if found.message and is_main_process(trainer):
        sys.stderr.write(f"{found.message}\n")
    given = Path(str(trainer.args.best_path or ""))
    trainer.args.restore_path = str(found.checkpoint)
    if not given.is_file() or given.resolve().parent == folder.resolve():  # another one was asked for
        trainer.args.best_path = str(found.best)
    elif (torn := why_torn(given)) is not None:
        raise ConfigError(f"--best_path {given} is {torn}. Leave it out to take the best model of the run.")
