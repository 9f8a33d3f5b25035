"""Defects of metadata, recordings and texts through the commands: one cause, no wrong advice, and no run folder."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_driver import Command, Outcome, run_commands
from tiny_vits import RATE, run_config
from toy_speech import speech

TEXT = "a text of a few words"
Rows = list[list[str]]


def write_data(folder: Path, ending: str = "wav", rate: int = RATE, channels: int = 1) -> Rows:
    """Write five recordings of each of four speakers; return the rows of their table."""
    folder.mkdir(parents=True)
    rows = []
    for index in range(20):
        samples = speech(1.2, seed=index % 4, rate=rate, channels=channels)
        soundfile.write(folder / f"{index}.{ending}", samples, rate)
        rows.append([f"{index}.{ending}", TEXT, f"speaker {index % 4}"])
    return rows


def change_row(index: int, column: int, text: str) -> Callable[[Path, Rows], None]:
    def change(folder: Path, rows: Rows) -> None:
        rows[index][column] = text

    return change


def replace_audio(index: int, make: Callable[[Any], Any], **how: Any) -> Callable[[Path, Rows], None]:
    def change(folder: Path, rows: Rows) -> None:
        path = folder / rows[index][0]
        samples, rate = soundfile.read(path, dtype="float32")
        soundfile.write(path, make(samples), rate, **how)

    return change


def other_text(text: str) -> Callable[[Path, Rows], None]:
    def change(folder: Path, rows: Rows) -> None:
        for row in rows:
            row[1] = text

    return change


def remove(count: int) -> Callable[[Path, Rows], None]:
    def change(folder: Path, rows: Rows) -> None:
        for file, *_ in rows[:count]:
            (folder / file).unlink()

    return change


@dataclass(frozen=True)
class Case:
    """Data with a defect, and the checks that find it, each with its status and words; no other check says a word."""

    found: Mapping[str, tuple[str, tuple[str, ...]]]
    change: Callable[[Path, Rows], None] = lambda folder, rows: None
    data: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = "preflight"


def failed(*words: str) -> tuple[str, tuple[str, ...]]:
    return "failed", words


CASES = {
    "sound": Case({}),
    "an unpaired quote": Case(
        {"metadata": failed("20 rows, 4 are read", "line 5", "16 lines")}, change_row(3, 1, '"he said')
    ),
    "a pipe in a text": Case(
        {"metadata": failed("line 5 has 4 columns", "header has 3")}, change_row(3, 1, "hello | there")
    ),
    "15 of 20 recordings are missing": Case(
        {"metadata": failed("15 of 20 recordings do not exist", "'0.wav'")}, remove(15), config={"eval_split_size": 4}
    ),
    "all of another ending": Case({"recordings": failed("20 of 20 recordings", ".ogg")}, data={"ending": "ogg"}),
    "stereo at another rate": Case(
        {"audio": failed("20 of 20 recordings have 2 channels"), "sample-rate": failed("20 have 24000 Hz")},
        data={"channels": 2, "rate": 24_000},
    ),
    "beyond 1": Case(
        {"audio": failed("1 of 20", "7.wav", "[-1, 1]")}, replace_audio(7, lambda x: 40 * x, subtype="FLOAT")
    ),
    "an empty text": Case({"metadata": failed("line 5 has no text")}, change_row(3, 1, "")),
    "another alphabet": Case(
        {"alphabet": failed("100.0%", "language 'ru'", "nothing of the text is left", "'а' (60)")},
        other_text("азбука как ни"),
        config={"language": "ru"},
    ),
    "longer as tokens than as characters": Case(
        {"alphabet": failed("20 texts", "max_text_len = 30", "to at least 43")}, config={"max_text_len": 30}
    ),
    "trained in stereo": Case(
        {"audio": failed("7.wav", "2 channels", "check 'audio'")},
        replace_audio(7, lambda x: np.stack([x, x], 1)),
        command="train",
    ),
    "trained with an unpaired quote": Case(
        {"metadata": failed("unpaired quote", "line 5", "check 'metadata'")}, change_row(3, 1, '"he'), command="train"
    ),
}


def write_case(folder: Path, case: Case) -> Command:
    rows = write_data(folder / "data", **case.data)
    case.change(folder / "data", rows)
    table = "".join("|".join(row) + "\n" for row in [["audio_file", "text", "speaker_name"], *rows])
    (folder / "data" / "metadata.csv").write_text(table, encoding="utf-8")
    changes = dict(case.config)
    language = changes.pop("language", "")
    config = run_config(Path("data"), eval_split_size=4, **{"max_audio_len": 100_000} | changes) if not changes.get(
        "eval_split_size"
    ) else run_config(Path("data"), **changes)  # fmt: skip
    config["datasets"][0]["language"] = language
    (folder / "config.json").write_text(json.dumps(config))
    more = ["--json"] if case.command == "preflight" else []
    return Command(folder, [case.command, "--config_path", "config.json", *more])


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    root = tmp_path_factory.mktemp("cases")
    return run_commands({name: write_case(root / str(n), case) for n, (name, case) in enumerate(CASES.items())})


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.command == "preflight"])
def test_a_defect_is_found_once_and_nothing_else_is_blamed(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome, case = outcomes[name], CASES[name]
    checks = {check["id"]: check for check in outcome.report["checks"]}
    told = {id_: check["status"] for id_, check in checks.items() if check["status"] not in ("passed", "not run")}
    assert told == {id_: status for id_, (status, _) in case.found.items()}, outcome.out[:3000]
    for id_, (_, words) in case.found.items():
        said = " ".join(f"{finding['found']} {finding['change']}" for finding in checks[id_]["findings"])
        assert [word for word in words if word not in said] == [], said
    assert "Traceback" not in outcome.err
    assert "eval_split_size" not in outcome.out
    assert outcome.changed == []
    assert (outcome.status > 0) == ("failed" in told.values())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.command == "train"])
def test_a_run_does_not_begin_and_leaves_no_folder(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome, words = outcomes[name], [word for _, said in CASES[name].found.values() for word in said]
    outcome.assert_one_message(words)
    assert outcome.status in (1, 2)
    assert [path for path in outcome.changed if path.startswith("runs/") and path.count("/") > 1] == []
