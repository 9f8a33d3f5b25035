"""The check of the texts: the model's alphabet, and what is left of them."""

import unicodedata

from coqui_scl_plugin.preflight.facts import RunFacts, Texts
from coqui_scl_plugin.preflight.report import Finding, agree, number, some, warning

_MIN_LEFT = 0.5
"""Of the characters of a data set in one language: with less, what is spoken is not what is read."""
_SMALL_SHARE = 0.01
"""Up to this share of the characters may be unknown without a word: rare signs, such as quotation marks."""
_MAX_OVERLONG = 0.1
"""Up to this share of the texts, other recordings may take their place without the run's end within an epoch."""
_FAR_TOO_LONG = 10
"""Tokens for each frame, beyond which a batch can take all memory; below, the text and its recording do not belong
together, but the run goes on."""
_MAX_CHARACTERS = 20


def check_alphabet(facts: RunFacts) -> list[Finding]:
    """The model's alphabet has the characters of the texts, and something is left of each text."""
    return [finding for texts in facts.read_texts() for finding in _findings_of(texts, facts.config.max_text_len)]


def check_text_length(facts: RunFacts) -> list[Finding]:
    """Each recording has at least as many frames of the spectrogram as its text has tokens."""
    audio, samples = facts.config.audio, facts.all_samples
    rate = facts.config.model_args.encoder_sample_rate or audio.sample_rate
    tokens = {name: count for texts in facts.read_texts() for name, count in texts.tokens.items()}
    frames = {
        str(sample["audio_unique_name"]): int(header.frames * rate / audio.sample_rate) // audio.hop_length
        for sample, header in zip(samples, facts.headers.of(samples), strict=True)
        if facts.config.min_audio_len <= header.frames <= facts.config.max_audio_len
    }
    short = [name for name, count in tokens.items() if name in frames and count > frames[name] > 0]
    if not short:
        return []
    worst = max(short, key=lambda name: tokens[name] / frames[name])
    found = (
        f"{number(len(short), 'text')} of {len(tokens)} {agree(len(short), 'have')} more tokens than "
        f"{'its recording has' if len(short) == 1 else 'their recordings have'} frames, so that none can be aligned: "
        f"{some(short)}. {worst!r} has {tokens[worst]} tokens and {frames[worst]} frames (audio.hop_length)."
    )
    change = "Correct the text or the recording, or exclude it (min_audio_len, max_text_len)."
    return [Finding(found, change, is_error=tokens[worst] > _FAR_TOO_LONG * frames[worst])]


def _findings_of(texts: Texts, limit: float) -> list[Finding]:
    findings, lost = [], sum(texts.unknown.values())
    of = f"data set {texts.dataset!r}" + (f" (language {texts.language!r})" if texts.language else "")
    if texts.characters and lost > _SMALL_SHARE * texts.characters:
        left = 1.0 - lost / texts.characters
        what = "nothing" if lost == texts.characters else f"only {left:.1%}" if left < _MIN_LEFT else f"{left:.1%}"
        found = (
            f"{lost / texts.characters:.1%} of the characters of the {of} are not in the model's alphabet after "
            f"text_cleaner, and Coqui drops them, so that {what} of the text is left: {_counted(texts)}."
        )
        change = (
            "Add them to the config's characters.characters, choose another text_cleaner, or start from a model of "
            "this language."
        )
        findings.append(Finding(found, change, is_error=left < _MIN_LEFT))
    if texts.emptied and lost < texts.characters:
        count = number(len(texts.emptied), "text")
        found = f"Of {count} of the {of}, nothing is left after text_cleaner: {some(texts.emptied)}."
        findings.append(warning(found, "Write what is spoken there, or remove these recordings."))
    if texts.overlong:
        long = number(len(texts.overlong), "text")
        found = (
            f"{long} of the {of} {agree(len(texts.overlong), 'have')} at most max_text_len = {limit:g} characters but "
            f"more tokens than that: {some(texts.overlong)}. They are left out of their batches."
        )
        change = f"Set max_text_len to at least {texts.longest}, or shorten these texts."
        findings.append(Finding(found, change, is_error=len(texts.overlong) > _MAX_OVERLONG * texts.count))
    return findings


def _counted(texts: Texts) -> str:
    """List the unknown characters by how often they occur."""
    most = sorted(texts.unknown.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{_name(character)} ({count})" for character, count in most[:_MAX_CHARACTERS])
    return listed + (f" and {len(most) - _MAX_CHARACTERS} more" if len(most) > _MAX_CHARACTERS else "")


def _name(character: str) -> str:
    if character.isprintable() and not unicodedata.combining(character):
        return repr(character)
    return f"U+{ord(character):04X}"
