"""Sound that resembles speech, made without files."""

import torch
from torch import Tensor


def speech_like(rows: int, samples: int, sample_rate: int = 16_000) -> Tensor:
    """Make `[rows, samples]` of sound with peaks of 0.3: gliding harmonics under formants, in syllables, with breath.

    Each row has a pitch and a first formant of its own. The same arguments give the same sound.

    >>> speech_like(2, 8000).shape
    torch.Size([2, 8000])
    """
    generator = torch.Generator().manual_seed(samples)
    time = torch.arange(samples) / sample_rate
    voices = []
    for row in range(rows):
        pitch = 110.0 + 45.0 * row + 15.0 * torch.sin(2 * torch.pi * 1.3 * time + row)
        phase = 2 * torch.pi * torch.cumsum(pitch, 0) / sample_rate
        harmonics = torch.arange(1, 25)[:, None]
        centres = torch.tensor([500.0 + 90 * row, 1500.0, 2500.0])[:, None, None]
        formants = torch.exp(-(((harmonics * pitch - centres) / 250.0) ** 2)).sum(0)
        voiced = ((formants + 0.02) * torch.sin(harmonics * phase)).sum(0)
        syllables = 0.55 + 0.45 * torch.sin(2 * torch.pi * 4.0 * time + row)
        voices.append(syllables * voiced + 0.02 * torch.randn(samples, generator=generator))
    sound = torch.stack(voices)
    return 0.3 * sound / sound.abs().amax(dim=1, keepdim=True)
