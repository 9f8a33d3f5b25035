"""Coqui's own speaker encoders (ResNet H/ASP and LSTM), with a forward that passes gradients to the waveform."""

from pathlib import Path

from torch import Tensor
from torch.nn.functional import normalize
from TTS.config import load_config
from TTS.encoder.models.base_encoder import BaseEncoder
from TTS.encoder.models.lstm import LSTMSpeakerEncoder
from TTS.encoder.utils.generic_utils import setup_encoder_model

from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.files import UNREADABLE, fetch
from coqui_scl_plugin.errors import EncoderError


def _load(model_path: Path, config_path: Path) -> BaseEncoder:
    try:
        config = load_config(config_path)
        model = setup_encoder_model(config)
        model.load_checkpoint(config, str(model_path), eval=True)
    except UNREADABLE as error:
        msg = f"{model_path} with {config_path} is no speaker encoder of Coqui: {type(error).__name__}: {error}"
        raise EncoderError(msg) from error
    return model


class CoquiEncoder(SpeakerEncoder):
    """A checkpoint of Coqui's `TTS.encoder`; its values equal those of the model's own forward.

    Stock's LSTM computes its features under `no_grad`, so no gradient gets past them, and stock's ResNet squeezes the
    caller's tensor in place. Here both take a waveform and leave it alone.
    """

    def __init__(self, model_path: str, config_path: str, sha256: str | None = None) -> None:
        """Load the checkpoint.

        Args:
            model_path: Path or URL of the checkpoint (`.pth`).
            config_path: Path or URL of its `config.json`.
            sha256: What the SHA-256 of the checkpoint must be.

        Raises:
            EncoderError: a file is missing or wrong, or the encoder takes features that pass no gradient.
        """
        super().__init__()
        checkpoint = fetch(model_path, sha256)
        self.sha256 = checkpoint.sha256
        self.model = _load(checkpoint.path, fetch(config_path).path)
        if not self.model.use_torch_spec:
            msg = (
                f"{config_path}: use_torch_spec is false, so this encoder hears features that Coqui's AudioProcessor "
                "computes in numpy, and no gradient can reach the waveform. Take an encoder with use_torch_spec, such "
                "as the one of YourTTS, or the encoder 'ge2e'."
            )
            raise EncoderError(msg)
        self.sample_rate = int(self.model.audio_config["sample_rate"])
        self.embedding_dim = int(self.model.proj_dim)
        self.min_samples = int(self.model.audio_config["fft_size"])

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]` at the checkpoint's rate: `[B, D]`, unit length."""
        if isinstance(self.model, LSTMSpeakerEncoder):
            return self._lstm(waveform)
        embedding: Tensor = self.model(waveform.unsqueeze(1).clone(), l2_norm=True)
        return embedding

    def _lstm(self, waveform: Tensor) -> Tensor:
        frames = self.model.instancenorm(self.model.torch_spec(waveform)).transpose(1, 2)
        embedding = self.model.layers(frames)
        if self.model.use_lstm_with_projection:
            embedding = embedding[:, -1]
        return normalize(embedding, dim=1)
