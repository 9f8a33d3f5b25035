"""A distribution of a third party's encoders, made-up speech, and `coqui-scl` on many configs in one process."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from command_driver import DRIVER
from preflight_runs import SPEAKERS, Outcome, changed, contents, d_vectors, run_config, write_speech

from coqui_scl_plugin import SclVits, SclVitsConfig


@pytest.fixture(scope="session")
def speech_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preflight") / "speech"
    write_speech(folder)
    shutil.copytree(folder, folder.with_name("other"))  # the same names, other files
    files = {
        "d_vectors": d_vectors(lambda s, t: f"toy#{s}/{t}", str),
        "d_vectors_vctk": d_vectors(lambda s, t: f"VCTK_{s}/{t}", lambda s: f"VCTK_{s}"),
        "d_vectors_other_keys": d_vectors(lambda s, t: f"{s}/{t}", str),
        "d_vectors_other_size": d_vectors(lambda s, t: f"toy#{s}/{t}", str, size=16),
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def checkpoints(speech_folder: Path) -> Path:
    """A folder with checkpoints of the model in `run_config`: whole, without discriminator, of another size."""
    folder = speech_folder.with_name("checkpoints")
    folder.mkdir()
    for name, size in (("whole", {}), ("other", {"hidden_channels": 48, "use_sdp": True})):
        config = SclVitsConfig(speakers=list(SPEAKERS))
        plain = run_config(speech_folder, args=size, scl={"enabled": False})
        config.from_dict(plain)
        weights = SclVits(config).state_dict()
        torch.save({"model": weights, "step": 5, "epoch": 0, "optimizer": []}, folder / f"{name}.pth")
        if name == "whole":
            generator = {key: value for key, value in weights.items() if not key.startswith("disc.")}
            torch.save({"model": generator, "step": 5, "epoch": 0}, folder / "generator.pth")
    return folder


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that, on PYTHONPATH, is an installed distribution of broken encoders."""
    folder = tmp_path_factory.mktemp("third-party")
    shutil.copy(Path(__file__).with_name("scl_broken_encoders.py"), folder)
    info = folder / "scl_broken_encoders-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scl-broken-encoders\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[coqui_scl_plugin]\nbroken = scl_broken_encoders\n")
    return folder


@pytest.fixture(scope="session")
def run_all(third_party: Path) -> Callable[..., dict[str, Outcome]]:
    """Run `coqui-scl` with the arguments of each case in its folder, all in one process."""

    def run(work: Mapping[str, tuple[Path, list[str]]], root: Path) -> dict[str, Outcome]:
        results, cases = root / "results.jsonl", root / "cases.json"
        results.touch()
        cases.write_text(
            json.dumps(
                [
                    {"name": name, "folder": str(folder), "arguments": arguments, "results": str(results)}
                    for name, (folder, arguments) in work.items()
                ]
            )
        )
        before = {name: contents(folder) for name, (folder, _) in work.items()}
        process = subprocess.run(
            [sys.executable, "-c", DRIVER, str(cases)],
            env=os.environ | {"PYTHONPATH": str(third_party), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert process.returncode == 0, f"{results.read_text()[-2000:]}\n{process.stdout}\n{process.stderr}"
        return {
            name: Outcome(status, out, err, changed(before[name], contents(work[name][0])))
            for name, status, out, err in map(json.loads, results.read_text().splitlines())
        }

    return run
