"""Checks of the environment: installed versions and FFmpeg."""

import importlib.metadata
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import torchaudio
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from coqui_scl_plugin.preflight.facts import RunFacts
from coqui_scl_plugin.preflight.report import Finding

DISTRIBUTION = "coqui-scl-plugin"
_SEAM = {"coqui-tts": "<0.29", "coqui-tts-trainer": "<0.5"}
"""The newest tested versions of the packages that this one hooks into; all others have lower bounds alone."""


def check_ffmpeg(facts: RunFacts) -> list[Finding]:
    """Audio can be read the way Coqui's data loader reads it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tone.flac"
        soundfile.write(file, 0.1 * np.sin(np.arange(1600) / 5), 16_000)
        try:
            torchaudio.load(str(file))
        except (RuntimeError, ImportError, OSError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            return [
                Finding(
                    f"torchaudio cannot read audio, so Coqui's data loader cannot either: {reason}",
                    "Install FFmpeg's shared libraries (apt-get install ffmpeg) and a torchcodec that fits this torch.",
                )
            ]
    return []


def outside(requirements: Iterable[Requirement]) -> list[str]:
    """Return a sentence for each requirement that the installed version does not meet."""
    sentences = []
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        tested = requirement.specifier & SpecifierSet(_SEAM.get(requirement.name, ""))
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            sentences.append(f"{requirement.name} is not installed, {tested} was tested.")
            continue
        if not tested.contains(Version(installed), prereleases=True):
            sentences.append(f"{requirement.name} is {installed}, {tested} was tested.")
    return sentences


def check_versions(facts: RunFacts) -> list[Finding]:
    """Installed versions are within the tested range."""
    wrong = outside(map(Requirement, importlib.metadata.requires(DISTRIBUTION) or ()))
    change = f"Install a version in that range, or a newer {DISTRIBUTION}."
    return [Finding(" ".join(wrong), change)] if wrong else []
