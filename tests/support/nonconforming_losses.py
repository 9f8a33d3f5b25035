"""Losses of a third party, each with one defect that occurs in the wild."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize, one_hot, relu

from coqui_scl_plugin.losses.contrastive import contrastive_loss


class Sound(nn.Module):
    """Mean of 1 - cos; the others differ from it in one thing."""

    def forward(
        self, generated: Any, reference: Any, speaker_ids: Tensor | None = None, prototypes: Tensor | None = None
    ) -> Any:
        with torch.autocast("cpu", enabled=False):
            ids = torch.arange(len(generated)) if speaker_ids is None else speaker_ids
            return self.compute(generated.float(), reference.float(), ids)

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return (1 - cosine_similarity(generated, reference, dim=-1)).mean()


class PerItem(Sound):
    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return 1 - cosine_similarity(generated, reference, dim=-1)


class Number(Sound):
    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return super().compute(generated, reference, speaker_ids).item()


class NoGradient(Sound):
    @torch.no_grad()
    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return super().compute(generated, reference, speaker_ids)


class Double(Sound):
    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return super().compute(generated.double(), reference.double(), speaker_ids)


class LateNaN(Sound):
    """Divides by what decays to 0."""

    step = 0

    def set_step(self, step: int) -> None:
        self.step = step

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        left = max(0, 1000 - self.step)
        return (
            super().compute(generated, reference, speaker_ids)
            * torch.tensor(0.0 if not left else 1.0).log().exp()
            / (torch.tensor(float(left)) / max(left, 1))
        )


class WantsNegatives(Sound):
    """Contrastive, without `min_speakers`."""

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return contrastive_loss(generated, reference, speaker_ids, 0.1)


class WrongSign(Sound):
    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return cosine_similarity(generated, reference, dim=-1).mean()


class WrongReference(Sound):
    """Compares with the reference of the next item."""

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return super().compute(generated, reference.roll(1, dims=0), speaker_ids)


class HalfDetached(Sound):
    """Half of the formula has no gradient."""

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        cosine = cosine_similarity(generated, reference, dim=-1)
        return (1 - cosine).mean() + (1 - cosine.detach() * cosine).mean()


class Distance(Sound):
    """The root of a sum of squares, whose slope at 0 is infinite."""

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return (normalize(generated, dim=-1) - normalize(reference, dim=-1)).square().sum(-1).sqrt().mean()


class OwnNorm(Sound):
    """Divides by a norm that may be 0."""

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        dot = (generated * reference).sum(-1)
        return (1 - dot / (generated.norm(dim=-1) * reference.norm(dim=-1))).mean()


class UnderAutocast(Sound):
    """Lets autocast round its product of matrices."""

    def forward(
        self, generated: Any, reference: Any, speaker_ids: Tensor | None = None, prototypes: Tensor | None = None
    ) -> Any:
        cosines = normalize(generated.float(), dim=-1) @ normalize(reference.float(), dim=-1).T
        return (1 - cosines.diagonal()).mean().float()


class OfTheirType(Sound):
    """Computes in the type that it is given."""

    def forward(
        self, generated: Any, reference: Any, speaker_ids: Tensor | None = None, prototypes: Tensor | None = None
    ) -> Any:
        return self.compute(generated, reference, torch.arange(len(generated)))


class Squeezed(Sound):
    """Fails on a batch of one item, which `squeeze` takes for a vector."""

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return (1 - cosine_similarity(generated.squeeze(), reference.squeeze(), dim=1)).mean()


class Standardised(Sound):
    """Adds the variance over the batch, which is 0 / 0 for one item."""

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return super().compute(generated, reference, speaker_ids) + 1e-3 * (
            (generated - generated.mean(dim=0)).square().sum() / (len(generated) - 1)
        )


class NeedsIds(Sound):
    def forward(
        self, generated: Any, reference: Any, speaker_ids: Tensor | None = None, prototypes: Tensor | None = None
    ) -> Any:
        return super().forward(generated, reference, speaker_ids + 0)  # type: ignore[operator]


class IdsAsRows(Sound):
    """Makes one-hot vectors of 100 of the ids."""

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        same = one_hot(speaker_ids, 100).float() @ one_hot(speaker_ids, 100).float().T
        return (same * (1 - normalize(generated, dim=-1) @ normalize(reference, dim=-1).T)).sum() / same.sum()


class IdsAsOrder(Sound):
    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        weight = (speaker_ids == speaker_ids.max()).float() + 0.5
        return (weight * (1 - cosine_similarity(generated, reference, dim=-1))).mean()


class Draws(Sound):
    """Leaves out some items at random, others in each process."""

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        kept = (torch.rand(len(generated)) > 0.3).float()
        return ((1 - cosine_similarity(generated, reference, dim=-1)) * kept).sum() / len(kept)


class OwnItemsOnly(Sound):
    """Divides by the number of items that have a gradient in this process."""

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        loss = super().compute(generated, reference, speaker_ids)
        return loss * (2.0 if "Cat" in type(generated.grad_fn).__name__ else 1.0)


class Remembers(Sound):
    """Keeps a moving average where no state dict finds it."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor | None = None

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        now = reference.mean(0)
        self.mean = now if self.mean is None else 0.5 * self.mean + 0.4 * now
        return (1 - cosine_similarity(generated, reference + 0.1 * self.mean, dim=-1)).mean()


