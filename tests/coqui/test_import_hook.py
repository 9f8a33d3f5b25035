"""Importing the package is light, and makes `"model": "scl_vits"` resolve in Coqui's own, unchanged functions."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import coqui_scl_plugin

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "libri10" / "finetune" / "config.json"

# one process, since each import of torch and Coqui takes seconds; what it prints is looked at below
PROGRAM = """
import json, sys

seen = {}
finders = len(sys.meta_path)
import coqui_scl_plugin
seen["imported"] = [name for name in ("torch", "TTS", "trainer", "numpy", "pydantic") if name in sys.modules]
seen["added finders"] = [len(sys.meta_path) - finders]
coqui_scl_plugin.coqui.import_hook.install()
coqui_scl_plugin.coqui.import_hook.install()
seen["added finders"].append(len(sys.meta_path) - finders)

from TTS.config import load_config, register_config
from TTS.tts.models import setup_model
from TTS.tts.models.vits import Vits
from TTS.utils.generic_utils import find_module

def named(thing):
    return f"{thing.__module__}.{thing.__qualname__}"

def refused(call, *arguments):
    try:
        call(*arguments)
    except ModuleNotFoundError as error:
        return str(error)
    return None

seen["model"] = named(find_module("TTS.tts.models", "scl_vits"))
seen["config"] = named(register_config("scl_vits"))
seen["stock model"] = named(find_module("TTS.tts.models", "vits"))
seen["stock config"] = named(register_config("vits"))
seen["same class"] = find_module("TTS.tts.models", "scl_vits") is coqui_scl_plugin.SclVits
seen["unknown"] = [
    refused(find_module, "TTS.tts.models", "scl_vitz"),
    refused(register_config, "scl_vitz"),
    refused(find_module, "TTS.vocoder.models", "scl_vits"),
    refused(__import__, "TTS.tts.models.scl_vits.nosuch"),
]

config = load_config(sys.argv[1])
seen["loaded"] = [named(type(config)), config.scl.to_dict()]
config.datasets = []
config.speakers = ["first", "second"]
model = setup_model(config)
speakers = model.speaker_manager.num_speakers
seen["set up"] = [named(type(model)), isinstance(model, Vits), model.config.scl == config.scl, speakers]
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a fresh interpreter saw, which no test before has imported anything into."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(RECIPE)]
    folder = tmp_path_factory.mktemp("names")
    process = subprocess.run(
        command, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert process.returncode == 0, process.stderr
    assert list(folder.iterdir()) == []
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def test_importing_the_package_imports_no_slow_one(seen: dict[str, Any]) -> None:
    assert seen["imported"] == []


def test_one_finder_is_added_however_often_it_is_installed(seen: dict[str, Any]) -> None:
    assert seen["added finders"] == [1, 1]


def test_coqui_finds_the_model_and_its_config(seen: dict[str, Any]) -> None:
    assert seen["model"] == "coqui_scl_plugin.coqui.vits.SclVits"
    assert seen["config"] == "coqui_scl_plugin.coqui.vits_config.SclVitsConfig"
    assert seen["same class"]


def test_coquis_own_models_are_what_they_were(seen: dict[str, Any]) -> None:
    assert seen["stock model"] == "TTS.tts.models.vits.Vits"
    assert seen["stock config"] == "TTS.tts.configs.vits_config.VitsConfig"


def test_other_unknown_names_are_still_not_found(seen: dict[str, Any]) -> None:
    model, config, vocoder, below = seen["unknown"]
    assert "scl_vitz" in model
    assert "scl_vitz" in config
    assert "scl_vits" in vocoder
    assert "nosuch" in below


def test_coqui_loads_the_recipe_and_sets_up_its_model(seen: dict[str, Any]) -> None:
    kind, section = seen["loaded"]
    assert kind == "coqui_scl_plugin.coqui.vits_config.SclVitsConfig"
    assert json.loads(RECIPE.read_text())["scl"] == {"holdout": [{"name": "dvector"}]}
    assert [encoder["name"] for encoder in section["encoders"]] == ["ge2e", "campplus"]
    assert [encoder["name"] for encoder in section["holdout"]] == ["dvector"]
    assert seen["set up"] == ["coqui_scl_plugin.coqui.vits.SclVits", True, True, 2]


@pytest.mark.parametrize("name", coqui_scl_plugin.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(coqui_scl_plugin, name)
    assert callable(value)
    assert name in dir(coqui_scl_plugin)
    assert getattr(value, "__name__", name) == name


def test_the_public_names_are_those_of_the_contract() -> None:
    names = {"SclVits", "SclVitsConfig", "SclConfig", "build_loss", "build_encoder", "available", "hookimpl"}
    assert names <= set(coqui_scl_plugin.__all__)


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'coqui_scl_plugin' has no attribute 'SclVitz'"):
        coqui_scl_plugin.SclVitz  # noqa: B018
    assert not hasattr(coqui_scl_plugin, "build_los")


def test_available_names_every_kind() -> None:
    names = coqui_scl_plugin.available()
    assert set(names) == {"losses", "encoders", "freeze_policies"}
    assert {"cosine", "angular_margin", "contrastive", "ensemble"} <= set(names["losses"])
    assert {"coqui", "dvector", "ge2e"} <= set(names["encoders"])
    assert "frozen" in names["freeze_policies"]
    assert all(kind == sorted(kind) for kind in names.values())
