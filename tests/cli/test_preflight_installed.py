"""`coqui-scl preflight`, installed: in an environment without FFmpeg's libraries, and on real speech."""

import json
from pathlib import Path
from typing import Any

import pytest
import torchcodec.decoders
from command_driver import Outcome, changes_in, run_script
from tiny_vits import run_config

from coqui_scl_plugin.preflight import environment
from coqui_scl_plugin.preflight.checks import IDS

RECIPE = Path(__file__).resolve().parents[2] / "recipes/libri10/finetune/config.json"
NO_LIBRARIES = (
    "Could not load libtorchcodec. Likely causes:\n  1. FFmpeg is not properly installed in your environment."
)


def preflight(config: Path, *paths: Path) -> Outcome:
    return run_script("preflight", "--config_path", config, "--json", folder=config.parent, paths=paths)


def test_torchcodec_that_does_not_load(speech_folder: Path, tmp_path: Path) -> None:
    """Without FFmpeg some versions fail on import; Coqui only checks that a package of this name is there."""
    package = tmp_path / "site" / "torchcodec"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"raise RuntimeError({NO_LIBRARIES!r})\n")
    folder = tmp_path / "case"
    folder.mkdir()
    config = folder / "config.json"
    config.write_text(json.dumps(run_config(speech_folder, scl={})))
    with changes_in(speech_folder) as changed:
        outcome = preflight(config, package.parent)
    assert outcome.status == 1, outcome.err
    checks = outcome.report["checks"]
    (finding,) = next(check["findings"] for check in checks if check["id"] == "ffmpeg")
    assert "Could not load libtorchcodec" in finding["found"]
    assert "apt-get install ffmpeg" in finding["change"]
    assert {check["id"]: check["status"] for check in checks if check["status"] != "passed"} == {
        "ffmpeg": "failed",
        "gradient": "not run",
        "holdout": "not run",
        "reach": "not run",
    }
    assert outcome.changed == changed == []


def test_torchcodec_that_loads_and_cannot_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer versions can be imported without FFmpeg, for the sake of their other decoders."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(NO_LIBRARIES)

    monkeypatch.setattr(torchcodec.decoders.AudioDecoder, "__init__", refuse)
    (finding,) = environment.check_ffmpeg(None)  # type: ignore[arg-type]  # it looks at no run
    assert finding.is_error
    assert finding.found.endswith("Could not load libtorchcodec. Likely causes:")


def test_the_recipe_on_real_speech(libri10: Path, tmp_path: Path) -> None:
    plain = json.loads(RECIPE.read_text())
    plain["datasets"][0]["path"] = str(libri10)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(plain))
    outcome = preflight(config)
    assert outcome.status == 0, outcome.err + outcome.out
    assert {check["id"]: check["status"] for check in outcome.report["checks"]} == dict.fromkeys(IDS, "passed")
    assert outcome.changed == []
