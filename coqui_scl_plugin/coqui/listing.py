"""Runs Coqui's formatters on each metadata file by itself, and keeps what they warn of."""

import contextlib
import copy
import dataclasses
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from TTS.tts.configs.shared_configs import BaseDatasetConfig, BaseTTSConfig
from TTS.tts.datasets import load_tts_samples

from coqui_scl_plugin.coqui.vits_config import SclVitsConfig
from coqui_scl_plugin.preflight.listing import Listing

_COQUI = "TTS"


def list_datasets(config: SclVitsConfig) -> list[Listing]:
    """List what Coqui's formatters make of each metadata file of the data sets whose folder exists."""
    listings, has_table = [], bool(config.use_speaker_embedding or config.model_args.use_speaker_embedding)
    for index, dataset in enumerate(config.datasets):
        if not os.path.isdir(dataset.path):  # noqa: PTH112  # Path raises for names that are too long
            continue
        for key in ("meta_file_train", "meta_file_val"):
            if key == "meta_file_train" or dataset[key]:
                listing = _list(f"datasets.{index}.{key}", dataset, dataset[key])
                listings.append(dataclasses.replace(listing, has_speaker_table=has_table))
    return listings


def _list(key: str, dataset: BaseDatasetConfig, file: str) -> Listing:
    own = copy.copy(dataset)
    own.meta_file_train, own.meta_file_val, own.meta_file_attn_mask = file, "", ""
    known = {
        "key": key,
        "formatter": dataset.formatter,
        "folder": str(dataset.path),
        "file": file if isinstance(file, str) else "",
        "ignored_speakers": tuple(dataset.ignored_speakers or ()),
    }
    if is_no_file(dataset, file):
        return Listing(**known, error=OSError("it is no file"))
    with warnings_of_coqui() as warned:
        try:
            samples, _ = load_tts_samples(BaseTTSConfig(datasets=[own]), eval_split=False)
        except Exception as error:  # noqa: BLE001  # a formatter may be anybody's; the check `metadata` reports it
            return Listing(**known, error=error, warnings=tuple(warned))
    return Listing(**known, samples=samples, warnings=tuple(warned))


def is_no_file(dataset: BaseDatasetConfig, file: str) -> bool:
    """Tell whether a metadata file is a pipe or a device, which formatters would read without end."""
    try:
        mode = (Path(dataset.path) / (file or "")).stat().st_mode
    except (OSError, ValueError, TypeError):  # whatever else it is, formatters say so
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


class _Keeper(logging.Handler):
    """Keeps the messages of log records."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.kept.append(record.getMessage())
        except (TypeError, ValueError):  # a message of Coqui's that lacks its number
            self.kept.append(str(record.msg))


@contextlib.contextmanager
def warnings_of_coqui() -> Iterator[list[str]]:
    """Keep what Coqui logs within the block at the level of warnings and above, in place of showing it."""
    logger, keeper = logging.getLogger(_COQUI), _Keeper()
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [keeper], False
    logger.setLevel(logging.WARNING)
    try:
        yield keeper.kept
    finally:
        logger.handlers, logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
