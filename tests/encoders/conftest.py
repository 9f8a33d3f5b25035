"""Encoders to test, and speech-like sound for them. Coqui's own are randomly initialised: no download."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from TTS.config.shared_configs import BaseAudioConfig
from TTS.encoder.configs.speaker_encoder_config import SpeakerEncoderConfig
from TTS.encoder.utils.generic_utils import setup_encoder_model

from coqui_scl_plugin import build_encoder

NAMES = ("ge2e", "dvector", "coqui-resnet", "coqui-lstm")


class CoquiFiles(NamedTuple):
    """A checkpoint of Coqui's and its config."""

    model_path: Path
    config_path: Path

    def params(self) -> dict[str, str]:
        return {"model_path": str(self.model_path), "config_path": str(self.config_path)}


def write_coqui_encoder(kind: str, folder: Path, *, use_torch_spec: bool = True) -> CoquiFiles:
    """A randomly initialised speaker encoder, `resnet` or `lstm`, as Coqui's training writes it."""
    mels = 64 if kind == "resnet" else 80
    size = (
        {"proj_dim": 512, "log_input": True}
        if kind == "resnet"
        else {"proj_dim": 256, "lstm_dim": 768, "num_lstm_layers": 3, "use_lstm_with_projection": True}
    )
    audio = BaseAudioConfig(
        num_mels=mels, fft_size=512, win_length=400, hop_length=160, sample_rate=16000, preemphasis=0.97
    )
    config = SpeakerEncoderConfig(
        audio=audio,
        model_params={"model_name": kind, "input_dim": mels, "use_torch_spec": use_torch_spec} | size,
        num_classes_in_batch=2,
        num_utter_per_class=2,
        num_loader_workers=0,
    )
    files = CoquiFiles(folder / f"{kind}.pth", folder / f"{kind}.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save({"model": setup_encoder_model(config).state_dict(), "step": 0}, files.model_path)
    config.save_json(files.config_path)
    return files


@pytest.fixture(scope="session")
def coqui_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CoquiFiles]:
    """By kind, `resnet` and `lstm`."""
    folder = tmp_path_factory.mktemp("coqui-encoders")
    return {kind: write_coqui_encoder(kind, folder) for kind in ("resnet", "lstm")}


@pytest.fixture(scope="session", params=NAMES)
def encoder(request: pytest.FixtureRequest, coqui_files: dict[str, CoquiFiles]) -> nn.Module:
    """Each encoder in turn, as a frozen one is: in eval mode, no gradient for its weights."""
    name, _, kind = request.param.partition("-")
    return build_encoder(name, coqui_files[kind].params() if kind else {}).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def speech_like() -> Callable[..., Tensor]:
    """A function to `[rows, samples]`: gliding harmonics under formants, in syllables, with some breath."""

    def make(rows: int, samples: int, sample_rate: int = 16000) -> Tensor:
        generator = torch.Generator().manual_seed(samples)
        time = torch.arange(samples) / sample_rate
        voices = []
        for row in range(rows):
            pitch = 110.0 + 45.0 * row + 15.0 * torch.sin(2 * torch.pi * 1.3 * time + row)
            phase = 2 * torch.pi * torch.cumsum(pitch, 0) / sample_rate
            harmonics = torch.arange(1, 25)[:, None]
            formants = sum(
                torch.exp(-(((harmonics * pitch - centre) / 250.0) ** 2)) for centre in (500.0 + 90 * row, 1500, 2500)
            )
            voiced = ((formants + 0.02) * torch.sin(harmonics * phase)).sum(0)
            syllables = 0.55 + 0.45 * torch.sin(2 * torch.pi * 4.0 * time + row)
            voices.append(syllables * voiced + 0.02 * torch.randn(samples, generator=generator))
        sound = torch.stack(voices)
        return 0.3 * sound / sound.abs().amax(dim=1, keepdim=True)

    return make
