"""The loss `features` against its formula, written item by item in numpy, and its gradient against differences."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coqui_scl_plugin import build_loss
from coqui_scl_plugin.losses.features import feature_loss


def maps(seed: int, scales: tuple[float, ...] = (1.0, 100.0, 0.01), frames: int = 7) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(3, 2 + layer, frames, generator=generator) for layer, scale in enumerate(scales)]


def slow(generated: list[Tensor], real: list[Tensor]) -> float:
    layers = []
    for one, other in zip(generated, real, strict=True):
        frames = min(one.shape[-1], other.shape[-1])
        left, right = (side.detach().double().numpy()[:, :, :frames] for side in (one, other))
        layers.append(np.abs(left - right).sum() / np.abs(right).sum())
    return float(np.mean(layers))


@pytest.mark.parametrize("frames", [7, 6, 9])
def test_is_its_formula_also_where_one_side_has_more_frames(frames):
    generated, real = maps(0), maps(1, frames=frames)
    value = build_loss("features")(generated, real)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(slow(generated, real), rel=1e-5)


def test_is_0_for_equal_maps_and_1_for_silence_whatever_the_scale():
    real = maps(1)
    assert build_loss("features")(real, [layer.clone() for layer in real]).item() == 0
    assert build_loss("features")([0 * layer for layer in real], real).item() == pytest.approx(1, rel=1e-6)


def test_the_scale_of_a_layer_does_not_matter():
    generated, real = maps(0), maps(1)
    scaled = [[1000 * side[0], *side[1:]] for side in (generated, real)]
    assert feature_loss(*scaled).item() == pytest.approx(feature_loss(generated, real).item(), rel=1e-5)
    # as it would without the division
    plain = [sum((a - b).abs().mean() for a, b in zip(*sides, strict=True)) for sides in (scaled, (generated, real))]
    assert plain[0] > 2 * plain[1]


@pytest.mark.parametrize("constant", [0.0, 1e-30, 3.0])
def test_is_finite_with_constant_maps(constant):
    real = [torch.full((2, 3, 5), constant)]
    for start in (0.0, constant, 1.0):
        generated = [torch.full((2, 3, 5), start, requires_grad=True)]
        value = build_loss("features")(generated, real)
        value.backward()
        assert value.isfinite()
        assert generated[0].grad.isfinite().all()


def test_no_gradient_reaches_the_real_side():
    generated, real = ([layer.requires_grad_() for layer in maps(seed)] for seed in (0, 1))
    build_loss("features")(generated, real).backward()
    assert all(layer.grad is None for layer in real)
    assert all(layer.grad.abs().min() > 0 for layer in generated)


def test_has_the_same_value_under_autocast():
    generated, real = maps(0), maps(1)
    outside = build_loss("features")(generated, real)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(build_loss("features")(generated, real), outside)


class SmallEncoder(nn.Module):
    """Two convolutions and their outputs, in float64."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second = nn.Conv1d(1, 3, 5, 2).double(), nn.Conv1d(3, 4, 3).double()
        self.requires_grad_(False)

    def features(self, waveform: Tensor) -> list[Tensor]:
        first = torch.tanh(self.first(waveform.unsqueeze(1)))
        return [first, torch.tanh(self.second(first))]


def test_the_gradient_at_the_waveform_is_that_of_finite_differences():
    encoder, generator = SmallEncoder(), torch.Generator().manual_seed(2)
    generated, real = (torch.randn(2, 40, generator=generator, dtype=torch.float64) for _ in range(2))
    target = encoder.features(real)

    def loss(waveform: Tensor) -> Tensor:
        return feature_loss(encoder.features(waveform), target)

    assert torch.autograd.gradcheck(loss, generated.requires_grad_(), eps=1e-7, atol=1e-6)
    assert loss(real).item() == 0


@pytest.mark.parametrize(
    ("generated", "real", "message"),
    [
        ([], [], "at least one"),
        (maps(0), maps(1)[:2], "got 3 and 2"),
        ([torch.ones(2, 3, 5)], [torch.ones(2, 4, 5)], r"got \[2, 3, 5\] and \[2, 4, 5\]"),
        ([torch.ones(2, 5)], [torch.ones(2, 5)], r"got \[2, 5\]"),
        (torch.ones(2, 3, 5), torch.ones(2, 3, 5), "got a tensor"),
    ],
)
def test_maps_that_do_not_match_are_refused(generated, real, message):
    with pytest.raises(ValueError, match=message):
        build_loss("features")(generated, real)
