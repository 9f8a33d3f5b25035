"""Find or fetch the files of an encoder (from disk, a URL or a hub), and check their hashes."""

import hashlib
import os
import pickle
import re
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path

from coqui_scl_plugin.errors import EncoderError

UNREADABLE = (
    pickle.UnpicklingError, struct.error, EOFError, OSError, ImportError,
    LookupError, ValueError, TypeError, AttributeError, RuntimeError,
)  # fmt: skip
"""The exceptions that a file of the wrong kind may cause while it is read: torch's unpickler trusts its bytes."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class LocalFile:
    """A file on this disk, and the hash of its content."""

    path: Path
    sha256: str
    """64 hexadecimal digits."""


def fetch(location: str | Path, sha256: str | None = None) -> LocalFile:
    """Return the file at a path or URL; a file from a URL is kept in Coqui's download folder and not fetched again.

    Args:
        location: A path, or any URL that fsspec opens.
        sha256: Expected SHA-256 as hexadecimal digits. None: any file is accepted.

    Raises:
        EncoderError: there is no such file, it cannot be fetched, or it has another SHA-256.
    """
    path = _download(str(location)) if "://" in str(location) else Path(location)
    if not path.is_file():
        raise EncoderError(f"The speaker encoder's file {path} does not exist.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    found = LocalFile(path, digest)
    check_sha256(str(location), found, sha256)
    return found


def check_sha256(location: str, file: LocalFile, sha256: str | None) -> None:
    """Raise an EncoderError that names `location` unless the file has this SHA-256; None accepts any file."""
    if sha256 is not None and file.sha256 != sha256.lower():
        msg = (
            f"{location}: its SHA-256 is {file.sha256}, the config expects {sha256}. The file is damaged, or is not "
            f"the one that was meant: fetch it again (the local copy is {file.path}), or correct sha256."
        )
        raise EncoderError(msg)


def download_folder() -> Path:
    """Return the folder in which Coqui keeps downloaded models, as its `get_user_data_dir("tts_cache")` finds it."""
    data = os.environ.get("TTS_HOME", os.environ.get("XDG_DATA_HOME"))
    if data is None:
        return user_data_path("tts_cache", appauthor=False)
    return Path(data).expanduser().resolve() / "tts_cache"


def encoders_folder() -> Path:
    """Return the folder in it in which this package keeps the files of speaker encoders."""
    return download_folder() / "speaker_encoders"


def _download(url: str) -> Path:
    folder = encoders_folder() / hashlib.sha256(url.encode()).hexdigest()[:16]
    target = folder / (Path(url.partition("?")[0]).name or "file")
    if target.is_file():
        return target
    import fsspec  # slow to import, and most encoders are on this disk
    from aiohttp import ClientError
    from fsspec.callbacks import TqdmCallback

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
    """Return a local folder, or the files that match `patterns` of a model on the Hugging Face hub.

    Args:
        name: A folder; where there is none of this name, a hub name such as `speechbrain/spkrec-ecapa-voxceleb`.
        patterns: Globs of the files to fetch from the hub.

    Raises:
        EncoderError: there is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    if not _HUB_NAME.fullmatch(name):
        raise EncoderError(f"The speaker encoder's folder {name} does not exist.")
    from huggingface_hub import snapshot_download  # as above
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        msg = (
            f"{name} is not a local folder, and no model of this name could be fetched from the hub: "
            f"{type(error).__name__}: {error}"
        )
        raise EncoderError(msg) from error
