"""Coqui's trainer as `coqui-scl train` runs it: an error is raised, not printed, and no half a run folder is left."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock
from trainer import Trainer
from trainer.generic_utils import get_experiment_folder_path, remove_experiment_folder
from trainer.logging import DummyLogger

from coqui_scl_plugin.coqui.run_folder import holds_model
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.atomic import replacing
from coqui_scl_plugin.utils.disk_error import disk_error
from coqui_scl_plugin.utils.locked import held_alone, let_go

_CONFIG = "config.json"


class CommandTrainer(Trainer):
    """A trainer whose errors reach the caller of `train`, which says them in one message.

    `Trainer.fit` prints a traceback for any error, whatever it is, and exits with 1. What it calls to do the work is
    wrapped here, so that it sees none.
    """

    _failure: Exception | None = None
    _lock: FileLock | None = None
    """That on the run folder, so that no other process continues the run meanwhile."""

    def __init__(self, args: Any, config: Any, output_path: str, **more: Any) -> None:
        """Make the run folder and prepare the run, as the trainer does.

        A folder in which the run cannot start, as on a full disk, is removed, and the config of a run that is continued
        is as it was.

        Raises:
            ConfigError: another run has the folder, since Coqui names folders by the minute alone; or another process
                trains the run that is to be continued.
        """
        continued = Path(args.continue_path) / _CONFIG if args.continue_path else None
        former = continued.read_bytes() if continued is not None else b""
        folder = get_experiment_folder_path(output_path, config.run_name)
        is_new = False
        try:
            if continued is None:
                is_new = _claim(folder)
            if args.rank in (None, 0):
                self._lock = _lock(Path(args.continue_path or folder))
            super().__init__(args, config, output_path, **more)
        except BaseException as error:
            let_go(self._lock)
            place = Path(getattr(self, "output_path", folder))
            _name(error, place)
            if continued is not None:
                _put_back(continued, former)
            elif is_new:
                _discard(place)
            raise
        if is_new and Path(self.output_path) != folder:  # the minute has changed
            folder.rmdir()
            let_go(self._lock)
            self._lock = _lock(Path(self.output_path))

    def train(self) -> None:
        """Train, and raise what went wrong."""
        try:
            self.fit()
        finally:
            let_go(self._lock)
        if self._failure is not None:
            _name(self._failure, self.output_path)
            raise self._failure

    def _fit(self) -> None:
        try:
            super()._fit()
            if self.args.rank == 0:
                self.dashboard_logger.finish()
        except Exception as error:  # noqa: BLE001  # raised by `train`
            self._failure = error
            remove_experiment_folder(self.output_path)
            with contextlib.suppress(Exception):  # the disk may still be full
                self.dashboard_logger.finish()
        self.dashboard_logger = DummyLogger()  # `fit` finishes it again


def _name(error: BaseException, folder: Path) -> None:
    """Let the error of a disk that names no file, as that of a full one, name the run folder."""
    if (found := disk_error(error)) is not None and found.filename is None:
        found.filename = str(folder)


def _claim(folder: Path) -> bool:
    """Make a run folder, of several processes in one alone; True. Raises ConfigError if it is there."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise ConfigError(
            f"The run folder {folder} is that of another run, since Coqui names it by the minute in which a run "
            "starts. Start this run a minute later, or give it a name of its own: --coqpit.run_name NAME."
        ) from error
    return True


def _lock(folder: Path) -> FileLock | None:
    """Hold the lock on a run folder. Raises ConfigError if another process does."""
    try:
        return held_alone(folder)
    except BlockingIOError as error:
        raise ConfigError(
            f"The run {folder} is being trained by another process, which would write the same files. Let it end, or "
            "end it, then continue the run."
        ) from error


def _put_back(file: Path, content: bytes) -> None:
    """Let a file be as it was before it was written anew."""
    with contextlib.suppress(OSError):
        if file.read_bytes() != content:
            with replacing(file) as temporary:
                temporary.write_bytes(content)


def _discard(folder: Path) -> None:
    """Remove a run folder that holds no model."""
    if not holds_model(folder):
        shutil.rmtree(folder, ignore_errors=True)
