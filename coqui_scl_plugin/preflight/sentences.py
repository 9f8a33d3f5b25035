"""Check of the test sentences, which Coqui speaks at the end of an epoch."""

from collections.abc import Iterator, Sequence
from typing import Any

from coqui_scl_plugin.preflight.conditioning import known_languages
from coqui_scl_plugin.preflight.facts import RunFacts
from coqui_scl_plugin.preflight.report import Finding, some
from coqui_scl_plugin.preflight.speakers import missing, speakers_of
from coqui_scl_plugin.utils.shown import typed

_CHANGE = "Correct test_sentences: the run would end when it synthesises them, after an epoch."
_SHAPE = "must be a text, or a list [text, speaker, style_wav, language] of which all but the text may be left out"
_PLACES = ("text", "speaker", "style_wav", "language")
_MAX_FINDINGS = 5


def check_test_sentences(facts: RunFacts) -> list[Finding]:
    """The test sentences are texts with speakers and languages that exist."""
    config = facts.config
    if config.test_delay_epochs >= config.epochs or config.test_sentences in ([], ()):
        return []
    if not isinstance(config.test_sentences, list | tuple):
        return [
            Finding(f"test_sentences = {typed(config.test_sentences)}: must be a list. Each item {_SHAPE}.", _CHANGE)
        ]
    if wrong := [finding for index, s in enumerate(config.test_sentences) for finding in _shape(index, s)]:
        return wrong[:_MAX_FINDINGS]
    return [*_speakers(facts), *_languages(config), *_empty(facts)]


def _shape(index: int, sentence: Any) -> Iterator[Finding]:
    key = f"test_sentences.{index}"
    parts = [sentence] if isinstance(sentence, str) else sentence
    if not isinstance(parts, list) or not 1 <= len(parts) <= len(_PLACES):
        count = f" {len(parts)} entries;" if isinstance(parts, list) else ""
        yield Finding(f"{key} = {typed(sentence)}:{count} it {_SHAPE}.", _CHANGE)
        return
    for place, part in zip(_PLACES, parts, strict=False):
        if not (isinstance(part, str) or (part is None and place != "text")):
            yield Finding(f"{key}: the {place} {typed(part)} must be a string; it {_SHAPE}.", _CHANGE)


def _empty(facts: RunFacts) -> Iterator[Finding]:
    config = facts.config
    texts, languages = _entries(config, "text"), _entries(config, "language")
    for index, (text, language) in enumerate(zip(texts, languages, strict=True)):
        if text and not facts.spoken_of(text, language or ""):
            found = f"test_sentences.{index}: after text_cleaner, nothing of {typed(text)} is in the model's alphabet."
            yield Finding(found, "Correct test_sentences: the run would end when it synthesises them, after an epoch.")
        elif not (text or "").strip():
            # without blanks between symbols, Coqui's model fails on it
            yield Finding(f"test_sentences.{index}: the text is empty.", "Remove it.", is_error=not config.add_blank)


def _entries(config: Any, place: str) -> list[str | None]:
    """Return what each sentence has at a place; None for one that leaves it out."""
    at = _PLACES.index(place)
    rows = [[sentence] if isinstance(sentence, str) else sentence for sentence in config.test_sentences]
    return [row[at] if len(row) > at else None for row in rows]


def _speakers(facts: RunFacts) -> list[Finding]:
    if facts.speakers is None and facts.d_vectors is None:
        return []
    known: Sequence[str] | set[str] = (
        facts.speakers if facts.speakers is not None else speakers_of(facts.d_vectors or {})
    )
    wanted = {speaker for speaker in _entries(facts.config, "speaker") if speaker is not None}
    return missing("speakers of test_sentences", wanted, known, "the model", _CHANGE)


def _languages(config: Any) -> list[Finding]:
    known, wanted = known_languages(config) or [], _entries(config, "language")
    if len(known) < 2:
        return []  # Coqui then takes the only one
    if None in wanted:
        found = (
            f"test_sentences.{wanted.index(None)} has no language, which a model of {len(known)} languages needs "
            f"({some(known)}): it {_SHAPE}."
        )
        return [Finding(found, _CHANGE)]
    return missing("languages of test_sentences", {str(name) for name in wanted}, known, "the model", _CHANGE)