class HiddenWeights(Sound):
    """Draws a projection anew in each object, and keeps it in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.projections = [torch.randn(64, 32)]

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return super().compute(generated @ self.projections[0], reference @ self.projections[0], speaker_ids)


class InPlace(Sound):
    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        reference.div_(2 * reference.norm(dim=-1, keepdim=True).clamp_min(1e-6))
        return super().compute(generated, reference, speaker_ids)


class SaysCalibrated(Sound):
    takes_calibration = True

    def set_calibration(self, calibration: Any) -> None:
        self.calibration = calibration


class NoSetCalibration(Sound):
    takes_calibration = True


class CeilingIgnored(Sound):
    wants_ceiling = True

    def set_ceiling(self, ceiling: float) -> None:
        self.ceiling = ceiling


class CeilingMissing(Sound):
    wants_ceiling = True


class SumOfMaps(Sound):
    """A loss of feature maps that is a sum over items."""

    compares = "features"

    def forward(
        self, generated: Any, reference: Any, speaker_ids: Tensor | None = None, prototypes: Tensor | None = None
    ) -> Any:
        with torch.autocast("cpu", enabled=False):
            return sum(
                (g.float() - r.float()).abs().mean(dim=(1, 2)).sum() for g, r in zip(generated, reference, strict=True)
            )


class Hinge(Sound):
    """Never teaches: its margin is met by every pair."""

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Any:
        return relu(-3 - cosine_similarity(generated, reference, dim=-1)).mean()


class NotAModule:
    def __call__(self, generated: Tensor, reference: Tensor, *_: Any) -> Tensor:
        return (1 - cosine_similarity(generated, reference, dim=-1)).mean()


BROKEN: list[tuple[Callable[[], Any], str, str]] = [
    (PerItem, "returns_a_float32_scalar", r"PerItem returned the shape \[8\] .*reduce it to a scalar"),
    (Number, "returns_a_float32_scalar", r"Number returned float .*return a scalar tensor"),
    (NotAModule, "returns_a_float32_scalar", r"which made a NotAModule.*derive the class from nn\.Module"),
    (Double, "returns_a_float32_scalar", r"Double returned float64 .*return float32"),
    (LateNaN, "returns_a_float32_scalar", r"LateNaN gives nan with an ordinary batch at step 100000"),
    (NoGradient, "teaches_with_the_speakers_it_needs", r"without a gradient .*torch\.no_grad"),
    (WantsNegatives, "teaches_with_the_speakers_it_needs", r"no gradient with a batch of 1 speakers.*min_speakers = 2"),
    (Hinge, "teaches_with_the_speakers_it_needs", r"look for a clamp"),
    (WrongSign, "falls_as_generated_speech_nears_its_references", r"it must rise\. Look for a wrong sign"),
    (WrongReference, "falls_as_generated_speech_nears_its_references", r"a reference of another item"),
    (HalfDetached, "has_the_gradient_of_its_value", r"off by \d+ % .*look for detach"),
    (Distance, "is_finite_at_edges", r"not finite with generated speech equal to its references, though.*sqrt"),
    (OwnNorm, "is_finite_at_edges", r"gives nan with generated speech that is 0.*bound divisors"),
    (UnderAutocast, "computes_in_float32_under_autocast", r"under autocast to bfloat16.*enabled=False"),
    (OfTheirType, "takes_embeddings_in_half_precision", r"returned bfloat16 .*`\.float\(\)` on its arguments"),
    (Squeezed, "takes_small_batches", r"Squeezed raised IndexError with a batch of one item"),
    (Standardised, "takes_small_batches", r"gives nan with a batch of one item"),
    (NeedsIds, "takes_small_batches", r"raised TypeError with speaker_ids = None"),
    (IdsAsRows, "takes_any_speaker_ids", r"raised RuntimeError with speaker_ids that are large integers"),
    (IdsAsOrder, "takes_any_speaker_ids", r"with other integers .*not as rows or as an order"),
    (Draws, "joins_the_batches_of_several_processes", r"process 1 of 2 another value.*that set_step seeds"),
    (OwnItemsOnly, "joins_the_batches_of_several_processes", r"process 0 of 2 another value.*treat items with and"),
    (SumOfMaps, "joins_the_batches_of_several_processes", r"with each item twice.*a mean over items, not a sum"),
    (Remembers, "keeps_its_state_in_the_state_dict", r"where it went on.*parameters or buffers"),
    (HiddenWeights, "keeps_its_state_in_the_state_dict", r"after its state dict was loaded into a new one"),
    (InPlace, "leaves_its_inputs_as_they_were", r"writes to its arguments.*end in an underscore"),
    (SaysCalibrated, "uses_its_calibration", r"the same gradient with the calibration \(0\.3, 0\.7\).*rescale"),
    (NoSetCalibration, "uses_its_calibration", r"raised AttributeError with set_calibration"),
    (CeilingIgnored, "stops_at_its_ceiling", r"gives a gradient to items of cosine 0\.99 .*ceiling of 0\.5"),
    (CeilingMissing, "stops_at_its_ceiling", r"no method set_ceiling\(ceiling\)"),
]
"""The factory, the check that must fail, and a part of its message."""
