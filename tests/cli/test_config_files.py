"""Whatever `--config_path` names: one line on standard error, status 2, nothing written, within a limited memory."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_driver import SCRIPT, Command, Outcome, environment, run_commands

from coqui_scl_plugin.config import config_file, read_config_file
from coqui_scl_plugin.errors import ConfigError


def model(**more: Any) -> str:
    return json.dumps({"model": "scl_vits", **more})


def laughs(lines: int = 10, template: str = "[{}]") -> str:
    """Return YAML whose lines each repeat the one before nine times."""
    text = "model: scl_vits\na0: &a0 [x, x, x]\n"
    for index in range(lines):
        text += f"a{index + 1}: &a{index + 1} {template.format(', '.join([f'*a{index}'] * 9))}\n"
    return text


@dataclass(frozen=True)
class Odd:
    """A file by its name and content, and what the message about it must hold."""

    name: str
    parts: tuple[str, ...]
    content: str | bytes | Callable[[Path], object] | None = None


TOO_LONG = "x" * 300 + ".json"
ODD = {
    # numbers, texts and keys
    "a number of 5,000 digits": Odd(
        "a.json", ("5,000 digits",), '{"model": "scl_vits", "batch_size": ' + "9" * 5000 + "}"
    ),
    "a number of 5,000 digits in YAML": Odd(
        "a.yaml", ("5,000 digits", "line 2"), "model: scl_vits\nbatch_size: " + "9" * 5000
    ),
    "a number of 400 digits": Odd("a.json", ("scl.weight = <an integer of",), model(scl={"weight": 10**400})),
    "a number of 1,000 bits in YAML": Odd("a.yaml", ("batch_size = <an integer of",), f"batch_size: 0x{'f' * 250}"),
    "NaN": Odd("a.json", ("scl.weight = nan",), model(scl={"weight": float("nan")})),
    "infinity": Odd("a.json", ("scl.weight = inf",), '{"model": "scl_vits", "scl": {"weight": 1e999}}'),
    "half a surrogate pair": Odd(
        "a.json", ("scl.loss.name = '\\ud800'", "surrogate"), model(scl={"loss": {"name": "\ud800"}})
    ),
    "half a surrogate pair in a key": Odd("a.json", ("'\\ud800'", "surrogate"), model(**{"\ud800": 1})),
    "half a surrogate pair in YAML": Odd("a.yaml", ("YAML", "line 2"), 'model: scl_vits\nrun_name: "\\uD800"\n'),
    "NUL": Odd("a.json", ("output_path = 'a\\x00b'", "NUL"), model(output_path="a\0b")),
    "a long text": Odd(
        "a.json", ("scl.reference.cache = 'xxx", "at most 4096"), model(scl={"reference": {"cache": "x" * 100_000}})
    ),
    "a long key": Odd("a.json", ("scl.xxx", "unknown key"), model(scl={"x" * 100_000: 1})),
    "a date": Odd("a.yaml", ("scl.weight = '2024-01-01'", "number"), "model: scl_vits\nscl: {weight: 2024-01-01}\n"),
    "a date by its tag": Odd("a.yaml", ("scl.weight = datetime.date",), "scl: {weight: !!timestamp 2024-01-01}\n"),
    "bytes": Odd("a.yaml", ("scl.weight = b'hello'",), "scl: {weight: !!binary aGVsbG8=}\n"),
    "a set": Odd("a.yaml", ("scl = {'a'}",), "scl: !!set {a}\n"),
    "a number that is none": Odd("a.yaml", ("YAML", "'abc'"), "scl: {weight: !!float abc}\n"),
    "a tag that runs code": Odd("a.yaml", ("YAML", "tag"), "model: !!python/object/apply:os.abort []\n"),
    "a number as a key": Odd("a.yaml", ("scl.3", "must be text"), "scl: {3: 4}\n"),
    "a word that YAML takes for true": Odd("a.yaml", ("True", "must be text", "quotes"), "on: 1\n"),
    "a key twice": Odd("a.json", ("the key weight twice",), '{"model": "scl_vits", "scl": {"weight": 1, "weight": 2}}'),
    "a key twice in YAML": Odd(
        "a.yaml", ("the key weight twice", "line 3"), "model: scl_vits\nscl:\n  weight: 1\n  weight: 2\n"
    ),
    # depth and size
    "1,000 levels": Odd("a.json", ("nested",), '{"scl": ' + "[" * 1000 + "]" * 1000 + "}"),
    "100 levels": Odd("a.json", ("scl.0.0.0", "20 levels"), '{"scl": ' + "[" * 100 + "]" * 100 + "}"),
    "1,000 levels in YAML": Odd("a.yaml", ("a.yaml",), "scl: " + "[" * 1000 + "]" * 1000),
    "a million levels": Odd("a.json", ("nested",), "[" * 1_000_000),
    "a million levels in YAML": Odd("a.yaml", ("a.yaml",), "- " * 900_000),
    "aliases that stand for gigabytes": Odd("a.yaml", ("100,000 values",), laughs()),
    "merges of what is no section": Odd("a.yaml", ("expected a mapping",), laughs(template="{{<<: [{}]}}")),
    "an alias of what it is in": Odd("a.yaml", ("scl.0.0", "levels"), "scl: &a [*a]\n"),
    "thousands of aliases": Odd("a.yaml", ("1,000 aliases",), f"a: &a 1\nb: [{', '.join(['*a'] * 1001)}]\n"),
    "an anchor twice": Odd("a.yaml", ("duplicate anchor", "line 2"), "a: &a 1\nb: &a 2\n"),
    "a million values": Odd("a.json", ("scl.", "100,000 values"), '{"scl": [' + "1," * 900_000 + "1]}"),
    "a million values in YAML": Odd("a.yaml", ("100,000 values",), "scl: [" + "1," * 900_000 + "1]"),
    "a large file": Odd("a.json", ("larger than 2 MB",), b" " * 3_000_000),
    "quotes without end": Odd("a.json", ("JSON",), '"\\"' * 500_000),
    # encoding
    "a byte-order mark": Odd("a.json", ("byte-order mark",), b"\xef\xbb\xbf{}"),
    "UTF-16": Odd("a.json", ("byte-order mark",), "{}".encode("utf-16")),
    "Latin-1": Odd("a.json", ("not UTF-8", "byte 7"), b'{"a": "\xe9"}'),
    "tabs in YAML": Odd("a.yaml", ("YAML", "line 3"), "model: scl_vits\nscl:\n\tweight: 1\n"),
    "two documents": Odd("a.yaml", ("another document",), "a: 1\n---\nb: 2\n"),
    "nothing": Odd("a.json", ("JSON", "empty"), ""),
    "nothing in YAML": Odd("a.yaml", ("YAML", "empty"), "# nothing\n"),
    # what is no file
    "a name that is too long": Odd(TOO_LONG, ("xxx", "File name too long")),
    "a file in the place of a folder": Odd("a.json/b.json", ("a.json/b.json", "Not a directory")),
    "a folder": Odd("a.json", ("is a folder",), Path.mkdir),
    "a pipe": Odd("a.json", ("is a pipe",), os.mkfifo),
    "an endless device": Odd("/dev/zero", ("is a pipe, a device",)),
    "an endless device by its URL": Odd("file:///dev/zero", ("larger than 2 MB",)),
    "the environment": Odd("/proc/self/environ", ("JSON",)),
    "the memory": Odd("/proc/self/mem", ("cannot be read",)),
    "a file of /proc without end": Odd("/proc/self/pagemap", ("larger than 2 MB",)),
    "a link to itself": Odd("a.json", ("cannot be read",), lambda path: path.symlink_to(path)),
    "a protocol that is none": Odd("nosuch://a/b.json", ("nosuch",)),
}
COMMANDS = ("train", "preflight", "embed")


def prepare(odd: Odd, folder: Path) -> None:
    folder.mkdir()
    if odd.name == "a.json/b.json":
        (folder / "a.json").write_text("{}")
    path = folder / odd.name
    if callable(odd.content):
        odd.content(path)
    elif odd.content is not None:
        path.write_bytes(odd.content if isinstance(odd.content, bytes) else odd.content.encode())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Run one of the commands with each of the files, all in one process."""
    root = tmp_path_factory.mktemp("odd")
    commands = {}
    for index, (name, odd) in enumerate(ODD.items()):
        prepare(odd, root / str(index))
        commands[name] = Command(root / str(index), [COMMANDS[index % len(COMMANDS)], "--config_path", odd.name])
    return run_commands(commands)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_one_line_and_status_2(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[name]
    outcome.assert_refused(ODD[name].parts)
    assert outcome.err.count("\n") == 1, outcome.err
    assert len(outcome.err) < 700, outcome.err


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (500_000_000, 500_000_000))
from coqui_scl_plugin.cli import main
sys.argv = ["coqui-scl", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    "name",
    [
        "aliases that stand for gigabytes",
        "a million values",
        "a million values in YAML",
        "a large file",
        "an endless device by its URL",
    ],
)
def test_an_odd_file_takes_less_than_500_mb(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "case"
    prepare(ODD[name], folder)
    command = [sys.executable, "-c", LIMITED, "train", "--config_path", ODD[name].name]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=600, env=environment()
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Return the address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_does_not_answer_is_not_waited_for(silent_server: str) -> None:
    url = f"{silent_server}/config.json"
    done = subprocess.run(
        [SCRIPT, "train", "--config_path", url],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=environment(),
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"coqui-scl: The config {url} cannot be read: no answer within 2.5 seconds.\n"


def test_a_file_system_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(config_file, "MAX_SECONDS", 0.05)
    monkeypatch.setattr(config_file, "_read_file", lambda path: answered.wait() and b"{}")
    with pytest.raises(ConfigError, match="cannot be read: no answer within"):
        read_config_file(str(tmp_path / "a.json"))
    answered.set()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"scl": {"weight": 2.0}, // a comment, "as Coqui allows"\n "url": "http://a//b"}'),
        (
            "a.yaml",
            "base: &base {weight: 2.0}\nscl: {<<: *base}\nurl: http://a//b\nbase: *base\n".replace("base: *base\n", ""),
        ),
        ("a.YML", "scl:\n  weight: 2.0\nurl: http://a//b\n"),
    ],
)
def test_a_sound_file_is_read(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    data = read_config_file(str(path))
    assert (data["scl"], data["url"]) == ({"weight": 2.0}, "http://a//b")
    assert read_config_file(path.as_uri()) == data


def test_coquis_own_infinities_and_dates_as_names_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"max_audio_len": Infinity}')
    assert read_config_file(str(tmp_path / "a.json")) == {"max_audio_len": float("inf")}
    (tmp_path / "a.yaml").write_text("run_name: 2024-01-01\n")
    assert read_config_file(str(tmp_path / "a.yaml")) == {"run_name": "2024-01-01"}
