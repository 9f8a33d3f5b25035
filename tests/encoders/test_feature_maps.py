"""Feature maps of encoders: the layers that they come from, beside embeddings that stay as they are."""

import hub_encoder_files
import pytest
import torch
from torch import Tensor, nn
from toy_speech import ToyEncoder

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.plugins.optional import offers_features

KINDS = ("coqui-resnet", "coqui-resnet-audio-processor", "speechbrain-ecapa", "transformers-wavlm")
WITHOUT = ("coqui-lstm", "speechbrain-xvector", "speechbrain-resnet", "ge2e", "dvector", "torchscript")


def built(name: str, coqui_files, folder) -> SpeakerEncoder:
    library, _, kind = name.partition("-")
    params = {}
    if library == "coqui":
        params = coqui_files[kind].params()
    elif library in {"speechbrain", "transformers", "torchscript"}:
        params = hub_encoder_files.params(name, folder)
    return build_encoder(library, params).eval().requires_grad_(False)


@pytest.fixture(scope="module", params=KINDS)
def encoder(request, coqui_files, tmp_path_factory) -> SpeakerEncoder:
    return built(request.param, coqui_files, tmp_path_factory.mktemp(request.param))


def sound(samples: int = 12_000, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(seed))


def test_maps_have_the_batch_first_and_frames_last(encoder):
    short, long = encoder.features(sound(12_000)), encoder.features(sound(24_000))
    assert len(short) >= 2
    for one, other in zip(short, long, strict=True):
        assert one.ndim == 3
        assert one.dtype == torch.float32
        assert one.shape[:2] == other.shape[:2]
        assert one.shape[0] == 2
        assert other.shape[2] == pytest.approx(2 * one.shape[2], abs=2)


def test_a_single_pass_gives_the_embeddings_of_forward_bit_by_bit_and_the_maps(encoder):
    waveform = sound()
    embedding, maps = encoder.embed_with_features(waveform)
    assert torch.equal(embedding, encoder(waveform))
    assert all(torch.equal(*pair) for pair in zip(maps, encoder.features(waveform), strict=True))


def test_nothing_more_is_left_on_the_layers(encoder):
    encoder.features(sound())  # transformers installs hooks once and keeps them
    hooks = [len(module._forward_hooks) for module in encoder.modules()]
    encoder.features(sound())
    assert [len(module._forward_hooks) for module in encoder.modules()] == hooks
    assert not any(hooks) or "transformers" in type(encoder).__module__


def test_waveforms_that_are_too_short_are_refused(encoder):
    with pytest.raises(ValueError, match="takes waveforms"):
        encoder.features(sound(encoder.min_samples - 1))


def test_those_of_coquis_resnet_are_its_residual_layers_from_the_second_on(coqui_files, tmp_path):
    encoder, waveform = built("coqui-resnet", coqui_files, tmp_path), sound()
    model = encoder.model
    x = model.instancenorm((model.torch_spec(waveform) + 1e-6).log()).unsqueeze(1)
    x = model.layer1(model.bn1(model.relu(model.conv1(x))))
    for layer, found in zip((model.layer2, model.layer3, model.layer4), encoder.features(waveform), strict=True):
        x = layer(x)
        torch.testing.assert_close(found, x.reshape(2, -1, x.shape[-1]))


def test_those_of_transformers_are_hidden_states_but_the_first(coqui_files, tmp_path):
    encoder, waveform = built("transformers-wavlm", coqui_files, tmp_path), sound()
    centred = waveform - waveform.mean(dim=1, keepdim=True)
    inputs = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-7).sqrt()
    states = encoder.model.wavlm(inputs, output_hidden_states=True).hidden_states[1:]
    for state, found in zip(states, encoder.features(waveform), strict=True):
        torch.testing.assert_close(found, state.transpose(1, 2))


@pytest.mark.parametrize("name", WITHOUT)
def test_encoders_without_such_layers_say_so(name, coqui_files, tmp_path):
    assert not offers_features(built(name, coqui_files, tmp_path))


def test_encoders_with_such_layers_say_so(encoder):
    assert offers_features(encoder)


class Counting(ToyEncoder):
    """Feature maps of a third party, which come apart from the embedding."""

    def features(self, waveform: Tensor) -> list[Tensor]:
        self.heard.append(tuple(waveform.shape))
        assert waveform.dtype == torch.float32
        assert not torch.is_autocast_enabled("cpu")
        return [waveform.unfold(1, 100, 100).transpose(1, 2)]


class Together(Counting):
    def embed_with_features(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self(waveform), [waveform.unsqueeze(1)]


def test_the_segment_encoder_tiles_and_turns_autocast_off():
    encoder = SegmentEncoder(Counting(), min_seconds=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (maps,) = encoder.features(sound(300).double())
    assert encoder.encoder.heard == [(2, 800)]
    torch.testing.assert_close(maps[:, :, 3], maps[:, :, 0])


@pytest.mark.parametrize(("cls", "passes"), [(Counting, 2), (Together, 1)])
def test_both_come_from_a_single_pass_where_the_encoder_can(cls, passes):
    encoder: nn.Module = SegmentEncoder(cls())
    embedding, maps = encoder.embed_with_features(sound(800))
    assert len(encoder.encoder.heard) == passes
    assert torch.equal(embedding, encoder(sound(800)))
    assert len(maps) == 1
