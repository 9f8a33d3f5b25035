"""Texts as the model's tokenizer reads them: what it drops, by data set and language, and how many tokens it makes."""

from types import SimpleNamespace
from typing import Any

import pytest
from TTS.tts.models.vits import VitsCharacters
from TTS.tts.utils.text import cleaners
from TTS.tts.utils.text.tokenizer import TTSTokenizer

from coqui_scl_plugin.coqui.texts import read_texts
from coqui_scl_plugin.preflight.facts import Texts


def model(**how: Any) -> Any:
    characters = VitsCharacters(graphemes="abcde", punctuations="!. ", ipa_characters="")
    return SimpleNamespace(tokenizer=TTSTokenizer(characters=characters, text_cleaner=cleaners.basic_cleaners, **how))


def sample(text: str, name: str = "d#x", language: str = "en") -> dict[str, str]:
    return {"text": text, "audio_unique_name": name, "language": language}


def read(*samples: dict[str, str], limit: float = 999, **how: Any) -> list[Texts]:
    return read_texts(model(**how), SimpleNamespace(max_text_len=limit), samples)


def test_characters_are_counted_after_the_cleaner_by_data_set_and_language() -> None:
    samples = [sample("A bad Zebra!"), sample("ace", "e#x"), sample("zz", "d#y", "pl"), sample("bed", "d#z")]
    by_group = {(texts.dataset, texts.language): texts for texts in read(*samples)}
    assert by_group.keys() == {("d", "en"), ("e", "en"), ("d", "pl")}
    assert by_group["d", "en"] == Texts("d", "en", 2, 13, {"z": 1, "r": 1}, tokens={"d#x": 10, "d#z": 3})
    assert by_group["e", "en"].unknown == {}
    assert by_group["d", "pl"].unknown == {"z": 2}


def test_texts_of_which_nothing_is_left_are_named() -> None:
    (texts,) = read(sample("zz zz", "d#gone"), sample("  ", "d#blank"), sample("", "d#none"), sample("a"))
    assert texts.emptied == ("d#gone", "d#blank", "d#none")


@pytest.mark.parametrize(
    ("how", "tokens"),
    [({}, 3), ({"add_blank": True}, 7), ({"use_eos_bos": True}, 5), ({"add_blank": True, "use_eos_bos": True}, 9)],
)
def test_tokens_are_as_many_as_coqui_makes(how: dict[str, bool], tokens: int) -> None:
    own = model(**how).tokenizer
    if not how.get("use_eos_bos"):
        assert len(own.text_to_ids("abcz", "en")) == tokens
    for limit, overlong in ((tokens, []), (tokens - 0.5, ["d#x"])):
        (texts,) = read(sample("abc"), limit=max(limit, 3), **how)
        assert texts.longest == tokens
        assert list(texts.overlong) == (overlong if tokens > 3 else [])


def test_what_becomes_phonemes_is_not_read() -> None:
    phonemes = model()
    phonemes.tokenizer.use_phonemes = True
    assert read_texts(phonemes, SimpleNamespace(max_text_len=9), [sample("zz")]) == []
