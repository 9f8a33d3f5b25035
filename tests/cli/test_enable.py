"""`coqui-scl enable` and `disable`, in virtual environments made for the purpose."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import TTS
from command_driver import slow_imports_of

from coqui_scl_plugin.utils import startup_line

PACKAGES = Path(TTS.__file__).parents[1]
PLUGIN = Path(startup_line.__file__).parents[2]


class Environment:
    """A virtual environment that reads the packages of this one, and the package itself from a folder of its own."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        (self.site,) = folder.glob("lib/python*/site-packages")
        (self.site / "packages.pth").write_text(f"{PACKAGES}\n")
        self.install()

    def install(self) -> None:
        (self.site / "a_package.pth").write_text(f"{PLUGIN}\n")

    def uninstall(self) -> None:
        """Remove the package as pip would, which knows nothing of the line."""
        (self.site / "a_package.pth").unlink()

    def run(self, *arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
        own = {name: value for name, value in os.environ.items() if name not in hidden}
        command = [self.python, *arguments]
        return subprocess.run(
            command, cwd=folder or self.site, env=own, capture_output=True, text=True, timeout=120, check=False
        )

    def scl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "coqui_scl_plugin", *arguments)

    def finders(self) -> list[str]:
        ran = self.run("-c", "import sys; print(*(type(one).__name__ for one in sys.meta_path), *sys.modules)")
        assert (ran.returncode, ran.stderr) == (0, "")
        return ran.stdout.split()

    @property
    def files(self) -> set[str]:
        return {file.name for file in self.site.iterdir()}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "environment")


@pytest.mark.parametrize("command", ["enable", "disable"])
def test_help_is_fast(command):
    imported, shown = slow_imports_of(command, "-h")
    assert imported == set()
    assert "--json" in shown


def test_it_writes_one_line_and_is_undone_completely(environment):
    before = environment.files
    enabled = environment.scl("enable")
    assert (enabled.returncode, enabled.stderr) == (0, "")
    assert enabled.stdout.startswith(f"Enabled for {environment.python}.\n")
    assert environment.files - before == {startup_line.FILE}
    text = (environment.site / startup_line.FILE).read_text()
    assert (text.count("\n"), text.startswith("import ")) == (1, True)
    again = json.loads(environment.scl("enable", "--json").stdout)
    assert (again["enabled"], again["changed"], again["virtual_environment"]) == (True, False, True)
    (environment.site / startup_line.FILE).write_text("import sys  # of another version\n")
    assert json.loads(environment.scl("enable", "--json").stdout)["changed"] is True
    assert (environment.site / startup_line.FILE).read_text() == text
    disabled = environment.scl("disable")
    assert (disabled.returncode, disabled.stderr) == (0, "")
    assert startup_line.FILE in disabled.stdout
    assert environment.files == before
    again = environment.scl("disable")
    assert (again.returncode, "Was not enabled" in again.stdout) == (0, True)
    assert json.loads(environment.scl("disable", "--json").stdout)["removed"] == []


def test_coquis_own_command_knows_scl_vits_while_it_is_enabled(environment, tmp_path):
    rows = {"metadata.csv": "a.wav|abc", "eval.csv": "b.wav|cd!"}
    for name, row in rows.items():
        (tmp_path / name).write_text(f"audio_file|text\n{row}\n")
    (tmp_path / "a.wav").touch()
    (tmp_path / "b.wav").touch()
    dataset = {"formatter": "coqui", "path": str(tmp_path), "meta_file_train": "metadata.csv"}
    config = {"model": "scl_vits", "datasets": [dataset | {"meta_file_val": "eval.csv"}], "scl": {"weight": 5}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = ("-m", "TTS.bin.find_unique_chars", "--config_path", "config.json")
    assert environment.scl("enable").returncode == 0
    found = environment.run(*command, folder=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "!abcd" in found.stdout
    assert environment.scl("disable").returncode == 0
    lost = environment.run(*command, folder=tmp_path)
    assert "scl_vits cannot be found" in lost.stderr


def test_a_start_of_python_imports_nothing_more(environment):
    before = environment.finders()
    environment.scl("enable")
    after = environment.finders()
    assert [name for name in after if name not in before] == ["CoquiSclPluginStart"]


FAKE = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in ("TTS.tts.models.scl_vits", "TTS.tts.configs.scl_vits_config"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(error.name)
"""


def test_it_is_harmless_once_the_package_is_uninstalled(environment, tmp_path):
    environment.scl("enable")
    environment.uninstall()
    assert "CoquiSclPluginStart" in environment.finders()  # and Python's start printed nothing
    for package in ("TTS", "TTS/tts", "TTS/tts/models", "TTS/tts/configs"):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
    ran = environment.run("-c", FAKE, tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split() == ["TTS.tts.models.scl_vits", "TTS.tts.configs.scl_vits_config"]
    environment.install()
    # what the package itself looks for in the stand-in of Coqui
    assert set(environment.run("-c", FAKE, tmp_path).stdout.split()) == {"TTS.tts.configs.vits_config"}
    assert environment.scl("disable").returncode == 0


def test_a_folder_that_cannot_be_written_is_one_message(environment):
    (environment.site / startup_line.FILE).mkdir()  # root may write to every folder
    for command, part in (("enable", "cannot be written"), ("disable", "Remove it by hand")):
        refused = environment.scl(command)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.count("coqui-scl: ") == 1
        assert part in refused.stderr


def test_outside_of_a_virtual_environment_it_names_the_interpreter(monkeypatch, tmp_path, capsys):
    from coqui_scl_plugin.cli import enable

    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    monkeypatch.setattr(startup_line, "folders", lambda: [tmp_path])
    enable.enable(as_json=False)
    shown = capsys.readouterr().out
    assert f"{sys.executable}, which is no virtual environment" in shown
    assert (tmp_path / startup_line.FILE).read_text() == startup_line.LINE


def test_a_package_of_the_user_is_enabled_for_the_user(monkeypatch):
    monkeypatch.setattr(startup_line.site, "ENABLE_USER_SITE", True)
    monkeypatch.setattr(startup_line.site, "getusersitepackages", lambda: str(PLUGIN))
    assert startup_line.folders()[0] == PLUGIN
    monkeypatch.setattr(startup_line.site, "getusersitepackages", lambda: "/nowhere")
    assert startup_line.folders()[1] == Path("/nowhere")
