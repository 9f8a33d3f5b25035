"""`SclVits` with a discriminator ten times as fast, and without Coqui's plots."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import leaky_relu

from coqui_scl_plugin import SclVits


class SmallScore(nn.Module):
    """A few convolutions that score a waveform `[B, 1, T]`."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(1, 8, 15, 8), nn.Conv1d(8, 8, 5, 4)])
        self.conv_post = nn.Conv1d(8, 1, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        features = []
        for conv in self.convs:
            x = leaky_relu(conv(x), 0.1)
            features.append(x)
        return self.conv_post(x).flatten(1), features


class SmallDiscriminator(nn.Module):
    """Two small nets with the inputs and outputs of Coqui's `VitsDiscriminator`."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList([SmallScore(), SmallScore()])

    def forward(self, x: torch.Tensor, x_hat: torch.Tensor) -> tuple[Any, Any, Any, Any]:
        first, second = ([net(waveform) for net in self.nets] for waveform in (x, x_hat))
        return [s for s, _ in first], [f for _, f in first], [s for s, _ in second], [f for _, f in second]


class QuickVits(SclVits):
    """A model for runs in which the discriminator does not matter."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Put the small discriminator in place while stock's constructor runs, before rules look at its modules."""
        super().__setattr__(name, SmallDiscriminator() if name == "disc" else value)

    def train_log(self, *args: Any, **kwargs: Any) -> None:
        """Draw no plots, which take stock seconds."""

    def _create_logs(self, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw no plots at evaluation either."""
        return {}, {}
