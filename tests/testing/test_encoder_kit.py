"""The conformance tests of encoders pass sound ones, and fail each broken one with a message that helps."""

from collections.abc import Callable
from typing import Any

import pytest
import scl_broken_encoders as wild
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from coqui_scl_plugin.testing import ENCODER_CHECKS, check_encoder

CHECKS = {check.__name__: check for check in ENCODER_CHECKS}
pytestmark = pytest.mark.usefixtures("one_thread")


class WithMaps(wild.Sound):
    """Offers its log power in bands as a feature map."""

    def features(self, waveform: Tensor) -> Any:
        return [self.compress(self.power(waveform)).transpose(1, 2)]


class FloatRate(wild.Sound):
    sample_rate = 16_000.0  # type: ignore[assignment]


class NotUnit(wild.Sound):
    def forward(self, waveform: Tensor) -> Tensor:
        return 2 * super().forward(waveform)


class OtherSize(wild.Sound):
    embedding_dim = 9


class Transposed(wild.Sound):
    def forward(self, waveform: Tensor) -> Tensor:
        return super().forward(waveform).T


class Dropout(wild.Sound):
    """Drops out in eval mode too."""

    def norm(self, features: Tensor) -> Tensor:
        return dropout(features, 0.2, training=True)


class RandomWeights(wild.Sound):
    """Forgot to load its weights."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.normal_(self.weight)


class BatchStatistics(wild.Sound):
    """Subtracts the mean over the batch."""

    def norm(self, features: Tensor) -> Tensor:
        return features - features.mean(dim=(0, 1), keepdim=True) / 2


class Padding(wild.Sound):
    """Pads the waveforms of different lengths with silence."""

    def embed_each(self, waveforms: list[Tensor]) -> Tensor:
        return self(nn.utils.rnn.pad_sequence(waveforms, batch_first=True))


class PartlyDetached(wild.Sound):
    """Computes its spectrogram without a gradient in half of the bands."""

    def power(self, waveform: Tensor) -> Tensor:
        power = super().power(waveform)
        return torch.cat([power[..., :6], power[..., 6:].detach()], dim=-1)


class TooShort(wild.Sound):
    """Says that half a frame will do."""

    min_samples = 200


class InPlace(wild.Sound):
    def forward(self, waveform: Tensor) -> Tensor:
        if waveform.is_leaf:
            return super().forward(waveform)
        waveform.sub_(waveform.mean(dim=1, keepdim=True))
        return super().forward(waveform)


class PooledMaps(WithMaps):
    def features(self, waveform: Tensor) -> Any:
        return [one.mean(dim=2, keepdim=True) for one in super().features(waveform)]


class FramesFirst(WithMaps):
    def features(self, waveform: Tensor) -> Any:
        return [one.transpose(1, 2) for one in super().features(waveform)]


class DetachedMaps(WithMaps):
    def features(self, waveform: Tensor) -> Any:
        return [one.detach() + 0 * waveform.sum() for one in super().features(waveform)]


class OneMap(WithMaps):
    def features(self, waveform: Tensor) -> Any:
        return super().features(waveform)[0]


class OtherMaps(WithMaps):
    def embed_with_features(self, waveform: Tensor) -> Any:
        return self(waveform), [2 * one for one in self.features(waveform)]


class OtherEmbedding(WithMaps):
    def embed_with_features(self, waveform: Tensor) -> Any:
        return normalize(torch.ones(len(waveform), 8), dim=-1), self.features(waveform)


DIFFERENTIABLE = r"no torch\.no_grad, no inference mode"
BROKEN: list[tuple[Callable[[], Any], str, str]] = [
    (FloatRate, "says_what_it_takes", r"FloatRate\.sample_rate = 16000\.0: it must be a positive int, Hz"),
    (wild.HiddenNetwork, "says_what_it_takes", r"no parameters or buffers.*attributes of type nn\.Module"),
    (NotUnit, "gives_one_unit_vector_a_row", r"vectors of length 2 to 2: return unit vectors"),
    (OtherSize, "gives_one_unit_vector_a_row", r"returned \[1, 8\] for 1 rows: expected \[1, 9\]"),
    (Transposed, "gives_one_unit_vector_a_row", r"returned \[8, 1\] for 1 rows: expected \[1, 8\]"),
    (wild.Raises, "gives_one_unit_vector_a_row", r"raised ValueError with 1 rows: expected \[B, 1, T\]"),
    (wild.Constant, "gives_one_unit_vector_a_row", r"two different voices the same embedding"),
    (Dropout, "embeds_the_same_twice", r"differently the second time, by up to .*dropout"),
    (RandomWeights, "embeds_the_same_twice", r"two objects of RandomWeights have different weights: load them"),
    (BatchStatistics, "embeds_a_row_alone_as_in_a_batch", r"alone and in a batch differently, by up to .*statistics"),
    (Padding, "embeds_a_row_alone_as_in_a_batch", r"embed_each of Padding gives other embeddings.*must not pad"),
    (wild.NoGrad, "sends_the_gradient_to_the_waveform", rf"no gradient passes through NoGrad.*{DIFFERENTIABLE}"),
    (wild.LikeOnnx, "sends_the_gradient_to_the_waveform", rf"no gradient passes through LikeOnnx.*{DIFFERENTIABLE}"),
    (wild.LikeOnnxWithoutDetach, "sends_the_gradient_to_the_waveform", r"raised RuntimeError with speech, with a gra"),
    (wild.RootAtZero, "sends_the_gradient_to_the_waveform", r"at half-silent speech is not finite: add a small number"),
    (wild.LogarithmOfZero, "sends_the_gradient_to_the_waveform", r"at half-silent speech is not finite.*clamp before"),
    (wild.Gate, "sends_the_gradient_to_the_waveform", r"at quiet speech .* is 0 in rows \[0, 1\]: look for thresholds"),
    (PartlyDetached, "has_the_gradient_of_its_embedding", rf"off by \d+ % .*{DIFFERENTIABLE}"),
    (TooShort, "takes_its_shortest_waveform", r"raised RuntimeError with min_samples = 200 samples"),
    (InPlace, "leaves_the_waveform_as_it_was", r"writes to the waveform"),
    (
        wild.AlwaysTraining,
        "stays_as_it_is_under_every_freezing_policy",
        r"policy frozen, .*is in train mode.*train\(mo",
    ),
    (
        wild.FunctionalBatchNorm,
        "stays_as_it_is_under_every_freezing_policy",
        r"2 tensors are not bit by bit what they were, such as mean\..*batch_norm\(training=True\)",
    ),
    (PooledMaps, "gives_feature_maps_with_a_gradient", r"map 0 of PooledMaps has 1 frames .*leave pooled"),
    (FramesFirst, "gives_feature_maps_with_a_gradient", r"map 0 of FramesFirst has the shapes .*with frames last"),
    (DetachedMaps, "gives_feature_maps_with_a_gradient", rf"map 0 of DetachedMaps gives no .*{DIFFERENTIABLE}"),
    (OneMap, "gives_feature_maps_with_a_gradient", r"features of OneMap must return a list of tensors"),
    (OtherMaps, "gives_feature_maps_with_a_gradient", r"embed_with_features of OtherMaps gives something else"),
    (
        OtherEmbedding,
        "gives_feature_maps_with_a_gradient",
        r"embed_with_features of OtherEmbedding gives something else",
    ),
]
"""The factory, the check that must fail, and a part of its message."""


@pytest.mark.parametrize(("make", "check", "message"), BROKEN, ids=lambda value: getattr(value, "__name__", " "))
def test_each_defect_is_found_by_its_check(make: Callable[[], Any], check: str, message: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        CHECKS[check](make)


def test_every_check_finds_some_defect() -> None:
    assert {check for _, check, _ in BROKEN} == CHECKS.keys()


@pytest.mark.parametrize("make", [wild.Sound, wild.BatchNorm, wild.HighRate, WithMaps])
def test_a_sound_module_conforms(make: Callable[[], Any]) -> None:
    check_encoder(make)


def test_all_failures_are_listed_with_the_names_to_skip() -> None:
    with pytest.raises(
        AssertionError, match=r"^1 of 10 checks fail:\n- gives_feature_maps_with_a_gradient: embed_with"
    ):
        check_encoder(OtherMaps)
    check_encoder(OtherMaps, skip=["gives_feature_maps_with_a_gradient"])
