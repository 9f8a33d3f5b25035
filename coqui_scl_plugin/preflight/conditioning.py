"""Checks of what tells the model who speaks, and in which language."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from coqui_scl_plugin.preflight.facts import ConfigFacts, DataFacts
from coqui_scl_plugin.preflight.report import NEEDS, Finding, NotMeasuredError, some, warning
from coqui_scl_plugin.utils.shown import typed

_SPEAKERS, _D_VECTORS, _LANGUAGES = "use_speaker_embedding", "use_d_vector_file", "use_language_embedding"


def check_conditioning(facts: DataFacts) -> list[Finding]:
    """A model of several speakers or languages is told of them, in one way."""
    args = facts.config.model_args
    if args.use_speaker_embedding and args.use_d_vector_file:
        found = (
            f"model_args.{_SPEAKERS} and model_args.{_D_VECTORS} are both true: Coqui then reads no d-vectors, and "
            "makes no table of speakers either."
        )
        return [Finding(found, "Set one of them to false."), *_languages(facts)]
    return [*_speakers(facts), *_languages(facts)]


def _at_top(facts: ConfigFacts, name: str) -> bool:
    """Tell whether a switch is on at the top level of the config, where Coqui's VITS does not look."""
    written = facts.written if facts.written is not None else {}
    return getattr(facts.config, name, False) is True or written.get(name) is True


def _speakers(facts: DataFacts) -> Iterator[Finding]:
    args = facts.config.model_args
    if args.use_speaker_embedding or args.use_d_vector_file:
        return
    names = {str(sample["speaker_name"]) for sample in facts.train_samples or ()}
    ignored = [name for name in (_SPEAKERS, _D_VECTORS) if _at_top(facts, name)]
    twin = "".join(
        f" {name} = true at the top level has no effect: Coqui's VITS reads model_args.{name}, which is false."
        for name in ignored
    )
    change = f"Set {' or '.join(f'model_args.{name}' for name in ignored or (_SPEAKERS, _D_VECTORS))} to true."
    if len(names) > 1:
        found = f"The data has {len(names)} speakers ({some(names)}), but the model is told of none.{twin}"
        yield Finding(found, change if ignored else f"{change} To train one voice on all of them, skip this check.")
    elif ignored:
        yield warning(twin.strip(), change)


def _languages(facts: DataFacts) -> Iterator[Finding]:
    config = facts.config
    if config.model_args.use_language_embedding:
        return
    own = {str(dataset.language) for dataset in config.datasets if dataset.language}
    languages = {language.partition("-")[0].lower() for language in own}
    is_ignored = _at_top(facts, _LANGUAGES)
    twin = f"{_LANGUAGES} = true has no effect at the top level alone: Coqui's VITS reads model_args.{_LANGUAGES}"
    change = f"Set model_args.{_LANGUAGES} to true."
    if len(languages) > 1:
        found = f"The data sets have {len(languages)} languages ({some(own)}), but the model is told of none."
        yield Finding(f"{found} {twin}." if is_ignored else found, change)
    elif is_ignored:
        yield Finding(f"{twin}, which is false.", f"{change} For a model of one language, remove the key instead.")


# --- languages --------------------------------------------------------------------------------------------------------


def check_languages(facts: ConfigFacts) -> list[Finding]:
    """Where the model has a table of languages, each data set has a language that is in it."""
    config = facts.config
    if not config.model_args.use_language_embedding:
        return []
    known = known_languages(config)
    if known is None:
        raise NotMeasuredError(f"{NEEDS} files.")
    return [*_data_set_languages(config, known)]


def _data_set_languages(config: Any, known: Sequence[str]) -> Iterator[Finding]:
    file, on = config.model_args.language_ids_file, f"model_args.{_LANGUAGES} is true"
    where = "languages" if not file else f"model_args.language_ids_file ({file})"
    for index, dataset in enumerate(config.datasets):
        key = f"datasets.{index}.language"
        if not dataset.language:
            found = f"{key} = {typed(dataset.language)}: {on}, so the samples of this data set need a language."
            yield Finding(found, f"Set it{f' to one of {some(known)}' if file else ', for example to en'}.")
        elif dataset.language not in known:
            found = f"{key} = {typed(dataset.language)}: {on}, but {where} has only {some(known)}."
            yield Finding(found, f"Correct it, or add it to {where}.")


def known_languages(config: Any) -> list[str] | None:
    """Return the languages of a model, in Coqui's order; None if the file that has them cannot be read."""
    args = config.model_args
    if args.use_language_embedding and args.language_ids_file:
        table = read_ids(args.language_ids_file)
        return None if table is None else list(table)
    own = sorted({dataset.language for dataset in config.datasets if dataset.language})
    return list(config.languages or own or filter(None, [config.phoneme_language])) or ["en"]


def read_ids(path: Any) -> Mapping[str, int] | None:
    """Return a JSON file of names and their numbers; None if it is not one, or not a local file."""
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    is_table = isinstance(table, dict) and all(type(number) is int for number in table.values())
    return table if is_table else None
