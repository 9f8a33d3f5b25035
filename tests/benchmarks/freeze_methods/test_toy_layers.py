"""The three experiments that the comparison grew from, small enough to be computed by hand.

Two 5×5 layers whose weights and biases are all 1 turn an input of ones into 6 and then 31. The mean squared error
against ones has the gradient 2 / 10 * 30 = 6 at each of the 10 outputs. SGD takes one step, its learning rate 0.1.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from benchmarks.freeze_methods.methods import PlainHolder


class TwoLayers(nn.Module):
    def __init__(self, first: nn.Module | PlainHolder, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first.module if isinstance(self.first, PlainHolder) else self.first
        hidden = first(x)
        return hidden, self.second(hidden)


def ones_layer() -> nn.Linear:
    layer = nn.Linear(5, 5)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    return layer


def all_parameters(model: TwoLayers):
    return model.parameters()


def those_of_the_second(model: TwoLayers):
    return model.second.parameters()


@pytest.mark.parametrize(
    ("hold", "trained", "after"),
    [
        (nn.Sequential, all_parameters, (-30.0, 929.8)),
        (nn.Sequential, those_of_the_second, (6.0, -186.2)),
        (PlainHolder, all_parameters, (6.0, -186.2)),
    ],
    ids=["both in the optimizer", "the first left out of it", "the first in a plain object"],
)
def test_outputs_of_both_layers_after_one_step(hold, trained, after):
    model = TwoLayers(hold(ones_layer()), ones_layer())
    x = torch.ones(1, 2, 5)

    def outputs() -> list[Tensor]:
        return [layer_output.detach() for layer_output in model(x)]

    for output, value in zip(outputs(), (6.0, 31.0), strict=True):
        torch.testing.assert_close(output, torch.full_like(x, value))
    optimizer = torch.optim.SGD(trained(model), lr=0.1)
    mse_loss(model(x)[1], torch.ones_like(x)).backward()
    optimizer.step()
    for output, value in zip(outputs(), after, strict=True):
        torch.testing.assert_close(output, torch.full_like(x, value))
