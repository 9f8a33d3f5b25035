"""Check of the files and folders that Coqui's half of the config names."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from coqui_scl_plugin.preflight.conditioning import read_ids
from coqui_scl_plugin.preflight.config_values import shown_error
from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.report import Finding, some, warning
from coqui_scl_plugin.utils.checkpoint import read_checkpoint
from coqui_scl_plugin.utils.shown import typed

_D_VECTORS = "model_args.d_vector_file"
_STRUCTURE = '{"RECORDING": {"name": "SPEAKER", "embedding": [0.1, …]}, …}'
_MAX_RUN_NAME = 200
"""Bytes, to which Coqui's trainer adds the time and a commit; file systems take 255."""
_ENCODER = ("speaker_encoder_model_path", "speaker_encoder_config_path")


def check_files(facts: ConfigFacts) -> list[Finding]:
    """The files that Coqui's half of the config names exist and can be read, and its folders can be written to."""
    config = facts.config
    return [*_folders(config), *_tables(config), *_d_vectors(config), *_encoder(config), *_others(config)]


def lacks_encoder_of_loss(config: Any) -> bool:
    """Tell whether a file of the encoder that Coqui would load is absent, and is named by the section `scl`, too.

    The step `encoders` then tells of it.
    """
    paths = [getattr(config.model_args, name) for name in _ENCODER]
    absent = {str(path) for path in paths if path and _is_absent(path)}
    named = (*config.scl.encoders, *config.scl.holdout) if config.scl.enabled else ()
    return bool(absent & {str(value) for encoder in named for value in encoder.params.values()})


def _is_absent(path: Any) -> bool:
    """Tell whether a path, unless it is a URL, is no file."""
    try:
        return "://" not in str(path) and not Path(path).is_file()
    except (OSError, ValueError):  # a name that is too long, or has a null character
        return True


def _no_file(key: str, path: Any, change: str) -> Finding:
    return Finding(f"{key} = {typed(path, 200)}: there is no such file.", change)


# --- folders ----------------------------------------------------------------------------------------------------------


def _folders(config: Any) -> Iterator[Finding]:
    run = str(config.run_name)
    if not _is_name(run) or any(len(os.fsencode(part)) > _MAX_RUN_NAME for part in run.split("/")):
        found = f"run_name = {typed(run)}: no run folder can have this name."
        yield Finding(found, f"Choose one of at most {_MAX_RUN_NAME} bytes.")
    keys = ["output_path", *(["phoneme_cache_path"] if config.use_phonemes else [])]
    for key in keys:
        path = getattr(config, key)
        if not path or "://" in str(path):
            continue
        if why := _unwritable(Path(path)):
            yield Finding(f"{key} = {typed(path, 200)}: {why}.", "Name a folder that can be written to.")


def _unwritable(folder: Path) -> str:
    """Say why nothing can be written into a folder that exists or is to be made; empty if it can."""
    if not _is_name(str(folder)):
        return "no folder can have this name"
    try:
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    except OSError as error:
        return f"no folder can have this name ({type(error).__name__})"
    name = typed(str(there), 200)
    if not there.is_dir():
        return f"{name} is a file"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{name} cannot be written to"


