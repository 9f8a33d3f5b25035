"""The command `coqui-scl listen`. Heavy imports are inside functions, so that its help is fast."""

import contextlib
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coqui_scl_plugin.cli.arguments import check_name, check_out, split_overrides
from coqui_scl_plugin.cli.options import takes_options
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.log_level import log_level
from coqui_scl_plugin.utils.shown import printable, shorten

if TYPE_CHECKING:
    from coqui_scl_plugin.evaluation.listening.page import WrittenTest

_OUT = Path("listening_out")


@dataclass(frozen=True)
class ListenOptions:
    """Options of `coqui-scl listen`."""

    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_A RUN_B | ANSWERS...", help="Two run folders; with --score, the files that listeners sent."
        ),
    ] = field(default_factory=list)
    score: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Score answers to the page in DIR instead; writes DIR/scores.json."),
    ] = None
    out: Annotated[Path, typer.Option(help="Folder for listen.html, key.json and audio.")] = _OUT
    sentences: Annotated[
        int, typer.Option(min=1, max=200, help="Held-out sentences, of all speakers together; each is asked twice.")
    ] = 20
    catch: Annotated[
        int, typer.Option(min=5, max=100, help="Catch trials with real speech, whose right answer is known.")
    ] = 8
    seed: Annotated[int, typer.Option(min=0, help="Seed of synthesis, sentences, order, sides and catch trials.")] = 0


@takes_options
def listen(
    ctx: typer.Context,
    options: ListenOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the summary or the tables.")] = False,
) -> None:
    """Ask people which of two runs speaks more like the person, and which sounds more natural.

    Writes listen.html, one file to send to listeners: blind ABX trials and preferences, by keyboard or on a phone.
    They send back files of answers, which --score DIR counts, with 95 % intervals, by speaker and listener. Keep the
    folder: its key.json says which sample is whose. At the end of the line, --coqpit.KEY VALUE overrides single values
    of the runs' configs. See docs/listening.md.
    """
    paths, overrides = split_overrides([*options.paths, *ctx.args])
    for path in paths:
        check_name(path)
    if options.score is not None:
        _refuse_for_score(options, overrides)
        _score(options.score, paths, as_json=as_json)
    else:
        _make(options, paths, overrides, as_json=as_json)


# --- the page ---------------------------------------------------------------------------------------------------------


def _make(options: ListenOptions, runs: Sequence[Path], overrides: Sequence[str], *, as_json: bool) -> None:
    """Write the page and its key."""
    from coqui_scl_plugin.evaluation.listening.answers import KEY, PAGE

    if len(runs) != 2:
        raise ConfigError(f"listen needs two runs, RUN_A RUN_B, and got {len(runs)}; to score answers: --score DIR.")
    check_out(options.out)
    if (options.out / KEY).exists():
        raise ConfigError(
            f"--out {shorten(options.out)}: holds a listening test already, and without its {KEY} no answers to it "
            "could be scored. Choose another folder, or remove it."
        )
    with (
        contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(),
        log_level(logging.WARNING, "TTS", "trainer"),
    ):
        written = _write(options, runs, overrides)
    page = options.out / PAGE
    found = {
        "page": str(page), "key": str(options.out / KEY), "runs": written.key.runs,
        "questions": len(written.key.questions), "minutes": written.minutes, "bytes": page.stat().st_size,
        "remarks": [*_too_few(options, written), *written.remarks],
    }  # fmt: skip
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if as_json else _summary(found, options.out))


def _write(options: ListenOptions, folders: Sequence[Path], overrides: Sequence[str]) -> "WrittenTest":
    from coqui_scl_plugin.coqui.run_folder import labels_of, load_run
    from coqui_scl_plugin.coqui.synthesis import list_recordings, synthesise_recordings
    from coqui_scl_plugin.evaluation.listening.page import write_test
    from coqui_scl_plugin.evaluation.listening.questions import draw_questions, draw_sentences

    runs = [load_run(folder, None, overrides) for folder in folders]
    listed = [list_recordings(run) for run in runs]
    first, second = labels_of(runs)
    held_out = [recordings.held_out for recordings in listed]
    drawn = draw_sentences(held_out[0], held_out[1], options.sentences, options.seed, (first, second))
    chosen = {recording.name for recording in drawn}
    made = []
    for run, recordings, label in zip(runs, listed, (first, second), strict=True):
        own = [recording for recording in recordings.held_out if recording.name in chosen]
        folder = options.out / "audio" / label
        made.append(synthesise_recordings(run, recordings, own, "tts", options.seed, folder, label))
    questions = draw_questions(made[0], made[1], options.catch, options.seed)
    return write_test(options.out, (first, second), options.seed, questions)


def _too_few(options: ListenOptions, written: "WrittenTest") -> list[str]:
    found = sum(not question.is_catch for question in written.key.questions) // 2
    if found == options.sentences:
        return []
    return [f"Both runs held out {found} sentences, fewer than the {options.sentences} of --sentences."]


def _summary(found: dict[str, Any], out: Path) -> str:
    page, key = (printable(found[name]) for name in ("page", "key"))
    lines = [f"Note: {remark}" for remark in found["remarks"]]
    lines += [
        f"Written to {page}: {found['questions']} questions, about {found['minutes']} min, "
        f"{found['bytes'] / 1e6:.1f} MB.",
        "Send this one file to listeners, who open it in a browser and send back a file of answers.",
        f"Keep {key} to yourself: it says which sample is whose.",
        f"To score: coqui-scl listen --score {shlex.quote(printable(out))} answers*.json",
    ]
    return "".join(f"{line}\n" for line in lines)


# --- the score --------------------------------------------------------------------------------------------------------


def _refuse_for_score(options: ListenOptions, overrides: Sequence[str]) -> None:
    default = ListenOptions()
    for name in ("out", "sentences", "catch", "seed"):
        if getattr(options, name) != getattr(default, name):
            raise ConfigError(f"--{name} is for making a page; --score reads it from the folder of the page.")
    if overrides:
        raise ConfigError(f"{overrides[0]}: overrides are for the config of a RUN, which --score does not need.")


def _score(folder: Path, files: Sequence[Path], *, as_json: bool) -> None:
    """Score answers, print the result and write `scores.json`."""
    from rich.console import Console

    from coqui_scl_plugin.evaluation.listening.answers import SCORES, read_answers, read_key
    from coqui_scl_plugin.evaluation.listening.console import print_score
    from coqui_scl_plugin.evaluation.listening.score import score
    from coqui_scl_plugin.utils.atomic import replacing

    check_name(folder)
    if not files:
        raise ConfigError(f"--score {shorten(folder)}: name the files that listeners sent, e.g. answers*.json.")
    key = read_key(folder)
    found = score(key, *read_answers(files, key))
    with replacing(folder / SCORES) as temporary:
        temporary.write_text(json.dumps(found, indent=2, allow_nan=False), encoding="utf-8")
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    console = Console()
    print_score(console, found)
    console.print(f"Written to {printable(folder / SCORES)}", highlight=False, markup=False, soft_wrap=True)
