"""The page of a listening test, one file that needs nothing else, and beside it the key that only a score needs."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from torch import Tensor

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.audio_in_page import as_flac
from coqui_scl_plugin.evaluation.listening.answers import KEY, PAGE, Key, KeyQuestion
from coqui_scl_plugin.evaluation.listening.clips import load_clips
from coqui_scl_plugin.evaluation.listening.questions import Clip, Question
from coqui_scl_plugin.utils.atomic import replacing

_SECONDS_TO_ANSWER = 4.0


@dataclass(frozen=True)
class WrittenTest:
    """A listening test as it was written."""

    key: Key
    minutes: int
    """Time that a listener needs, roughly."""
    remarks: list[str]
    """What is wrong with clips."""


def write_test(folder: Path, runs: tuple[str, str], seed: int, questions: Sequence[Question]) -> WrittenTest:
    """Write `listen.html` and then `key.json` to a folder, each whole or not at all, creating it if needed.

    Args:
        folder: The folder.
        runs: Names of the two runs.
        seed: Seed of the numbers that clips have in the page.
        questions: What to ask.

    Raises:
        ConfigError: a recording cannot be read.
    """
    clips = list(dict.fromkeys(clip for question in questions for clip in _clips_of(question)))
    random.Random(seed).shuffle(clips)  # their order in the page tells nothing
    loaded, remarks = load_clips(clips)
    numbers = {clip: number for number, clip in enumerate(clips)}
    asked = [
        {
            "part": question.part,
            "reference": None if question.reference is None else numbers[question.reference],
            "samples": [numbers[clip] for clip in question.samples],
        }
        for question in questions
    ]
    content = {"clips": [_encoded(clip, one) for clip, one in zip(clips, loaded, strict=True)], "questions": asked}
    page = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    seconds = {clip: len(waveform) / rate for clip, (waveform, rate) in zip(clips, loaded, strict=True)}
    heard = sum(seconds[clip] for question in questions for clip in _clips_of(question))
    minutes = max(1, round((heard + _SECONDS_TO_ANSWER * len(questions)) / 60))
    key = Key(
        page=page, runs=runs, seed=seed,
        questions=[KeyQuestion(part=one.part, speaker=one.speaker, samples=one.kinds) for one in questions],
    )  # fmt: skip
    with replacing(folder / PAGE) as temporary:
        temporary.write_text(_render({"page": page, **content}, minutes), encoding="utf-8")
    with replacing(folder / KEY) as temporary:
        temporary.write_text(key.model_dump_json(indent=1), encoding="utf-8")
    return WrittenTest(key, minutes, remarks)


def _clips_of(question: Question) -> list[Clip]:
    return [*([] if question.reference is None else [question.reference]), *question.samples]


def _encoded(clip: Clip, loaded: tuple[Tensor, int]) -> str:
    waveform, rate = loaded
    if (encoded := as_flac(waveform, rate)) is None:
        raise ConfigError(f"{clip.path} cannot be in a page: FLAC does not know its rate of {rate} Hz.")
    return encoded


def _render(content: Mapping[str, Any], minutes: int) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("coqui_scl_plugin.evaluation.listening", "."), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    count = len(content["questions"])
    return environment.get_template("page.html.j2").render(content=content, count=count, minutes=minutes)
