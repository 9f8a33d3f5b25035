"""The command `coqui-scl`: what it lists, what it runs, what it imports, and how it says no."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("coqui-scl")

Completed = subprocess.CompletedProcess[str]


def coqui_scl(*arguments: str, folder: Path | None = None) -> Completed:
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [SCRIPT, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def heavy_imports_of(*arguments: str) -> set[str]:
    """Which of the packages that take seconds were imported by the command."""
    program = """
import sys
from coqui_scl_plugin.cli import main
sys.argv = ["coqui-scl", *sys.argv[1:]]
try:
    main()
finally:
    print("\\nIMPORTED", *sys.modules)
"""
    command = [sys.executable, "-c", program, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    imported = process.stdout.splitlines()[-1].split()
    assert imported[0] == "IMPORTED"
    assert "coqui_scl_plugin.cli" in imported
    return {"torch", "TTS", "trainer", "numpy", "matplotlib"} & set(imported)


def assert_one_message(process: Completed, status: int = 2) -> None:
    assert "Traceback" not in process.stderr + process.stdout, process.stderr[-600:]
    assert process.returncode == status
    assert process.stderr.startswith("coqui-scl: ")
    assert process.stderr.count("coqui-scl: ") == 1
    assert process.stdout == ""


@pytest.mark.parametrize("arguments", [["-h"], ["list", "-h"], ["run", "-h"], ["demo", "-h"]], ids=" ".join)
def test_help_imports_neither_torch_nor_coqui(arguments: list[str]) -> None:
    assert heavy_imports_of(*arguments) == set()


@pytest.mark.parametrize(
    ("command", "part"),
    [("train", "--config_path"), ("run", "-m TTS.bin.NAME"), ("list", "--json"), ("demo", "--steps")],
)
def test_each_command_has_help(command: str, part: str) -> None:
    helped = coqui_scl(command, "-h")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.lower().startswith(("usage: coqui-scl", "\nusage: coqui-scl"))
    assert part in helped.stdout
    assert command in coqui_scl("-h").stdout


def test_list_names_every_built_in_with_this_distribution() -> None:
    listed = coqui_scl("list", "--json")
    assert (listed.returncode, listed.stderr) == (0, "")
    own = f"coqui-scl-plugin {importlib.metadata.version('coqui-scl-plugin')}"
    rows = [row for row in json.loads(listed.stdout) if row["distribution"] == own]
    names = {(row["kind"], row["name"]) for row in rows}
    assert names >= {
        ("losses", "cosine"),
        ("losses", "angular_margin"),
        ("losses", "contrastive"),
        ("losses", "ensemble"),
        ("encoders", "coqui"),
        ("encoders", "dvector"),
        ("encoders", "ge2e"),
        ("freeze_policies", "frozen"),
    }
    assert len(names) == len(rows)
    assert all(row["summary"].endswith(".") for row in rows)


def test_list_without_json_is_a_table_of_the_same() -> None:
    listed = coqui_scl("list")
    assert (listed.returncode, listed.stderr) == (0, "")
    for name in ("cosine", "angular_margin", "ensemble", "ge2e", "dvector", "frozen", "coqui-scl-plugin"):
        assert name in listed.stdout


def test_run_starts_a_module_of_coqui() -> None:
    ran = coqui_scl("run", "-m", "TTS.bin.find_unique_chars", "-h")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("usage: find_unique_chars.py")
    assert "--config_path" in ran.stdout


def test_a_module_that_run_starts_knows_scl_vits(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("audio_file|text\na.wav|abc\n")
    (tmp_path / "a.wav").touch()
    (tmp_path / "b.wav").touch()
    (tmp_path / "eval.csv").write_text("audio_file|text\nb.wav|cd!\n")
    dataset = {
        "formatter": "coqui",
        "path": str(tmp_path),
        "meta_file_train": "metadata.csv",
        "meta_file_val": "eval.csv",
    }
    (tmp_path / "config.json").write_text(json.dumps({"model": "scl_vits", "datasets": [dataset]}))
    ran = coqui_scl("run", "-m", "TTS.bin.find_unique_chars", "--config_path", str(tmp_path / "config.json"))
    assert ran.returncode == 0, ran.stderr
    assert "!abcd" in ran.stdout


def test_run_starts_coquis_own_command() -> None:
    ran = coqui_scl("run", "tts", "-h")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("usage: tts")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["run -m TTS.bin.NAME", "run tts"]),
        (["-m"], ["run -m TTS.bin.NAME", "run tts"]),
        (["--nosuch", "tts"], ["run -m TTS.bin.NAME", "run tts"]),
        (["nosuch"], ["'nosuch'", "use -m", "Known: ", "tts"]),
        (["ttss"], ["'ttss'", "Did you mean 'tts'?"]),
        (["-m", "no_such_package.module"], ["no_such_package.module"]),
        (["-m", "TTS.bin.nosuch"], ["TTS.bin.nosuch"]),
    ],
    ids=str,
)
def test_run_says_what_it_cannot_run(arguments: list[str], parts: list[str]) -> None:
    ran = coqui_scl("run", *arguments)
    assert_one_message(ran)
    for part in parts:
        assert part in ran.stderr


def test_run_passes_on_an_import_error_inside_the_module(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text("import no_such_package_at_all\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [SCRIPT, "run", "-m", "theirs"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 1
    assert "ModuleNotFoundError: No module named 'no_such_package_at_all'" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "part"), [(["nosuch"], "nosuch"), (["lsit"], "'list'"), (["list", "--jsn"], "--json"), ([], "Usage")]
)
def test_wrong_usage_is_status_2(arguments: list[str], part: str) -> None:
    process = coqui_scl(*arguments)
    assert process.returncode == 2
    assert process.stdout.strip() == ""
    assert part in process.stderr
    assert "Traceback" not in process.stderr


def test_debug_shows_a_traceback_with_the_same_message_and_status() -> None:
    plain, debug = coqui_scl("run", "nosuch"), coqui_scl("--debug", "run", "nosuch")
    assert "Traceback (most recent call last)" in debug.stderr
    assert plain.stderr.removeprefix("coqui-scl: ").strip() in debug.stderr
    assert debug.returncode == plain.returncode == 2


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_of_ours_below_run_is_shown_like_any_other(debug: bool, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model": "scl_vits", "scl": {"wieght": 5}}))
    arguments = ["run", "-m", "TTS.bin.find_unique_chars", "--config_path", str(tmp_path / "config.json")]
    process = coqui_scl(*["--debug"][: int(debug)], *arguments)
    assert "scl.wieght: unknown key. Did you mean 'weight'?" in process.stderr
    assert ("Traceback" in process.stderr) is debug
    assert process.returncode == 2
