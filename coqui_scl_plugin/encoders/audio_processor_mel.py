"""The mel spectrogram of Coqui's `AudioProcessor`, which computes it in numpy, in torch and differentiable."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from TTS.config.shared_configs import BaseAudioConfig
from TTS.utils.audio import AudioProcessor

from coqui_scl_plugin.errors import EncoderError

_PAD_MODES = {"reflect": "reflect", "constant": "constant", "edge": "replicate"}
"""Names of librosa to those of torch."""
_LOGARITHMS = {"np.log": torch.log, "np.log10": torch.log10}
_REFUSALS = (AssertionError, ArithmeticError, AttributeError, TypeError, ValueError)
"""What `AudioProcessor` may raise on settings that do not fit."""


def preemphasise(waveform: Tensor, coefficient: float) -> Tensor:
    """Each sample of `[B, T]` less `coefficient` times the one before it; the first stays as it is.

    >>> preemphasise(torch.tensor([[1.0, 1.0, 3.0]]), 0.5).tolist()
    [[1.0, 0.5, 2.5]]
    """
    return torch.cat([waveform[:, :1], waveform[:, 1:] - coefficient * waveform[:, :-1]], dim=1)


def peak_level(waveform: Tensor) -> Tensor:
    """Each row of `[B, T]` with its peak at 0.95; silence stays silent."""
    return 0.95 * waveform / waveform.abs().amax(dim=-1, keepdim=True).clamp_min(1e-8)


def rms_level(waveform: Tensor, decibels: float) -> Tensor:
    """Each row of `[B, T]` with a root mean square of `decibels` to full scale; silence stays silent."""
    rms = waveform.square().mean(dim=-1, keepdim=True).clamp_min(1e-16).sqrt()
    return 10 ** (decibels / 20) * waveform / rms


def _unsupported(audio: BaseAudioConfig) -> Iterator[tuple[str, str]]:
    """The keys whose values cannot be reproduced, each with what it may be."""
    if audio.stft_pad_mode not in _PAD_MODES:
        yield "stft_pad_mode", f"expected one of {', '.join(_PAD_MODES)}"
    if audio.signal_norm and audio.stats_path:
        yield "stats_path", "features normalised by a file of means and variances are not supported"
    if audio.mel_fmax is not None and not audio.mel_fmin < audio.mel_fmax <= audio.sample_rate // 2:
        yield "mel_fmax", f"expected more than mel_fmin = {audio.mel_fmin} and at most half of sample_rate"
    if audio.do_rms_norm and (audio.db_level is None or not -99 <= audio.db_level <= 0):
        yield "db_level", "expected -99 to 0, since do_rms_norm is set"


class AudioProcessorMel(nn.Module):
    """What `AudioProcessor.load_wav` and `.melspectrogram` (TTS/utils/audio/processor.py) make of a waveform.

    Unlike the former it cuts no silence, which would not be differentiable, and leaves the rate as it is.
    """

    basis: Tensor
    window: Tensor

    def __init__(self, audio: BaseAudioConfig, path: str = "audio") -> None:
        """Take the settings of a config.

        Args:
            audio: The section `audio` of a Coqui config.
            path: Its place, for messages.

        Raises:
            EncoderError: a setting cannot be reproduced; the message names its key.
        """
        super().__init__()
        for key, expected in _unsupported(audio):
            msg = (
                f"{path}.{key} = {audio[key]!r}: {expected}. Take a checkpoint with other settings, or another encoder."
            )
            raise EncoderError(msg)
        try:
            self.stock = AudioProcessor(audio)
        except _REFUSALS as error:
            msg = f"{path}: Coqui's AudioProcessor cannot take these settings: {type(error).__name__}: {error}"
            raise EncoderError(msg) from error
        self.register_buffer("basis", torch.from_numpy(self.stock.mel_basis))
        self.register_buffer("window", torch.hann_window(self.stock.win_length))

    @property
    def min_samples(self) -> int:
        """The shortest waveform that gives more than one frame, and is long enough to be reflected at its ends."""
        return int(max(self.stock.fft_size, self.stock.hop_length))

    def forward(self, waveform: Tensor) -> Tensor:
        """Mel spectrogram of `[B, T]` at the config's rate: `[B, num_mels, 1 + T // hop_length]`.

        In decibels or linear, normalised or not, as the settings say. Where a value is clipped its gradient is 0.
        """
        spectrum = torch.stft(
            preemphasise(self._levelled(waveform), self.stock.preemphasis),
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
        return self._normalised(mel) if self.stock.signal_norm else mel

    def _levelled(self, waveform: Tensor) -> Tensor:
        if self.stock.do_sound_norm:
            waveform = peak_level(waveform)
        if self.stock.do_rms_norm:
            waveform = rms_level(waveform, self.stock.db_level)
        return waveform

    def _normalised(self, mel: Tensor) -> Tensor:
        floor, top = self.stock.min_level_db, self.stock.max_norm
        scaled = top * (mel - self.stock.ref_level_db - floor) / -floor
        if self.stock.symmetric_norm:
            scaled = 2 * scaled - top
        return scaled.clamp(-top if self.stock.symmetric_norm else 0, top) if self.stock.clip_norm else scaled
