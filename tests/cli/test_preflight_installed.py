"""The installed command, in an environment without FFmpeg's libraries, and on real speech."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torchcodec.decoders
from preflight_runs import changed, contents, run_config

from coqui_scl_plugin.preflight import environment
from coqui_scl_plugin.preflight.checks import IDS

SCRIPT = Path(sys.executable).with_name("coqui-scl")
RECIPE = Path(__file__).resolve().parents[2] / "recipes/libri10/finetune/config.json"
NO_LIBRARIES = (
    "Could not load libtorchcodec. Likely causes:\n  1. FFmpeg is not properly installed in your environment."
)


def preflight(config: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, "preflight", "--config_path", config, "--json"],
        cwd=config.parent,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_torchcodec_that_does_not_load(speech_folder: Path, tmp_path: Path) -> None:
    """As it is imported without FFmpeg; Coqui only looks whether there is a package of this name."""
    package = tmp_path / "site" / "torchcodec"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"raise RuntimeError({NO_LIBRARIES!r})\n")
    folder = tmp_path / "case"
    folder.mkdir()
    config = folder / "config.json"
    config.write_text(json.dumps(run_config(speech_folder, scl={})))
    before = contents(folder, speech_folder)
    process = preflight(config, PYTHONPATH=str(package.parent))
    assert process.returncode == 1, process.stderr
    checks: list[dict[str, Any]] = json.loads(process.stdout)["checks"]
    (finding,) = next(check["findings"] for check in checks if check["id"] == "ffmpeg")
    assert "Could not load libtorchcodec" in finding["found"]
    assert "apt-get install ffmpeg" in finding["change"]
    assert {check["id"]: check["status"] for check in checks if check["status"] != "passed"} == {
        "ffmpeg": "failed",
        "gradient": "not run",
        "holdout": "not run",
    }
    assert changed(before, contents(folder, speech_folder)) == []


def test_torchcodec_that_loads_and_cannot_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """As newer ones do, which are imported without FFmpeg for the sake of their other decoders."""

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
    process = preflight(config)
    assert process.returncode == 0, process.stderr + process.stdout
    checks = json.loads(process.stdout)["checks"]
    assert {check["id"]: check["status"] for check in checks} == dict.fromkeys(IDS, "passed")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
