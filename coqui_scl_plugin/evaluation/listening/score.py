"""The score of a listening test: how often listeners chose the second run, with exact intervals."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, get_args

from scipy.stats import binomtest

from coqui_scl_plugin.evaluation.evaluation_set import LeftOut
from coqui_scl_plugin.evaluation.listening.answers import Answers, Key, KeyQuestion
from coqui_scl_plugin.evaluation.listening.questions import Part
from coqui_scl_plugin.evaluation.metrics import CONFIDENCE, bootstrap_mean
from coqui_scl_plugin.utils.shown import shown

_CHANCE = 0.5
_RESAMPLES = 9999
_MAX_P_OF_GUESSING = 0.05
"""Probability below which guessing does not explain the catch trials that a listener answered right."""


class Share(NamedTuple):
    """How often the second run was chosen."""

    chosen: int
    answers: int
    share: float | None
    """`chosen / answers`; this and what follows are None without answers."""
    low: float | None
    high: float | None
    """Clopper and Pearson's 95 % interval."""
    p_value: float | None
    """Of a two-sided binomial test against one half."""


def share_of(chosen: int, answers: int) -> Share:
    """Return a share with its exact interval and test, both by scipy.

    >>> share = share_of(9, 10)
    >>> round(share.low, 3), round(share.high, 3), round(share.p_value, 3)
    (0.555, 0.997, 0.021)
    >>> share_of(0, 0).share is None
    True
    """
    if answers == 0:
        return Share(0, 0, None, None, None, None)
    test = binomtest(chosen, answers, _CHANCE)
    interval = test.proportion_ci(CONFIDENCE, method="exact")
    return Share(chosen, answers, chosen / answers, float(interval.low), float(interval.high), float(test.pvalue))


class _Answer(NamedTuple):
    """One answer to one question."""

    listener: str
    question: KeyQuestion
    chosen: str
    """The kind of the sample."""


def _answers_of(answers: Answers, key: Key) -> Iterator[_Answer]:
    for question, answer in zip(key.questions, answers.answers, strict=True):
        if answer is not None:
            yield _Answer(answers.listener, question, question.samples[answer - 1])


def _share(answers: Iterable[_Answer]) -> dict[str, Any]:
    chosen = [answer.chosen == "B" for answer in answers]
    return share_of(sum(chosen), len(chosen))._asdict()


def _by(name_of: Callable[[_Answer], str], answers: Sequence[_Answer]) -> dict[str, Any]:
    names = sorted({name_of(answer) for answer in answers})
    return {name: _share(answer for answer in answers if name_of(answer) == name) for name in names}


def _mean(shares: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
    """Return the mean of several shares with its interval by bootstrap; None if there are none."""
    values = [share["share"] for share in shares.values()]
    return bootstrap_mean(values, seed=seed, resamples=_RESAMPLES)._asdict() if values else None


def _listener(answers: Answers, key: Key) -> dict[str, Any]:
    """Return what is known of a listener, and why they are left out if they are."""
    catch = [answer.chosen == "right" for answer in _answers_of(answers, key) if answer.question.is_catch]
    guessing = binomtest(sum(catch), len(catch), _CHANCE, alternative="greater").pvalue if catch else 1.0
    return {
        "listener": answers.listener,
        "file": answers.file,
        "answered": answers.answered,
        "catch": {"right": sum(catch), "answered": len(catch), "p_value": float(guessing)},
        "counts": bool(guessing <= _MAX_P_OF_GUESSING),
    }


def score(key: Key, listeners: Sequence[Answers], left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """Return all of `scores.json`.

    A listener counts if guessing would answer as many catch trials right in less than one case of 20, by a one-sided
    binomial test: of eight, seven must be right.

    Args:
        key: What each sample is.
        listeners: Answers, one of each listener.
        left_out: Files that are not among them.
    """
    judged = [_listener(answers, key) for answers in listeners]
    counted = [answers for answers, one in zip(listeners, judged, strict=True) if one["counts"]]
    every = [answer for answers in counted for answer in _answers_of(answers, key) if not answer.question.is_catch]
    parts = {}
    for part in get_args(Part):
        own = [answer for answer in every if answer.question.part == part]
        speakers = _by(lambda answer: answer.question.speaker, own)
        people = _by(lambda answer: answer.listener, own)
        parts[part] = {
            "overall": _share(own),
            "over_speakers": _mean(speakers, key.seed),
            "over_listeners": _mean(people, key.seed),
            "speakers": speakers,
            "listeners": people,
        }
    return {
        "page": key.page,
        "runs": {"A": key.runs[0], "B": key.runs[1]},
        "questions": len(key.questions),
        "confidence": CONFIDENCE,
        "parts": parts,
        "listeners": judged,
        "left_out": [asdict(one) for one in left_out],
        "warnings": [*_warnings(key, judged), *(f"{one.where} is left out: {one.problem}." for one in left_out)],
    }


def _warnings(key: Key, judged: Sequence[dict[str, Any]]) -> Iterator[str]:
    for one in judged:
        name, catch = shown(one["listener"]), one["catch"]
        if not one["counts"]:
            yield (
                f"{name} is left out: {catch['right']} of {catch['answered']} catch trials answered right, which "
                f"guessing explains (p = {catch['p_value']:.2g})."
            )
        elif one["answered"] < len(key.questions):
            yield f"{name} answered {one['answered']} of {len(key.questions)} questions; those count."
    if not any(one["counts"] for one in judged):
        yield "No listener is left, so there is nothing to count."
