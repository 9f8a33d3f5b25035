"""Fixtures of several folders."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from coqui_encoder_files import CoquiFiles, write_coqui_encoder
from hypothesis import HealthCheck, settings

collect_ignore = ["example_plugin"]  # whose tests run where it is installed; see plugins/test_example_plugin.py

pytest.register_assert_rewrite("command_driver")  # so that its assertions show their values too

_ANY = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("test", max_examples=400, derandomize=True, **_ANY)  # the same examples in each run
settings.register_profile("nightly", max_examples=5000, print_blob=True, **_ANY)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


@pytest.fixture(scope="session")
def libri10() -> Path:
    """Return the folder of ten speakers with ten utterances each.

    SCL_DATA names it; by default it stands beside the repository.
    """
    root = Path(__file__).resolve().parents[1]
    folder = root / os.environ.get("SCL_DATA", "../shared/data/libri10")
    if not (folder / "metadata.csv").is_file():
        pytest.skip(f"real speech is not at {folder}; set SCL_DATA to the folder of libri10")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let torch use one thread: for batches as small as those of tests, threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def _coquis_filters_anew() -> None:
    """Let Coqui make its mel filters anew: it keeps them under names without the sample rate."""
    if transforms := sys.modules.get("TTS.utils.audio.torch_transforms"):
        transforms.mel_basis.clear()


@pytest.fixture(scope="session")
def example_plugin_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of `scl-example-plugin`, built by pip from its own pyproject.toml."""
    folder = tmp_path_factory.mktemp("example-plugin-wheel")
    source = folder / "source"  # a copy, since setuptools builds inside
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(Path(__file__).with_name("example_plugin"), source, ignore=ignored)
    _pip("wheel", "--no-build-isolation", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def example_plugin_path(example_plugin_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with that wheel installed; on PYTHONPATH, it is part of the environment."""
    folder = tmp_path_factory.mktemp("example-plugin")
    _pip("install", "--no-compile", "--target", folder, example_plugin_wheel)
    return folder


def _pip(command: str, *arguments: str | Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", command, "--quiet", "--no-deps", "--no-index"]
    process = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.fixture(scope="session")
def coqui_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CoquiFiles]:
    """Return Coqui's encoders by kind: `resnet`, `lstm`, and `-audio-processor` of each, without `use_torch_spec`."""
    folder = tmp_path_factory.mktemp("coqui-encoders")
    with_torch_spec = {kind: write_coqui_encoder(kind, folder) for kind in ("resnet", "lstm")}
    return with_torch_spec | {
        f"{kind}-audio-processor": write_coqui_encoder(kind, folder, use_torch_spec=False) for kind in with_torch_spec
    }
