"""The mel spectrogram of Coqui's `AudioProcessor`, which computes it in numpy, in torch and differentiable."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from coqui_scl_plugin.errors import EncoderError

_PAD_MODES = {"reflect": "reflect", "constant": "constant", "edge": "replicate"}
"""librosa's names of padding modes, mapped to torch's."""
_LOGARITHMS = {"np.log": torch.log, "np.log10": torch.log10}


def preemphasise(waveform: Tensor, coefficient: float) -> Tensor:
    """Subtract `coefficient` times the preceding sample from each sample of `[B, T]`; the first one stays as it is.

    >>> preemphasise(torch.tensor([[1.0, 1.0, 3.0]]), 0.5).tolist()
    [[1.0, 0.5, 2.5]]
    """
    return torch.cat([waveform[:, :1], waveform[:, 1:] - coefficient * waveform[:, :-1]], dim=1)


def normalise_peak(waveform: Tensor) -> Tensor:
    """Scale each row of `[B, T]` to a peak of 0.95; silence stays silent."""
    return 0.95 * waveform / waveform.abs().amax(dim=-1, keepdim=True).clamp_min(1e-8)


def normalise_rms(waveform: Tensor, dbfs: float) -> Tensor:
    """Scale each row of `[B, T]` to a root mean square of `dbfs` decibels to full scale; silence stays silent."""
    rms = waveform.square().mean(dim=-1, keepdim=True).clamp_min(1e-16).sqrt()
    return 10 ** (dbfs / 20) * waveform / rms


def refuse_unsupported(audio: Any, path: str) -> None:
    """Refuse settings of `AudioProcessor` that cannot be reproduced here, before it is built from them.

    Args:
        audio: The section `audio` of a Coqui config.
        path: The config key of that section, for messages.

    Raises:
        EncoderError: a setting cannot be reproduced; the message names its key.
    """
    for key, expected in _unsupported(audio):
        msg = f"{path}.{key} = {audio[key]!r}: {expected}. Use a checkpoint with other settings, or another encoder."
        raise EncoderError(msg)


def _unsupported(audio: Any) -> Iterator[tuple[str, str]]:
    """Yield each key whose value cannot be reproduced, with the values it may have."""
    if audio.stft_pad_mode not in _PAD_MODES:
        yield "stft_pad_mode", f"expected one of {', '.join(_PAD_MODES)}"
    if audio.signal_norm and audio.stats_path:
        yield "stats_path", "features normalised by a file of means and variances are not supported"
    if audio.mel_fmax is not None and not audio.mel_fmin < audio.mel_fmax <= audio.sample_rate // 2:
        yield "mel_fmax", f"expected more than mel_fmin = {audio.mel_fmin} and at most half of sample_rate"
    if audio.do_rms_norm and (audio.db_level is None or not -99 <= audio.db_level <= 0):
        yield "db_level", "expected -99 to 0, since do_rms_norm is set"


class AudioProcessorMel(nn.Module):
    """The features that `AudioProcessor.load_wav` and `.melspectrogram` (TTS/utils/audio/processor.py) compute.

    Unlike the former it does not cut silence, which would not be differentiable, and does not resample.
    """

    basis: Tensor
    window: Tensor

    def __init__(self, stock: Any) -> None:
        """Take over the settings and the mel basis of Coqui's `AudioProcessor`.

        Args:
            stock: An `AudioProcessor` whose settings pass `refuse_unsupported`.
        """
        super().__init__()
        self.stock = stock
        self.register_buffer("basis", torch.from_numpy(stock.mel_basis))
        self.register_buffer("window", torch.hann_window(stock.win_length))

    @property
    def min_samples(self) -> int:
        """Length of the shortest waveform that gives more than one frame and can be reflected at both ends."""
        return int(max(self.stock.fft_size, self.stock.hop_length))

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute the mel spectrogram `[B, num_mels, 1 + T // hop_length]` of `[B, T]` at the config's rate.

        It is linear or in decibels, normalised or not, as the settings say. Clipped values have a gradient of 0.
        """
        spectrum = torch.stft(
            preemphasise(self._normalise_loudness(waveform), self.stock.preemphasis),
            n_fft=self.stock.fft_size,
            hop_length=self.stock.hop_length,
            win_length=self.stock.win_length,
            window=self.window,
            pad_mode=_PAD_MODES[self.stock.stft_pad_mode],
            return_complex=True,
        )
        mel = self.basis @ spectrum.abs()
        if self.stock.do_amp_to_db_mel:
            mel = self.stock.spec_gain * _LOGARITHMS[self.stock.log_func](mel.clamp_min(1e-8))
        return self._normalise(mel) if self.stock.signal_norm else mel

    def _normalise_loudness(self, waveform: Tensor) -> Tensor:
        if self.stock.do_sound_norm:
            waveform = normalise_peak(waveform)
        if self.stock.do_rms_norm:
            waveform = normalise_rms(waveform, self.stock.db_level)
        return waveform

    def _normalise(self, mel: Tensor) -> Tensor:
        floor, top = self.stock.min_level_db, self.stock.max_norm
        scaled = top * (mel - self.stock.ref_level_db - floor) / -floor
        if self.stock.symmetric_norm:
            scaled = 2 * scaled - top
        return scaled.clamp(-top if self.stock.symmetric_norm else 0, top) if self.stock.clip_norm else scaled
