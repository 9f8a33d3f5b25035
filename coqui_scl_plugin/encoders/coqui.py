"""Coqui's own speaker encoders (ResNet H/ASP and LSTM), with a forward that passes gradients to the waveform."""

import warnings
from pathlib import Path

import torch
from coqpit import Coqpit
from torch import Tensor
from torch.nn.functional import normalize
from TTS.config import load_config
from TTS.encoder.models.base_encoder import BaseEncoder
from TTS.encoder.models.lstm import LSTMSpeakerEncoder
from TTS.encoder.utils.generic_utils import setup_encoder_model

from coqui_scl_plugin.encoders.audio_processor_mel import AudioProcessorMel
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.loading.files import UNREADABLE, fetch
from coqui_scl_plugin.errors import EncoderError

_REPLACED = r"Type mismatch in \w+\nFailed to deserialize field: (audio|model_params) "
"""What Coqui warns of when it takes a whole section's defaults, since one value in it has the wrong type."""


def _load_config(path: Path) -> Coqpit:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=_REPLACED)
        try:
            return load_config(path)
        except UserWarning as error:
            detail = " ".join(str(error).splitlines()[1:3])
            raise EncoderError(f"{path}: {detail}. Correct it: Coqui would take defaults for all of it.") from error


def _load(model_path: Path, config_path: Path) -> BaseEncoder:
    try:
        config = _load_config(config_path)
        model = setup_encoder_model(config)
        model.load_checkpoint(config, str(model_path), eval=True)
    except EncoderError:
        raise
    except UNREADABLE as error:
        msg = f"{model_path} with {config_path} is no speaker encoder of Coqui: {type(error).__name__}: {error}"
        raise EncoderError(msg) from error
    return model


class CoquiEncoder(SpeakerEncoder):
    """A checkpoint of Coqui's `TTS.encoder`; its values equal those of the model's own forward.

    Stock's LSTM computes its features under `no_grad`, so no gradient gets past them, stock's ResNet squeezes the
    caller's tensor in place, and with `use_torch_spec: false` both hear features that `AudioProcessor` computes in
    numpy. Here all of them take a waveform, leave it alone, and give it a gradient.
    """

    def __init__(self, model_path: str, config_path: str, sha256: str | None = None) -> None:
        """Load the checkpoint.

        Args:
            model_path: Path or URL of the checkpoint (`.pth`).
            config_path: Path or URL of its `config.json`.
            sha256: What the SHA-256 of the checkpoint must be.

        Raises:
            EncoderError: a file is missing or wrong, or the encoder takes features that cannot be computed here.
        """
        super().__init__()
        checkpoint = fetch(model_path, sha256)
        self.sha256 = checkpoint.sha256
        config = fetch(config_path)
        self.settings = config.sha256  # they are no tensors, and references must not outlive them
        self.model = _load(checkpoint.path, config.path)
        audio = self.model.audio_config
        if audio.num_mels != self.model.instancenorm.num_features:
            msg = f"{config_path}: audio.num_mels = {audio.num_mels} must equal model_params.input_dim = "
            raise EncoderError(f"{msg}{self.model.instancenorm.num_features}.")
        self.mel = None if self.model.use_torch_spec else AudioProcessorMel(audio, f"{config_path}: audio")
        self.sample_rate = int(audio.sample_rate)
        self.embedding_dim = int(self.model.proj_dim)
        self.min_samples = int(audio.fft_size) if self.mel is None else self.mel.min_samples
        self._refuse_logarithm_of_negatives(config_path)

    def _refuse_logarithm_of_negatives(self, config_path: str) -> None:
        """Raise an EncoderError where stock's own embeddings are not numbers."""
        if self.mel is None or not getattr(self.model, "log_input", False):
            return
        if self.mel(torch.zeros(1, self.min_samples)).min() < 0:
            msg = (
                f"{config_path}: model_params.log_input takes the logarithm of features that go below zero as the "
                "section audio defines them (do_amp_to_db_mel, signal_norm, symmetric_norm, clip_norm). This is not "
                "the config that the checkpoint was trained with: find that one."
            )
            raise EncoderError(msg)

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]` at the checkpoint's rate: `[B, D]`, unit length."""
        if isinstance(self.model, LSTMSpeakerEncoder):
            return self._lstm(waveform)
        heard = waveform if self.mel is None else self.mel(waveform)
        embedding: Tensor = self.model(heard.unsqueeze(1).clone(), l2_norm=True)
        return embedding

    def _lstm(self, waveform: Tensor) -> Tensor:
        spectrogram = self.model.torch_spec if self.mel is None else self.mel
        frames = self.model.instancenorm(spectrogram(waveform)).transpose(1, 2)
        embedding = self.model.layers(frames)
        if self.model.use_lstm_with_projection:
            embedding = embedding[:, -1]
        return normalize(embedding, dim=1)
