"""What quiet, half-silent and silent speech sends into the generator, by every encoder and loss, at a loss scale."""

import functools
import math
from pathlib import Path

import pytest
import soundfile
import torch

from coqui_scl_plugin import build_encoder, build_loss
from coqui_scl_plugin.consistency.gradient_bound import QUIETEST_RMS, bounded, with_bounded_gradient
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder

SCALE = 65536.0
"""Loss scale with which torch's GradScaler begins."""
IDS = torch.tensor([0, 0, 1, 1])
ENCODERS = ("ge2e", "dvector", "campplus")
LOSSES = {
    "cosine": build_loss("cosine"),
    "angular_margin": build_loss("angular_margin"),
    "contrastive": build_loss("contrastive"),
    "metric_learning": build_loss("metric_learning", {"loss": "SupConLoss"}),
}


@functools.cache
def encoder(name: str) -> SegmentEncoder:
    return SegmentEncoder(build_encoder(name).eval().requires_grad_(False))


@functools.cache
def speech(folder: Path) -> torch.Tensor:
    """A second from the middle of four recordings, two of each of two speakers: `[4, 16000]`."""
    files = sorted(folder.rglob("*.flac")) or sorted(folder.rglob("*.wav"))
    rows = []
    for index in (0, 1, 10, 11):
        samples, rate = soundfile.read(files[index], dtype="float32")
        assert rate == 16_000
        rows.append(torch.from_numpy(samples[len(samples) // 2 :][:rate]))
    return torch.stack(rows)


def at_level(waveform: torch.Tensor, rms: float) -> torch.Tensor:
    return waveform * (rms / waveform.square().mean(dim=1, keepdim=True).sqrt())


def half(waveform: torch.Tensor, rms: float) -> torch.Tensor:
    """The waveform with its first half replaced by noise of a level; 0 is silence."""
    noise = rms * torch.randn(waveform.shape, generator=torch.Generator().manual_seed(0))
    return torch.where(torch.arange(waveform.shape[1]) < waveform.shape[1] // 2, noise, waveform)


def gradients(
    name: str, waveforms: dict[str, torch.Tensor], reference: torch.Tensor, *, bound: bool = True
) -> dict[str, dict[str, torch.Tensor]]:
    """At the loss scale, of each loss at each waveform; for the slower encoders, of the sum of the losses."""
    heard_at = torch.cat(list(waveforms.values())).requires_grad_()
    embedded = encoder(name)(with_bounded_gradient(heard_at) if bound else heard_at).split(len(IDS))
    losses = {key: SCALE * sum(loss(one, reference, IDS) for one in embedded) for key, loss in LOSSES.items()}
    if name != "ge2e":
        losses = {"all": sum(losses.values())}
    found = {key: torch.autograd.grad(loss, heard_at, retain_graph=True)[0] for key, loss in losses.items()}
    return {key: dict(zip(waveforms, value.split(len(IDS)), strict=True)) for key, value in found.items()}


@pytest.mark.parametrize("name", ENCODERS)
def test_at_a_loss_scale_gradients_of_quiet_speech_are_finite_and_bounded(name, libri10, one_thread):
    sound = at_level(speech(libri10), 0.05)
    with torch.no_grad():
        reference = encoder(name)(sound.roll(1, 0))
    waveforms = {
        "usual": sound, "quiet": at_level(sound, 1e-4), "almost silent": at_level(sound, 1e-6), "silent": 0.0 * sound,
        "half silent": half(sound, 0.0), "half almost silent": half(sound, 1e-6),
    }  # fmt: skip
    for key, found in gradients(name, waveforms, reference).items():
        largest = {kind: float(gradient.norm(dim=1).max()) for kind, gradient in found.items()}
        assert all(math.isfinite(norm) for norm in largest.values()), (key, largest)
        limit = 2 * largest["usual"] * 0.05 / QUIETEST_RMS
        assert max(largest["quiet"], largest["almost silent"], largest["silent"]) < limit, (key, largest)


def test_sound_speech_is_left_bit_by_bit(libri10, one_thread):
    sound = speech(libri10)
    assert (sound.square().mean(dim=1).sqrt() > QUIETEST_RMS).all()
    with torch.no_grad():
        reference = encoder("ge2e")(sound.roll(1, 0))
    without, found = (gradients("ge2e", {"usual": sound}, reference, bound=bound) for bound in (False, True))
    assert all(torch.equal(found[key]["usual"], without[key]["usual"]) for key in LOSSES)


def test_one_quiet_item_is_bounded_and_the_others_are_not():
    waveform = torch.tensor([[0.1, -0.1], [QUIETEST_RMS / 4] * 2, [0.0, 0.0]])
    gradient = torch.tensor([[1.0, 2.0], [4.0, 8.0], [1.0, 1.0]])
    found = bounded(gradient, waveform)
    assert torch.equal(found[0], gradient[0])
    torch.testing.assert_close(found[1], torch.tensor([1.0, 2.0]))
    assert (found[2] > 0).all()
    assert found[2].max() < 1e-4


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stays_visible(value):
    found = bounded(torch.full((1, 2), value), torch.tensor([[0.1, 0.1]]))
    assert not found.isfinite().any()


def test_it_is_the_same_at_every_loss_scale():
    gradient, waveform = torch.randn(3, 8), 1e-3 * torch.randn(3, 8)
    assert torch.equal(bounded(SCALE * gradient, waveform), SCALE * bounded(gradient, waveform))
