"""What each row of a VITS's tables stands for: in a model, and in a checkpoint with its config and the files beside it.

Names are of speakers, languages and characters, in the order of the rows.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from TTS.config import read_json_with_comments
from TTS.tts.configs.vits_config import VitsConfig
from TTS.tts.models.vits import Vits
from TTS.tts.utils.languages import LanguageManager
from TTS.tts.utils.text.characters import Graphemes, IPAPhonemes
from TTS.utils.generic_utils import import_class

from coqui_scl_plugin.preflight.restored import CHARACTERS, LANGUAGES, SPEAKERS
from coqui_scl_plugin.utils.log_level import log_level

Names = Sequence[str]

_COQUI = "TTS."
_SPEAKER_FILES = ("speakers.pth", "speakers.json", "speaker_ids.json", "speaker_ids.pth")
_LANGUAGE_FILES = ("language_ids.json", "language_ids.pth", "languages.json", "languages.pth")
"""Names under which Coqui's trainer and its released models keep the rows of a table, beside the checkpoint."""


def rows_of_model(model: Vits) -> dict[str, Names]:
    """Return the names of the rows of each table that a model may have."""
    managers = {SPEAKERS: model.speaker_manager, LANGUAGES: model.language_manager}
    rows = {table: _in_order(manager.name_to_id) for table, manager in managers.items() if manager is not None}
    characters = getattr(model.tokenizer, "characters", None)
    rows[CHARACTERS] = list(characters.vocab) if characters is not None else None
    return {table: names for table, names in rows.items() if names is not None}


def config_beside(path: Path) -> Mapping[str, Any]:
    """Return the config.json beside a checkpoint, as released models have one; empty if there is none."""
    try:
        config = read_json_with_comments(str(path.with_name("config.json")))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def rows_of_checkpoint(config: Mapping[str, Any], path: Path, sizes: Mapping[str, Sequence[int]]) -> dict[str, Names]:
    """Return the names of the rows of each table of a checkpoint; only of tables with a name for every row.

    Args:
        config: The config that it was trained with; empty if it is not known.
        path: The checkpoint, which may have files with names beside it.
        sizes: Size of each of its tensors.
    """
    found = {}
    for table, sources in _SOURCES.items():
        if (size := sizes.get(table)) is None or not size or not size[0]:
            continue
        for names in sources(config, path):
            if names is not None and len(names) == size[0]:
                found[table] = names
                break
    return found


def _speakers(config: Mapping[str, Any], path: Path) -> Iterator[Names | None]:
    yield _texts(config.get("speakers"))
    keys = ("speakers_file", "speaker_file")
    yield from _from_files(_values(config, keys), path, _SPEAKER_FILES)


def _languages(config: Mapping[str, Any], path: Path) -> Iterator[Names | None]:
    yield _texts(config.get("languages"))
    yield from _from_files(_values(config, ("language_ids_file",)), path, _LANGUAGE_FILES)
    if config:
        yield _in_order(_of_config(config, LanguageManager.parse_language_ids_from_config))


def _characters(config: Mapping[str, Any], _: Path) -> Iterator[Names | None]:
    if config:
        yield _texts(_of_config(config, _vocabulary))


_SOURCES: dict[str, Callable[[Mapping[str, Any], Path], Iterator[Names | None]]] = {
    SPEAKERS: _speakers,
    LANGUAGES: _languages,
    CHARACTERS: _characters,
}
"""Each in the order in which it is to be believed; Coqui itself reads the config first."""


def _of_config(config: Mapping[str, Any], read: Callable[[VitsConfig], Any]) -> Any:
    """Read something from a config as Coqui does; None if it is malformed."""
    keys = ("languages", "datasets", "phoneme_language", "characters", "use_phonemes")
    made = VitsConfig()
    try:
        with (
            warnings.catch_warnings(action="error"),
            log_level(logging.ERROR, "TTS"),
        ):  # Coqpit warns, then takes a default
            made.from_dict({key: config[key] for key in keys if key in config})
            return read(made)
    except Exception:  # noqa: BLE001  # whatever a foreign config brings about, its names are then unknown
        return None


def _vocabulary(config: VitsConfig) -> list[str] | None:
    """Return the characters of a config, as Coqui's tokenizer chooses them, but without building a phonemizer."""
    name = config.characters.characters_class if config.characters is not None else None
    if name and not name.startswith(_COQUI):  # a checkpoint must not choose what is imported
        return None
    kind = import_class(name) if name else IPAPhonemes if config.use_phonemes else Graphemes
    characters, _ = kind.init_from_config(config)
    return list(characters.vocab)


def _values(config: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Return the paths that the config and its `model_args` have under keys."""
    args = config.get("model_args")
    sections = [config, args] if isinstance(args, Mapping) else [config]
    values = [section.get(key) for section in sections for key in keys]
    return [value for value in values if isinstance(value, str) and value]


def _from_files(named: Sequence[str], path: Path, usual: Sequence[str]) -> Iterator[Names | None]:
    """Read files that map names to rows: beside the checkpoint under the names in its config, there, and elsewhere."""
    for name in [*(Path(value).name for value in named), *usual]:
        yield _read_ids(path.with_name(name)) if name else None
    for value in named:
        yield _read_ids(Path(value))


def _read_ids(path: Path) -> Names | None:
    try:
        if path.suffix == ".json":
            return _in_order(json.loads(path.read_text(encoding="utf-8")))
        return _in_order(torch.load(path, map_location="cpu", weights_only=True)) if path.is_file() else None
    except Exception:  # noqa: BLE001  # a file that is not there, or of another kind, names nobody
        return None


def _in_order(ids: Any) -> Names | None:
    """Return the names of a mapping to rows in the order of rows; None unless there is one for each row."""
    if not isinstance(ids, Mapping) or not all(type(value) is int for value in ids.values()):
        return None
    names = sorted(ids, key=lambda name: ids[name])
    return _texts(names) if [ids[name] for name in names] == list(range(len(names))) else None


def _texts(names: Any) -> Names | None:
    is_list = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return list(names) if is_list else None
