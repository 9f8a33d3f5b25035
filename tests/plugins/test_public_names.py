"""The names that third parties and scripts import, the commands that users type, and the entry points of a release."""

import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

PUBLIC = {
    "coqui_scl_plugin": "SclConfig SclVits SclVitsConfig available build_encoder build_loss hookimpl __version__",
    "coqui_scl_plugin.config": "SECTION StrictConfig LossConfig EncoderConfig ReferenceConfig SegmentConfig "
    "ModuleRuleConfig FreezeConfig PreflightConfig EvaluationConfig SclConfig check_section check_loss check_config",
    "coqui_scl_plugin.hookspecs": "GROUP hookspec hookimpl scl_losses scl_encoders scl_freeze_policies",
    "coqui_scl_plugin.errors": "SclError ConfigError HoldoutError EvaluationSetError PluginError EncoderError "
    "PreflightError GradientError DriftError",
    "coqui_scl_plugin.cli": "main app",
}
COMMANDS = ("train", "run", "embed", "preflight", "evaluate", "list", "demo")


@pytest.mark.parametrize(("module", "name"), [(m, name) for m, names in PUBLIC.items() for name in names.split()])
def test_a_public_name_is_where_it_was(module: str, name: str) -> None:
    assert getattr(importlib.import_module(module), name) is not None


def test_the_hooks_are_those_of_the_registry() -> None:
    from coqui_scl_plugin import hookimpl, hookspecs
    from coqui_scl_plugin.plugins import hookspecs as used

    assert hookspecs.scl_losses is used.scl_losses
    assert hookspecs.hookimpl is used.hookimpl is hookimpl


def test_the_entry_points_are_those_of_before() -> None:
    points = importlib.metadata.distribution("coqui-scl-plugin").entry_points
    found = {(point.group, point.name, point.value) for point in points}
    assert found == {
        ("console_scripts", "coqui-scl", "coqui_scl_plugin.cli:main"),
        ("coqui_scl_plugin", "losses", "coqui_scl_plugin.losses"),
        ("coqui_scl_plugin", "encoders", "coqui_scl_plugin.encoders"),
        ("coqui_scl_plugin", "freeze_policies", "coqui_scl_plugin.freeze"),
    }


def in_a_process(program: str) -> str:
    environment = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_lists_every_command_and_loads_neither_torch_nor_coqui() -> None:
    shown = in_a_process(
        "import sys; from coqui_scl_plugin import cli\n"
        "sys.argv = ['coqui-scl', '-h']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print('loaded', sorted({'torch', 'TTS', 'trainer'} & sys.modules.keys()))"
    )
    assert shown.rstrip().endswith("loaded []")
    for command in COMMANDS:
        assert f"  {command} " in shown


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "train"])
def test_a_commands_own_help_is_as_light(command: str) -> None:
    shown = in_a_process(
        "import sys; from coqui_scl_plugin import cli\n"
        f"sys.argv = ['coqui-scl', {command!r}, '-h']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print('loaded', sorted({'torch', 'TTS', 'trainer'} & sys.modules.keys()))"
    )
    assert f"Usage: coqui-scl {command}" in shown
    assert shown.rstrip().endswith("loaded []")


def test_only_the_seam_knows_coqui() -> None:
    """The rule of the rooms: `TTS` and `trainer` are imported in coqui/, encoders/coqui.py and demo/ alone."""
    package = Path(importlib.import_module("coqui_scl_plugin").__file__).parent
    starts = ("from TTS", "import TTS", "from trainer", "import trainer")
    importing = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if any(line.strip().startswith(starts) for line in file.read_text(encoding="utf-8").splitlines())
    }
    assert {name for name in importing if not name.startswith(("coqui/", "demo/"))} == {"encoders/coqui.py"}


def test_a_room_imports_only_from_rooms_below_it() -> None:
    """In the order of CONTRIBUTING.md."""
    rooms = (
        *("cli", "demo", "coqui", "preflight", "monitoring", "consistency", "evaluation"),
        *("freeze", "references", "losses", "encoders", "config", "plugins", "utils"),
    )
    package = Path(importlib.import_module("coqui_scl_plugin").__file__).parent
    wrong = []
    for index, room in enumerate(rooms):
        above = tuple(f"coqui_scl_plugin.{name}" for name in rooms[:index])
        for file in (package / room).rglob("*.py"):
            for line in file.read_text(encoding="utf-8").splitlines():
                words = line.split()
                if words[:1] in (["from"], ["import"]) and (words[1] + ".").startswith(tuple(f"{n}." for n in above)):
                    wrong.append(f"{file.relative_to(package)}: {line.strip()}")
    assert wrong == []
