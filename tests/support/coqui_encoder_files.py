"""Coqui's own speaker encoders at their real sizes, randomly initialised: no download."""

from pathlib import Path
from typing import NamedTuple

import torch
from TTS.config.shared_configs import BaseAudioConfig
from TTS.encoder.configs.speaker_encoder_config import SpeakerEncoderConfig
from TTS.encoder.utils.generic_utils import setup_encoder_model


class CoquiFiles(NamedTuple):
    """A checkpoint of Coqui's and its config."""

    model_path: Path
    config_path: Path

    def params(self) -> dict[str, str]:
        """Return the `params` of the encoder `coqui`."""
        return {"model_path": str(self.model_path), "config_path": str(self.config_path)}

    def stock_paths(self) -> dict[str, str]:
        """Return the fields of stock's `model_args` by which the speaker manager loads this encoder."""
        return {f"speaker_encoder_{name}": path for name, path in self.params().items()}

    def stock_loss(self) -> dict[str, str | bool]:
        """Return the fields of stock's `model_args` that turn its own loss on."""
        return {"use_speaker_encoder_as_loss": True, **self.stock_paths()}


def write_coqui_encoder(kind: str, folder: Path, *, use_torch_spec: bool = True) -> CoquiFiles:
    """Write a randomly initialised speaker encoder, `resnet` or `lstm`, as Coqui's training does.

    Without `use_torch_spec` its features are those of `AudioProcessor`, in decibels and at a set loudness.
    """
    mels = 64 if kind == "resnet" else 80
    size = (
        {"proj_dim": 512, "log_input": use_torch_spec}
        if kind == "resnet"
        else {"proj_dim": 256, "lstm_dim": 768, "num_lstm_layers": 3, "use_lstm_with_projection": True}
    )
    audio = BaseAudioConfig(
        num_mels=mels, fft_size=512, win_length=400, hop_length=160, sample_rate=16000, preemphasis=0.97,
        signal_norm=use_torch_spec, do_rms_norm=not use_torch_spec, db_level=-27.0,
    )  # fmt: skip
    config = SpeakerEncoderConfig(
        audio=audio,
        model_params={"model_name": kind, "input_dim": mels, "use_torch_spec": use_torch_spec} | size,
        num_classes_in_batch=2,
        num_utter_per_class=2,
        num_loader_workers=0,
    )
    name = kind if use_torch_spec else f"{kind}-audio-processor"
    files = CoquiFiles(folder / f"{name}.pth", folder / f"{name}.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save({"model": setup_encoder_model(config).state_dict(), "step": 0}, files.model_path)
    config.save_json(files.config_path)
    return files
