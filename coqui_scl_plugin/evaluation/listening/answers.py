"""The files of a listening test: the key beside its page, and the answers that listeners send back."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.audio_file import unusable_file
from coqui_scl_plugin.evaluation.evaluation_set import LeftOut
from coqui_scl_plugin.evaluation.listening.questions import Kind, Part
from coqui_scl_plugin.utils.shown import shorten, shown

PAGE, KEY, SCORES = "listen.html", "key.json", "scores.json"
"""Files of a listening test, in its folder."""
ANSWERS_FORMAT = "coqui-scl listening answers"
_MAX_BYTES = 1_000_000
"""Size of a file of answers; that of 200 questions has 3 kB."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class KeyQuestion(_Strict):
    """What a question compares."""

    part: Part
    speaker: str
    samples: Annotated[tuple[Kind, Kind], Field(strict=False)]  # a list in JSON
    """What sample 1 and sample 2 are."""

    @property
    def is_catch(self) -> bool:
        """Whether one sample is known to be the right one."""
        return "right" in self.samples


class Key(_Strict):
    """What each sample of a page is."""

    format: Literal["coqui-scl listening key"] = "coqui-scl listening key"
    page: str
    """Identity of the page, which its answers repeat."""
    runs: Annotated[tuple[str, str], Field(strict=False)]
    seed: int
    questions: list[KeyQuestion]


class Answers(_Strict):
    """The answers of one listener."""

    format: Literal["coqui-scl listening answers"]
    page: str
    listener: Annotated[str, Field(min_length=1, max_length=80)]
    answers: list[Literal[1, 2] | None]
    """The sample that was chosen, for each question; None if it was not answered."""
    file: str = ""
    """Name of the file."""

    @property
    def answered(self) -> int:
        """Number of answers."""
        return sum(answer is not None for answer in self.answers)


def read_key(folder: Path) -> Key:
    """Read the key of a listening test. Raises ConfigError if it is missing or damaged."""
    path = folder / KEY
    if problem := unusable_file(path):
        raise ConfigError(
            f"--score {shorten(folder)}: {KEY} is needed and cannot be read ({problem}). Name the folder that "
            "`coqui-scl listen RUN_A RUN_B --out DIR` wrote: the page alone does not say which sample is whose."
        )
    try:
        return Key.model_validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        raise ConfigError(f"{shorten(path)} is damaged: {_first_problem(error)}. Copy it again.") from error


def read_answers(files: Sequence[Path], key: Key) -> tuple[list[Answers], list[LeftOut]]:
    """Read the answers of each listener, sorted by name, and say which files are left out.

    Of several files of one listener, the one with the most answers counts. Names are one if they differ in case or
    spaces only.

    Raises:
        ConfigError: no file can be used.
    """
    found, left_out = dict[str, Answers](), list[LeftOut]()
    for path in files:
        try:
            answers = _read(path, key)
        except ValueError as problem:
            left_out.append(LeftOut(shorten(path), str(problem)))
            continue
        name = " ".join(answers.listener.split()).casefold()
        kept, other = answers, found.get(name)
        if other is not None:
            kept, dropped = (answers, other) if answers.answered > other.answered else (other, answers)
            left_out.append(LeftOut(dropped.file, _why_double(dropped, kept)))
        found[name] = kept
    if not found:
        others = f" None of the {len(left_out)} files can be used." if len(left_out) > 1 else ""
        raise ConfigError(f"{left_out[0].where}: {left_out[0].problem}.{others}")
    return [found[name] for name in sorted(found)], left_out


def _why_double(dropped: Answers, kept: Answers) -> str:
    if dropped.answers == kept.answers:
        return f"the same answers of {shown(kept.listener)} as in {kept.file}"
    return (
        f"a second file of {shown(kept.listener)}; {kept.file} counts, with {kept.answered} answers. If they are two "
        "people, give one of them another name under listener in the file"
    )


def _read(path: Path, key: Key) -> Answers:
    """Read a file of answers. Raises ValueError with the reason if it cannot be used."""
    if problem := unusable_file(path):
        raise ValueError(problem)
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise ValueError(f"not answers of a listening test: {size} bytes are too many")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON, or cut off ({shorten(error)}); ask the listener for it again") from error
    if not isinstance(content, dict) or content.get("format") != ANSWERS_FORMAT:
        raise ValueError(f"not answers of a listening test: its format should be {ANSWERS_FORMAT!r}")
    try:
        answers = Answers.model_validate({**content, "file": shorten(path)})
    except pydantic.ValidationError as error:
        raise ValueError(f"damaged: {_first_problem(error)}") from error
    if answers.page != key.page:
        raise ValueError(f"answers to another page ({shown(answers.page)}); this folder's is {key.page!r}")
    if len(answers.answers) != len(key.questions):
        raise ValueError(f"damaged: has {len(answers.answers)} answers, and should have {len(key.questions)}")
    return answers


def _first_problem(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return shorten(f"{place}: {first['msg']}" if place else first["msg"])
