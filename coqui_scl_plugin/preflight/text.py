"""Check of how text becomes symbols: cleaner, phonemizer and characters."""

from collections.abc import Iterator
from typing import Any

from coqui_scl_plugin.preflight.config_values import shown_error
from coqui_scl_plugin.preflight.coqui_tools import CoquiTools, Phonemizers
from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.report import Finding, some
from coqui_scl_plugin.utils.shown import typed
from coqui_scl_plugin.utils.suggest import nearest

_MULTI = "multi_phonemizer"
_MAX_LISTED = 20
_ADDED = {"add_blank": ("blank",), "enable_eos_bos_chars": ("bos", "eos")}
"""The symbols that each switch adds to texts."""
_ALL_SYMBOLS = ("characters", "punctuations")
_ALIASES = {"espeak": {"en": "en-us", "zh-cn": "cmn"}}
"""Languages that a phonemizer takes under another name than it lists."""


def check_text(facts: ConfigFacts) -> list[Finding]:
    """The cleaner, the phonemizer and the characters of the config exist, and fit each other."""
    config, coqui = facts.config, facts.coqui
    if coqui is None:
        return []
    findings = [*_cleaner(config, coqui), *(_phonemes(config, coqui) if config.use_phonemes else ())]
    return findings or [*_tokenizer(config, coqui)]


def _did_you_mean(name: Any, known: Any, what: str) -> str:
    names = sorted(known)
    near = nearest(name, names, cutoff=0.5)
    listing = f"{what}: {', '.join(names[:_MAX_LISTED])}{' and more' if len(names) > _MAX_LISTED else ''}."
    return f"Did you mean {near[0]!r}? {listing}" if near else listing


def _cleaner(config: Any, coqui: CoquiTools) -> Iterator[Finding]:
    name = config.text_cleaner
    if name is not None and name not in coqui.cleaners:
        found = f"text_cleaner = {typed(name)}: Coqui has no such cleaner."
        yield Finding(found, _did_you_mean(name, coqui.cleaners, "It has"))


# --- phonemes ---------------------------------------------------------------------------------------------------------


def _phonemes(config: Any, coqui: CoquiTools) -> Iterator[Finding]:
    if not config.phoneme_cache_path:
        found = (
            f"phoneme_cache_path = {typed(config.phoneme_cache_path)}: phoneme_cache_path is needed with use_phonemes."
        )
        yield Finding(found, 'Name a folder that Coqui may make, e.g. "phoneme_cache".')
    known = coqui.phonemizers()
    if config.phonemizer == _MULTI:
        for index, dataset in enumerate(config.datasets):
            key = f"datasets.{index}"
            if not dataset.language:
                found = (
                    f"{key}.language = {typed(dataset.language)}: phonemizer = {_MULTI!r} needs one for each data set."
                )
                yield Finding(found, "Set it, for example to en-us.")
            else:
                keys = (f"{key}.phonemizer", f"{key}.language")
                yield from _phonemizer(known, keys, dataset.phonemizer, dataset.language)
    else:
        yield from _phonemizer(known, ("phonemizer", "phoneme_language"), config.phonemizer, config.phoneme_language)


def _phonemizer(known: Phonemizers, keys: tuple[str, str], name: Any, language: Any) -> Iterator[Finding]:
    """Check a phonemizer and its language, which `keys` have; without a name, Coqui takes the language's default."""
    key, language_key = keys
    if not language:
        found = f"{language_key} = {typed(language)}: with use_phonemes, the phonemizer needs a language."
        yield Finding(found, "Set it, for example to en-us.")
        return
    if name and name in known.absent:
        found = f"{key} = {typed(name)}: this phonemizer is not installed."
        yield Finding(found, f"Install it: {known.absent[name]}; or name one of {some(known.languages)}.")
    elif name and name not in known.languages:
        found = f"{key} = {typed(name)}: Coqui has no such phonemizer."
        names = [*known.languages, *known.absent, _MULTI]
        yield Finding(found, _did_you_mean(name, names, "It has"))
    elif not name and language not in known.default:
        found = f"{language_key} = {typed(language)}: no phonemizer that is installed has this language."
        absent = "; ".join(f"{absent}: {how}" for absent, how in known.absent.items())
        yield Finding(
            found, f"{_did_you_mean(language, known.default, 'They have')} Not installed: {absent or 'none'}."
        )
    elif name and not _speaks(known, name, language):
        found = f"{language_key} = {typed(language)}: {name} does not have this language."
        yield Finding(found, _did_you_mean(language, known.languages[name], "It has"))


def _speaks(known: Phonemizers, name: str, language: Any) -> bool:
    return _ALIASES.get(name, {}).get(language, language) in known.languages[name]


# --- characters -------------------------------------------------------------------------------------------------------


def _tokenizer(config: Any, coqui: CoquiTools) -> Iterator[Finding]:
    """Make the tokenizer, which fails where the characters or their class cannot be used."""
    own = config.characters
    try:
        symbols = coqui.make_tokenizer(config).characters
        if None in getattr(symbols, "vocab", ()):
            yield Finding("characters.pad = null: texts are padded with this symbol.", "Set it, e.g. to '_'.")
        else:
            yield from _added_symbols(symbols, config)
    except Exception as error:  # noqa: BLE001  # whatever Coqui raises, the model would end with it
        name = getattr(own, "characters_class", None)
        lacking = [key for key in _ALL_SYMBOLS if own is not None and getattr(own, key) is None]
        if lacking and isinstance(error, TypeError):
            found = f"characters.{lacking[0]} = null: a section characters must name all symbols"
            change = f"Set {' and '.join(f'characters.{key}' for key in lacking)}, or remove the whole section."
        elif name and isinstance(error, ImportError | AttributeError | ValueError | TypeError):
            found = f"characters.characters_class = {typed(name)} with these characters cannot be used"
            change = (
                "Name an importable subclass of BaseCharacters, or remove it; correct the other keys of characters."
            )
        elif own is not None:
            found = "The symbols of the section characters (characters, punctuations, pad, eos, bos, blank, phonemes, "
            found += f"with is_unique = {typed(own.is_unique)}) cannot be used"
            change = "Correct them; each symbol may occur once."
        else:
            found, change = "Coqui's tokenizer cannot be made of this config", "Correct characters and the phonemizer."
        yield Finding(f"{found}: {type(error).__name__}: {shown_error(error)}.", change)


def _added_symbols(symbols: Any, config: Any) -> Iterator[Finding]:
    """Check that the alphabet has what is added to texts: the number of what it lacks is beyond the model's table."""
    for switch, names in _ADDED.items():
        lacking = [name for name in names if getattr(symbols, f"{name}_id", -1) >= len(getattr(symbols, "vocab", ()))]
        if getattr(config, switch) and lacking:
            found = (
                f"{switch} = true, but the model's alphabet has no {' and no '.join(lacking)}, so a step would fail."
            )
            keys = " and ".join(f"characters.{name}" for name in lacking)
            is_of_vits = type(symbols).__name__ == "VitsCharacters"  # which has neither, whatever the config says
            yield Finding(found, f"Set {switch} to false{'' if is_of_vits else f', or {keys} to a symbol'}.")
