"""Resemblyzer's GE2E speaker encoder, from the weights in its wheel."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from coqui_scl_plugin.encoders.audio import librosa_mel
from coqui_scl_plugin.encoders.base import substate, windows
from coqui_scl_plugin.encoders.loading.files import UNREADABLE
from coqui_scl_plugin.encoders.loading.packaged import PackagedWeights, load_weights
from coqui_scl_plugin.encoders.windowed import WindowedEncoder
from coqui_scl_plugin.errors import EncoderError

_MIN_RMS = 10 ** (-30 / 20)
_WEIGHTS = PackagedWeights(
    "ge2e",
    wheel="Resemblyzer-0.1.4-py3-none-any.whl",
    wheel_sha256="8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
    path="resemblyzer/pretrained.pt",
    sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
    licence="Apache-2.0",
    licence_files=("LICENSE",),
    download_megabytes=16,
)


def raise_loudness(waveform: Tensor) -> Tensor:
    """Amplify each row of `[B, T]` that is quieter than -30 dBFS to that loudness; leave louder ones alone."""
    rms = (waveform.square().mean(dim=-1, keepdim=True) + 1e-16).sqrt()
    return waveform * (_MIN_RMS / rms).clamp_min(1.0)


class GE2EEncoder(WindowedEncoder):
    """Three-layer LSTM on 40 mel bands (Wan et al., "Generalized end-to-end loss", ICASSP 2018), 256-d.

    Embeds windows of 1.6 s that overlap by half and takes the direction of their mean. Unlike Resemblyzer's own
    pipeline it does not cut silence, which would not be differentiable.
    """

    sample_rate, embedding_dim, min_samples = 16_000, 256, 25_600
    packaged_weights = _WEIGHTS
    evidence = (
        "Takes less than half the time of Coqui's ResNet (docs/speed.md). Ablation "
        "(docs/ablation.md), speech from text, trained against it alone: +0.310 by itself, +0.098 by dvector, "
        "+0.041 by campplus."
    )
    _window_frames, _hop_frames = 160, 80  # of 10 ms

    def __init__(self, model_path: str | None = None, sha256: str | None = None) -> None:
        """Load the weights.

        Args:
            model_path: Path or URL of a checkpoint that Resemblyzer saved. Default: the one in the wheel `resemblyzer`.
            sha256: Expected SHA-256 of that file.

        Raises:
            EncoderError: the file is missing, has another SHA-256, or is not such a checkpoint.
        """
        super().__init__()
        self.mel = librosa_mel(n_fft=400, win_length=400, hamming=False, center=True)
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        file = load_weights(model_path, sha256, _WEIGHTS)
        self.sha256 = file.sha256
        try:
            state = torch.load(file.path, map_location="cpu", weights_only=True)["model_state"]
            self.lstm.load_state_dict(substate(state, "lstm"))
            self.linear.load_state_dict(substate(state, "linear"))
        except UNREADABLE as error:
            raise EncoderError(
                f"{file.path} is not a readable checkpoint of Resemblyzer's GE2E encoder: {error}"
            ) from error

    def cut(self, waveform: Tensor) -> Tensor:
        """Return the windows of `[B, T]` at 16 kHz: `[B, N, 160, 40]`."""
        mel = self.mel(raise_loudness(waveform)).transpose(-1, -2)
        return windows(mel, self._window_frames, self._hop_frames)

    def embed_windows(self, windows: Tensor) -> Tensor:
        """Embed `[M, 160, 40]`: `[M, 256]`, unit length."""
        _, (hidden, _) = self.lstm(windows)
        return normalize(relu(self.linear(hidden[-1])), dim=-1)
