"""Coqui's own speaker encoders (ResNet H/ASP and LSTM), with a forward pass that gives the waveform a gradient.

This is the only encoder that imports `TTS`.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from coqpit import Coqpit
from torch import Tensor, nn
from torch.nn.functional import normalize
from TTS.config import load_config
from TTS.encoder.models.base_encoder import BaseEncoder
from TTS.encoder.models.lstm import LSTMSpeakerEncoder
from TTS.encoder.utils.generic_utils import setup_encoder_model
from TTS.utils.audio import AudioProcessor

from coqui_scl_plugin.encoders.audio_processor_mel import AudioProcessorMel, refuse_unsupported
from coqui_scl_plugin.encoders.feature_maps import FeatureMaps
from coqui_scl_plugin.encoders.loading.files import UNREADABLE, fetch
from coqui_scl_plugin.errors import EncoderError

_SECTION_WARNING = r"Type mismatch in \w+\nFailed to deserialize field: (audio|model_params) "
"""Coqui's warning that it takes a whole section's defaults, since one value in it has the wrong type."""
_PROCESSOR_ERRORS = (AssertionError, ArithmeticError, AttributeError, TypeError, ValueError)
"""The exceptions that `AudioProcessor` may raise for settings that do not fit together."""


def _load_config(path: Path) -> Coqpit:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=_SECTION_WARNING)
        try:
            return load_config(path)
        except UserWarning as error:
            detail = " ".join(str(error).splitlines()[1:3])
            msg = f"{path}: {detail}. Correct this value: Coqui would replace its whole section by defaults."
            raise EncoderError(msg) from error


def _load(model_path: Path, config_path: Path) -> BaseEncoder:
    try:
        config = _load_config(config_path)
        model = setup_encoder_model(config)
        model.load_checkpoint(config, str(model_path), eval=True)
    except EncoderError:
        raise
    except UNREADABLE as error:
        msg = (
            f"{model_path} with {config_path} is not a readable Coqui speaker encoder: {type(error).__name__}: {error}"
        )
        raise EncoderError(msg) from error
    return model


def _audio_processor_mel(audio: Coqpit, path: str) -> AudioProcessorMel:
    """Build the features that Coqui's `AudioProcessor` computes with the settings `audio`, which stand at `path`."""
    refuse_unsupported(audio, path)
    try:
        stock = AudioProcessor(audio)
    except _PROCESSOR_ERRORS as error:
        msg = f"{path}: Coqui's AudioProcessor does not accept these settings: {type(error).__name__}: {error}"
        raise EncoderError(msg) from error
    return AudioProcessorMel(stock)


class CoquiEncoder(FeatureMaps):
    """A checkpoint of Coqui's `TTS.encoder`; its values equal those of the model's own forward.

    Stock's LSTM computes its features under `no_grad`, so no gradient gets past them; stock's ResNet squeezes the
    caller's tensor in place; and with `use_torch_spec: false` both take features that `AudioProcessor` computes in
    numpy. Here all of them take a waveform, leave it unchanged, and give it a gradient.
    """

    evidence = (
        "What its ResNet takes is in docs/speed.md. As stock trains it, along with the generator, no encoder finds a "
        "gain in speech from text (docs/ablation.md)."
    )

    def __init__(self, model_path: str, config_path: str, sha256: str | None = None) -> None:
        """Load the checkpoint.

        Args:
            model_path: Path or URL of the checkpoint (`.pth`).
            config_path: Path or URL of its `config.json`.
            sha256: Expected SHA-256 of the checkpoint.

        Raises:
            EncoderError: a file is missing or wrong, or the encoder takes features that cannot be computed here.
        """
        super().__init__()
        checkpoint = fetch(model_path, sha256)
        self.sha256 = checkpoint.sha256
        config = fetch(config_path)
        self.settings = config.sha256  # not part of any tensor, yet cached references depend on them
        self.model = _load(checkpoint.path, config.path)
        audio = self.model.audio_config
        if audio.num_mels != self.model.instancenorm.num_features:
            msg = f"{config_path}: audio.num_mels = {audio.num_mels} must equal model_params.input_dim = "
            raise EncoderError(f"{msg}{self.model.instancenorm.num_features}.")
        self.mel = None if self.model.use_torch_spec else _audio_processor_mel(audio, f"{config_path}: audio")
        self.sample_rate = int(audio.sample_rate)
        self.embedding_dim = int(self.model.proj_dim)
        self.min_samples = int(audio.fft_size) if self.mel is None else self.mel.min_samples
        self._refuse_logarithm_of_negatives(config_path)

    def _refuse_logarithm_of_negatives(self, config_path: str) -> None:
        """Raise an EncoderError where stock's own embeddings would be NaN."""
        if self.mel is None or not getattr(self.model, "log_input", False):
            return
        if self.mel(torch.zeros(1, self.min_samples)).min() < 0:
            msg = (
                f"{config_path}: model_params.log_input takes the logarithm of features that fall below zero as the "
                "section audio defines them (do_amp_to_db_mel, signal_norm, symmetric_norm, clip_norm). This is not "
                "the config that the checkpoint was trained with: use that one."
            )
            raise EncoderError(msg)

    def embed(self, waveform: Tensor) -> Tensor:
        """Embed `[B, T]` at the checkpoint's rate: `[B, D]`, unit length."""
        if isinstance(self.model, LSTMSpeakerEncoder):
            return self._embed_by_lstm(waveform)
        features = waveform if self.mel is None else self.mel(waveform)
        embedding: Tensor = self.model(features.unsqueeze(1).clone(), l2_norm=True)
        return embedding

    def feature_layers(self) -> Sequence[nn.Module]:
        """Return the second to the last residual layer of a ResNet; an LSTM has none."""
        if isinstance(self.model, LSTMSpeakerEncoder):
            return ()
        return self.model.layer2, self.model.layer3, self.model.layer4

    def _embed_by_lstm(self, waveform: Tensor) -> Tensor:
        spectrogram = self.model.torch_spec if self.mel is None else self.mel
        frames = self.model.instancenorm(spectrogram(waveform)).transpose(1, 2)
        embedding = self.model.layers(frames)
        if self.model.use_lstm_with_projection:
            embedding = embedding[:, -1]
        return normalize(embedding, dim=1)
