"""What listeners hear: recordings at one loudness, so that it does not decide, and degraded ones for catch trials."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchaudio.functional import loudness

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.audio_checks import problem_of
from coqui_scl_plugin.evaluation.audio_file import read_audio
from coqui_scl_plugin.evaluation.listening.questions import Clip
from coqui_scl_plugin.references.recordings import Recording
from coqui_scl_plugin.utils.shown import shorten

LOUDNESS_LUFS = -23.0
"""Loudness of every clip, as of EBU R 128, unless a peak then exceeds full scale: then all are as much quieter."""
_MAX_ATTENUATION_DB = 6.0
"""Peaks that would need more are cut, for a click in one clip must not make all of them faint."""
_MAX_SECONDS = 20.0
_BLOCK_SECONDS = 0.4
_MEASURED_PEAK = 0.1
"""Peak at which loudness is measured: torchaudio's filters cut what exceeds 1."""
_SPEECH_TO_NOISE_DB = 5.0


def load_clips(clips: Sequence[Clip]) -> tuple[list[tuple[Tensor, int]], list[str]]:
    """Load clips at one loudness.

    Returns:
        Waveforms `[T]` in [-1, 1] and rates in Hz, in the order of the clips; and a remark on each that cannot be
        speech, such as silence.

    Raises:
        ConfigError: a recording cannot be read.
    """
    loaded, remarks = [], []
    for number, clip in enumerate(clips):
        heard = read_audio(Recording(clip.path.name, clip.path, ""))
        if not heard.is_read or len(heard.waveform) == 0:
            raise ConfigError(f"{shorten(clip.path)} cannot be listened to: it is {heard.problem or 'empty'}.")
        if problem := problem_of(heard.waveform, heard.rate):
            remarks.append(f"{shorten(clip.path)} is {problem}; listeners hear it as it is.")
        waveform = heard.waveform[: round(_MAX_SECONDS * heard.rate)]
        if clip.degraded:
            waveform = add_modulated_noise(waveform, _SPEECH_TO_NOISE_DB, seed=number)
        loaded.append((equal_loudness(waveform, heard.rate), heard.rate))
    peak_db = 20 * math.log10(max(1.0, *(float(waveform.abs().max()) for waveform, _ in loaded)))
    gain = 10 ** (-min(peak_db, _MAX_ATTENUATION_DB) / 20)
    return [((gain * waveform).clamp(-1, 1), rate) for waveform, rate in loaded], remarks


def equal_loudness(waveform: Tensor, rate: int) -> Tensor:
    """Scale `[T]` to -23 LUFS by ITU-R BS.1770-4, which leaves pauses out; silence is returned unchanged.

    >>> tone = torch.sin(torch.arange(16_000) * 0.4)
    >>> torch.allclose(equal_loudness(tone, 16_000), equal_loudness(0.1 * tone, 16_000), atol=1e-4)
    True
    """
    peak = float(waveform.abs().max())
    if peak == 0.0:
        return waveform
    measured = waveform * (_MEASURED_PEAK / peak)
    missing = max(0, math.ceil(_BLOCK_SECONDS * rate) - len(measured))
    found = float(loudness(torch.nn.functional.pad(measured, (0, missing))[None], rate))
    return measured * 10 ** ((LOUDNESS_LUFS - found) / 20) if math.isfinite(found) else waveform


def add_modulated_noise(waveform: Tensor, speech_to_noise_db: float, *, seed: int) -> Tensor:
    """Degrade `[T]` by noise that follows the speech: the modulated noise reference unit of ITU-T P.810, wideband.

    Each sample x becomes x (1 + 10^(-Q / 20) n), where Q is `speech_to_noise_db` and n is white, of unit variance.

    >>> add_modulated_noise(torch.zeros(2), 5.0, seed=0)
    tensor([0., 0.])
    """
    noise = torch.randn(waveform.shape, generator=torch.Generator().manual_seed(seed))
    return waveform * (1 + 10 ** (-speech_to_noise_db / 20) * noise)
