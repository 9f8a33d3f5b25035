"""The texts of a data set as the model's tokenizer reads them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from TTS.tts.models.vits import Vits
from TTS.tts.utils.languages import normalize_language

from coqui_scl_plugin.coqui.samples import Sample
from coqui_scl_plugin.preflight.facts import Texts


def read_texts(model: Vits, config: Any, samples: Iterable[Sample]) -> list[Texts]:
    """Clean the texts and compare them with the model's alphabet; an empty list if it reads phonemes."""
    tokenizer = model.tokenizer
    if tokenizer is None or tokenizer.use_phonemes:
        return []
    groups: dict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)
    cleaned: dict[tuple[str, str], str] = {}
    for sample in samples:
        text, language = sample["text"] or "", sample.get("language") or ""
        if (text, language) not in cleaned:
            cleaned[text, language] = _clean(tokenizer, text, language)
        name = str(sample["audio_unique_name"])
        groups[name.partition("#")[0], language].append((name, text, cleaned[text, language]))
    alphabet = {character for character in tokenizer.characters.vocab if len(character) == 1}
    return [_of_group(*key, group, alphabet, tokenizer, config) for key, group in groups.items()]


def spoken_of(model: Vits, text: str, language: str) -> str:
    """Return what is left of a text after the cleaner and the alphabet; the text itself if it becomes phonemes."""
    tokenizer = model.tokenizer
    if tokenizer is None or tokenizer.use_phonemes:
        return text
    alphabet = set(tokenizer.characters.vocab)
    return "".join(character for character in _clean(tokenizer, text, language) if character in alphabet)


def _clean(tokenizer: Any, text: str, language: str) -> str:
    if tokenizer.text_cleaner is None:
        return text
    return str(tokenizer.text_cleaner(text, lang=normalize_language(language)))


def _of_group(
    dataset: str,
    language: str,
    group: Sequence[tuple[str, str, str]],
    alphabet: set[str],
    tokenizer: Any,
    config: Any,
) -> Texts:
    counts: Counter[str] = Counter()
    emptied, overlong, lengths = [], [], dict[str, int]()
    for name, written, text in group:
        counts.update(text)
        left = sum(character in alphabet for character in text)
        if not any(character in alphabet and not character.isspace() for character in text):
            emptied.append(name)
        tokens = (2 * left + 1 if tokenizer.add_blank else left) + (2 if tokenizer.use_eos_bos else 0)
        if len(written) <= config.max_text_len < tokens:
            overlong.append(name)
        lengths[name] = tokens
    letters = {character: count for character, count in counts.items() if not character.isspace()}
    unknown = {character: count for character, count in letters.items() if character not in alphabet}
    return Texts(
        dataset, language, len(group), sum(letters.values()), unknown, tuple(emptied), tuple(overlong), lengths
    )
