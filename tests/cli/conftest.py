"""What `coqui-scl preflight` is tried on: made-up speech, checkpoints, and a third party's encoders."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from distributions import install
from preflight_data import SPEAKERS, d_vectors, write_speech
from tiny_vits import run_config

from coqui_scl_plugin import SclVits, SclVitsConfig


@pytest.fixture(scope="session")
def speech_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of speech and of d-vectors for it, which has a copy, `other`, beside it."""
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
    """Return a folder with checkpoints of the model in `run_config`: whole, without discriminator, of another size."""
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
    """Return a folder that, on PYTHONPATH, is an installed distribution of broken encoders."""
    folder = tmp_path_factory.mktemp("third-party")
    code = Path(__file__).parents[1] / "support" / "scl_broken_encoders.py"
    install(folder, "scl-broken-encoders", code.read_text())
    return folder
