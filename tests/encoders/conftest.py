"""Encoders to test, and speech-like sound for them."""

from collections.abc import Callable

import pytest
import torch
from coqui_encoder_files import CoquiFiles
from torch import Tensor, nn

from coqui_scl_plugin import build_encoder

NAMES = ("ge2e", "dvector", "coqui-resnet", "coqui-lstm")


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
