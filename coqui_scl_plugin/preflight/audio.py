"""The check of what recordings hold: their channels, as headers say, and the samples of some of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import soundfile

from coqui_scl_plugin.preflight.facts import DataFacts
from coqui_scl_plugin.preflight.headers import Header
from coqui_scl_plugin.preflight.recordings import by_cause
from coqui_scl_plugin.preflight.report import Finding

_MAX_HEARD = 200
"""Recordings of each kind of format of which the samples are read, evenly spread over the data set."""
_MAX_SECONDS = 60.0
"""Of each recording."""
_BEYOND_ONE = ("FLOAT", "DOUBLE", "MPEG_LAYER_III", "MPEG_LAYER_II", "MPEG_LAYER_I", "VORBIS", "OPUS")
"""Formats whose samples may lie outside of [-1, 1]."""
_PACKED = ("IMA_ADPCM", "MS_ADPCM", "VOX_ADPCM", "G721_32", "G723_24", "G723_40", "GSM610", "NMS_ADPCM_16")
"""Formats of WAV files whose length soundfile and ffmpeg, by which Coqui reads them, see differently."""
_SILENCE = 1e-3
"""-60 dBFS: the greatest sample of a recording that counts as silent."""
_FULL_SCALE, _CLIPPED_SHARE = 0.999, 0.01
_OFFSET = 0.05
"""Mean of the samples, which is about 0 in speech."""


@dataclass(frozen=True)
class Sound:
    """What the samples of a recording are like."""

    header: Header
    frames: int
    """Samples that could be read; -1 if an error ended the reading."""
    peak: float = 0.0
    """The greatest absolute value; NaN if a sample is not finite."""
    mean: float = 0.0
    clipped: float = 0.0
    """The share of samples at full scale."""


def hear(header: Header) -> Sound:
    """Read the samples of a recording, or of its first minute."""
    wanted = min(header.frames, round(_MAX_SECONDS * header.rate))
    try:
        samples, _ = soundfile.read(header.path, frames=wanted, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, ValueError):
        return Sound(header, -1)
    if not samples.size:
        return Sound(header, 0)
    size = np.abs(samples)
    return Sound(header, len(samples), float(size.max()), float(samples.mean()), float((size >= _FULL_SCALE).mean()))


def check_audio(facts: DataFacts) -> list[Finding]:
    """Recordings have one channel and samples that are finite, within [-1, 1], complete and not silent."""
    headers = [header for header in facts.headers.once(facts.all_samples) if not header.problem]
    if not headers:
        return []
    findings = _of_headers(headers)
    sounds = [hear(header) for header in _some_of_each_kind(headers)]
    for is_wrong, what, change, is_error in _DEFECTS:
        if concerned := [sound.header for sound in sounds if is_wrong(sound)]:
            found = by_cause(concerned, len(sounds), what)
            note = f" ({len(sounds)} of {len(headers)} were inspected)" if len(sounds) < len(headers) else ""
            findings.append(Finding(f"{found}{note}.", change, is_error=is_error))
    return findings


def _of_headers(headers: Sequence[Header]) -> list[Finding]:
    findings = []
    if several := [header for header in headers if header.channels > 1]:
        counts = " or ".join(str(count) for count in sorted({header.channels for header in several}))
        found = by_cause(several, len(headers), f"have {counts} channels, on which Coqui's batches fail")
        findings.append(Finding(f"{found}.", "Convert them to mono, e.g. with ffmpeg -i IN -ac 1 OUT.wav."))
    if packed := [header for header in headers if header.subtype in _PACKED]:
        names = ", ".join(sorted({header.subtype for header in packed}))
        what = f"hold compressed samples ({names}), of which Coqui's data loader reads another number than it counts"
        change = "Convert them to 16-bit PCM, e.g. with ffmpeg -i IN -c:a pcm_s16le OUT.wav."
        findings.append(Finding(f"{by_cause(packed, len(headers), what)}.", change))
    if cut := [header for header in headers if header.is_cut]:
        found = by_cause(cut, len(headers), "end before the length in the header")
        findings.append(Finding(f"{found}.", "Copy them again: their texts say more than is heard.", is_error=False))
    return findings


def _some_of_each_kind(headers: Sequence[Header]) -> list[Header]:
    kinds: tuple[list[Header], list[Header]] = ([], [])
    for header in headers:
        kinds[header.subtype in _BEYOND_ONE].append(header)
    return [header for kind in kinds for header in _spread(kind)]


def _spread(headers: Sequence[Header]) -> Iterable[Header]:
    return [headers[index * len(headers) // _MAX_HEARD] for index in range(_MAX_HEARD)] if len(
        headers
    ) > _MAX_HEARD else headers  # fmt: skip


_DEFECTS: tuple[tuple[Callable[[Sound], bool], str, str, bool], ...] = (
    (
        lambda sound: sound.frames < 0 or (sound.header.subtype.startswith("PCM") and _ends_early(sound)),
        "cannot be read to their end, on which the run would end",
        "Repair or remove them.",
        True,
    ),
    (
        lambda sound: sound.frames > 0 and not np.isfinite(sound.peak),
        "hold samples that are not finite (NaN or infinity), which would make every loss NaN",
        "Repair or remove them.",
        True,
    ),
    (
        lambda sound: bool(np.isfinite(sound.peak)) and sound.peak > 1.0,
        "hold samples outside of [-1, 1], on which Coqui's data loader ends (load_audio)",
        "Scale them, or convert them to 16-bit PCM, e.g. with ffmpeg -i IN -c:a pcm_s16le OUT.wav.",
        True,
    ),
    (
        lambda sound: sound.frames > 0 and sound.peak < _SILENCE,
        "are silent (no sample is above -60 dBFS)",
        "Record them again, or remove them: nobody can be recognised in them.",
        False,
    ),
    (
        lambda sound: sound.clipped > _CLIPPED_SHARE and sound.peak <= 1.0,
        f"are clipped (over {_CLIPPED_SHARE:.0%} of their samples are at full scale)",
        "Record them again, or remove them: the model learns the distortion.",
        False,
    ),
    (
        lambda sound: _SILENCE <= sound.peak <= 1.0 and sound.clipped <= _CLIPPED_SHARE and abs(sound.mean) > _OFFSET,
        f"have a constant offset (the mean of their samples is beyond {_OFFSET:g})",
        "Remove it, e.g. with ffmpeg -i IN -af highpass=f=20 OUT.wav.",
        False,
    ),
)
"""What may be wrong with the samples, in words, what to change, and whether it stops a run."""


def _ends_early(sound: Sound) -> bool:
    return sound.frames < min(sound.header.frames, round(_MAX_SECONDS * sound.header.rate))