def _is_name(name: str) -> bool:
    """Tell whether the system can encode a name."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return "\0" not in name


# --- tables of names --------------------------------------------------------------------------------------------------


def _tables(config: Any) -> Iterator[Finding]:
    args = config.model_args
    if args.use_speaker_embedding and args.speakers_file and _is_absent(args.speakers_file):
        found = (
            f"model_args.speakers_file = {typed(args.speakers_file, 200)}: there is no such file. Coqui numbers the "
            "speakers of the data instead."
        )
        yield warning(found, "Correct or remove it.")
    if args.use_language_embedding and (path := args.language_ids_file):
        key = "model_args.language_ids_file"
        if _is_absent(path):
            yield _no_file(key, path, "Correct it, or remove it: Coqui then numbers the languages of the data sets.")
        elif not read_ids(path) and "://" not in str(path):
            found = f"{key} = {typed(path, 200)}: must be a JSON file of languages and their numbers."
            yield Finding(found, 'It looks like {"en": 0, "fr": 1}.')


# --- d-vectors --------------------------------------------------------------------------------------------------------


def _d_vectors(config: Any) -> Iterator[Finding]:
    args = config.model_args
    if not args.use_d_vector_file or args.use_speaker_embedding:
        return
    files = args.d_vector_file if isinstance(args.d_vector_file, list | tuple) else [args.d_vector_file]
    if not any(files):
        twin = getattr(config, "d_vector_file", None)
        found = f"model_args.use_d_vector_file is true, but {_D_VECTORS} = {typed(args.d_vector_file)} names no file."
        instead = f" The key of the same name at the top level, {typed(twin)}, has no effect." if twin else ""
        yield Finding(found + instead, f"Set {_D_VECTORS}; coqui-scl embed --export makes such a file.")
        return
    names: dict[str, Any] = {}
    for file in files:
        try:
            entries = _entries(file)
        except _WrongFileError as error:
            yield Finding(f"{_D_VECTORS}: {typed(file, 200)}: {error}.", "coqui-scl embed --export makes such a file.")
            continue
        if twice := entries & names.keys():
            where = " and in ".join(typed(path, 200) for path in (names[min(twice)], file))
            found = f"{_D_VECTORS}: {some(twice)} are both in {where}, which Coqui refuses."
            yield Finding(found, "Give each entry of datasets its own dataset_name, and compute the files again.")
        names |= dict.fromkeys(entries, file)
    if not args.d_vector_dim:
        found = f"model_args.d_vector_dim = {typed(args.d_vector_dim)}, with model_args.use_d_vector_file."
        yield Finding(found, f"Set it to the length of the embeddings in {_D_VECTORS}.")


class _WrongFileError(Exception):
    """Why a file holds no d-vectors."""


def _entries(path: Any) -> set[str]:
    """Return the names of the recordings in a d-vector file; none for a URL. Raises _WrongFileError."""
    if "://" in str(path):
        return set()
    if _is_absent(path):
        raise _WrongFileError("there is no such file")
    suffix = Path(path).suffix
    if suffix not in (".json", ".pth"):
        raise _WrongFileError("its name must end in .json or .pth")
    try:
        content = json.loads(Path(path).read_text("utf-8")) if suffix == ".json" else read_checkpoint(str(path))
    except Exception as error:  # whatever json or torch raises
        raise _WrongFileError(f"it cannot be read ({shown_error(error)})") from error
    if not isinstance(content, Mapping) or not content:
        raise _WrongFileError(f"it must hold {_STRUCTURE}, but holds {typed(content)}")
    for name, entry in content.items():
        if not isinstance(entry, Mapping) or not {"name", "embedding"} <= entry.keys():
            raise _WrongFileError(f"it must hold {_STRUCTURE}, but {typed(name)} has {typed(entry)}")
        if not _is_vector(entry["embedding"]):
            raise _WrongFileError(
                f"the embedding of {typed(name)} is not a list of finite numbers: {_shown_vector(entry['embedding'])}"
            )
    return set(map(str, content))


def _is_vector(value: Any) -> bool:
    """Tell whether a value is a list of finite numbers: Coqui makes no batch of tensors."""
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_finite, value))


def _shown_vector(value: Any) -> str:
    """Show an embedding, or of a long one the first number that is none."""
    if not isinstance(value, list | tuple):
        return f"a {type(value).__name__}" if hasattr(value, "ndim") else typed(value)
    wrong = next((index for index, item in enumerate(value) if not _is_finite(item)), None)
    return "it is empty" if wrong is None else f"its number {wrong + 1} is {typed(value[wrong])}"


def _is_finite(number: Any) -> bool:
    return isinstance(number, int | float) and math.isfinite(number)


# --- others -----------------------------------------------------------------------------------------------------------


def _encoder(config: Any) -> Iterator[Finding]:
    """Check the encoder that Coqui loads itself."""
    paths = {name: getattr(config.model_args, name) for name in _ENCODER}
    if not paths[_ENCODER[0]] or lacks_encoder_of_loss(config):
        return
    for name, path in paths.items():
        if not path:
            found = f"model_args.{name} = {typed(path)} names no file, but model_args.{_ENCODER[0]} names an encoder."
            yield Finding(found, f"Set model_args.{name}, or remove both.")
        elif _is_absent(path):
            yield _no_file(f"model_args.{name}", path, "Correct it, or remove both keys speaker_encoder_*_path.")


def _others(config: Any) -> Iterator[Finding]:
    audio = config.audio
    if audio.stats_path and audio.signal_norm and _is_absent(audio.stats_path):
        yield _no_file("audio.stats_path", audio.stats_path, "Remove it: VITS does not need it.")
    for index, dataset in enumerate(config.datasets):
        if dataset.meta_file_attn_mask and _is_absent(dataset.meta_file_attn_mask):
            key = f"datasets.{index}.meta_file_attn_mask"
            yield _no_file(key, dataset.meta_file_attn_mask, "Remove it: VITS finds its alignments itself.")
