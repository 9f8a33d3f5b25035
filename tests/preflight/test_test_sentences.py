"""Test sentences that Coqui cannot speak at the end of an epoch are found before step 1."""

import dataclasses
from typing import Any

import pytest

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.preflight.facts import RunFacts
from coqui_scl_plugin.preflight.report import Finding
from coqui_scl_plugin.preflight.sentences import check_test_sentences

NOTHING: dict[str, Any] = {field.name: None for field in dataclasses.fields(RunFacts)}
SHAPE = "[text, speaker, style_wav, language]"


def findings(sentences: Any, languages: tuple[str, ...] = ("en",), **config: Any) -> list[Finding]:
    made = SclVitsConfig(test_sentences=sentences, languages=list(languages), epochs=2, **config)
    facts = NOTHING | {"config": made, "speakers": ["a", "b"], "spoken_of": lambda text, _: text.replace("п", "")}
    return check_test_sentences(RunFacts(**facts))


@pytest.mark.parametrize("sentences", [[], ["a text"], [["a text"], ["a text", None], ["a text", "b", None, "en"]]])
def test_sentences_that_can_be_spoken(sentences: Any) -> None:
    assert findings(sentences) == []


@pytest.mark.parametrize(
    ("sentences", "words"),
    [
        (None, ("test_sentences = null", "must be a list", SHAPE)),
        (["a text", ["ппп", "a"]], ("test_sentences.1", "nothing of 'ппп' is in the model's alphabet")),
        ("a text", ("test_sentences = 'a text'", "must be a list", SHAPE)),
        ([["a text", "a", None, "en", 1]], ("test_sentences.0", "5 entries", SHAPE)),
        ([["a text"], []], ("test_sentences.1 = []", "0 entries")),
        ([{"text": "a text"}], ("test_sentences.0 = {'text'", SHAPE)),
        ([[3, "a"]], ("test_sentences.0", "the text 3")),
        ([["a text", 7]], ("test_sentences.0", "the speaker 7")),
        ([["a text", "a", None, 1]], ("test_sentences.0", "the language 1")),
        ([["a text", "c"]], ("1 of 1 speakers of test_sentences", "'c'")),
    ],
)
def test_sentences_that_end_the_run(sentences: Any, words: tuple[str, ...]) -> None:
    (finding,) = findings(sentences)
    assert [word for word in words if word not in finding.found] == [], finding.found
    assert finding.is_error
    assert "after an epoch" in finding.change
    assert findings(sentences, test_delay_epochs=2) == []


def test_a_model_of_several_languages_needs_one_for_each_sentence() -> None:
    (finding,) = findings([["a text", "a", None, "de"], ["a text", "a"]], ("de", "en"))
    assert "test_sentences.1 has no language" in finding.found
    assert "2 languages" in finding.found
    (finding,) = findings([["a text", "a", None, "fr"]], ("de", "en"))
    assert "1 of 1 languages of test_sentences" in finding.found
    assert findings([["a text", "a", None, "fr"]], ("de",)) == []
    assert findings([["a text", "a", None, "en"]], ("de", "en")) == []


@pytest.mark.parametrize("add_blank", [True, False])
def test_an_empty_text_ends_the_run_without_blanks_alone(add_blank: bool) -> None:
    (finding,) = findings(["a text", " "], add_blank=add_blank)
    assert finding.found == "test_sentences.1: the text is empty."
    assert finding.is_error is not add_blank
