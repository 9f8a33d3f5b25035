"""Batches as a run passes them to a loss, and the value and gradient that a loss gives of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from coqui_scl_plugin.plugins.optional import compares_features, speakers_needed, wants_ceiling, wants_prototypes
from coqui_scl_plugin.testing.running import Factory, calling, require

_DIM = 64
_MAPS = ((6, 20, 1.0), (4, 10, 30.0))
"""Channels, frames and scale of the feature maps."""
_SPEAKERS_OF_DATA = 12


@dataclass(frozen=True)
class Batch:
    """What a loss is called with. Each side is a list: of one tensor `[B, D]`, or of feature maps `[B, C, frames]`."""

    generated: list[Tensor]
    reference: list[Tensor]
    speaker_ids: Tensor | None
    prototypes: Tensor | None

    def to(self, dtype: torch.dtype) -> "Batch":
        """Return the batch with embeddings or maps, and prototypes, of another type."""
        prototypes = None if self.prototypes is None else self.prototypes.to(dtype)
        return replace(self.with_sides(*([p.to(dtype) for p in s] for s in self.sides)), prototypes=prototypes)

    @property
    def sides(self) -> tuple[list[Tensor], list[Tensor]]:
        """Generated and real speech."""
        return self.generated, self.reference

    def with_sides(self, generated: Sequence[Tensor], reference: Sequence[Tensor]) -> "Batch":
        """Return the batch with other embeddings or maps."""
        return replace(self, generated=list(generated), reference=list(reference))

    def edges(self) -> dict[str, "Batch"]:
        """Return batches at which formulas break, by a description."""
        other, real = self.sides
        zero = [torch.zeros_like(part) for part in real]
        axes = [
            _one_hot(part) for part in real
        ]  # with themselves, a cosine of exactly 1, which rounding misses elsewhere
        close = [part * (1 + 1e-6 * way) for part, way in zip(real, other, strict=True)]
        return {
            "generated speech equal to its references": self.with_sides(real, real),
            "generated speech equal to its references, along axes": self.with_sides(axes, axes),
            "generated speech opposite to its references, along axes": self.with_sides([-part for part in axes], axes),
            "generated speech close to its references": self.with_sides(close, real),
            "generated speech opposite to its references": self.with_sides([-part for part in real], real),
            "generated speech that is 0": self.with_sides(zero, real),
            "references that are 0": self.with_sides(other, zero),
            "both sides 0": self.with_sides(zero, zero),
        }


def _one_hot(part: Tensor) -> Tensor:
    """Return a tensor that is 1 where each row is largest, else 0."""
    return torch.zeros_like(part).scatter_(-1, part.argmax(dim=-1, keepdim=True), 1.0)


def built(make: Factory) -> nn.Module:
    """Return a new loss as a run has it at step 0, with no item beyond a ceiling."""
    loss = make()
    require(
        isinstance(loss, nn.Module),
        f"expected a factory of nn.Module losses, which made a {type(loss).__name__}: pass the class or a lambda, and "
        "derive the class from nn.Module.",
    )
    set_step(loss, 0)
    if wants_ceiling(loss):
        set_ceiling(loss, math.inf)
    built_loss: nn.Module = loss.train()
    return built_loss


def set_step(loss: nn.Module, step: int) -> None:
    """Tell a loss the training step, if it asks for it."""
    if (tell := getattr(loss, "set_step", None)) is not None:
        with calling(loss, f"set_step({step})"):
            tell(step)


def set_ceiling(loss: nn.Module, ceiling: float) -> None:
    """Give a loss the ceiling of its encoder."""
    tell: Any = getattr(loss, "set_ceiling", None)
    name = type(loss).__name__
    require(callable(tell), f"{name} has wants_ceiling and no method set_ceiling(ceiling): add it, or drop the former.")
    with calling(loss, f"set_ceiling({ceiling})"):
        tell(ceiling)


def usual_speakers(loss: nn.Module) -> list[int]:
    """Return the speakers of a batch in which the loss has something to teach: two items each."""
    count = max(4, 1 if wants_prototypes(loss) else speakers_needed(loss))
    return [*range(count)] * 2


def batch_of(loss: nn.Module, speakers: Sequence[int] | None = None) -> Batch:
    """Make a batch for a loss: generated speech at random, references that agree within a speaker.

    Args:
        loss: The loss, whose attributes say what it takes.
        speakers: The speaker of each item, less than the number of prototypes; None: `usual_speakers`.
    """
    ids = torch.tensor(usual_speakers(loss) if speakers is None else speakers)
    rows = max(_SPEAKERS_OF_DATA, int(ids.max()) + 1)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    centres = normalize(random(rows, _DIM), dim=-1)
    prototypes = centres if wants_prototypes(loss) else None
    if compares_features(loss):
        generated, reference = ([s * random(len(ids), c, t) for c, t, s in _MAPS] for _ in range(2))
        return Batch(generated, reference, ids, prototypes)
    generated = [normalize(random(len(ids), _DIM), dim=-1)]
    reference = [normalize(centres[ids] + 0.05 * random(len(ids), _DIM), dim=-1)]
    return Batch(generated, reference, ids, prototypes)


def value_of(loss: nn.Module, batch: Batch, case: str, *, seed: int = 0) -> Tensor:
    """Return what a loss gives of a batch, with random numbers drawn from the seed.

    Raises:
        AssertionError: the loss raises, or gives something else than a scalar.
    """
    sides: Any = batch.sides if compares_features(loss) else [side[0] for side in batch.sides]
    with torch.random.fork_rng(devices=[]), calling(loss, case):
        torch.manual_seed(seed)
        value = loss(*sides, batch.speaker_ids, batch.prototypes)
    name = type(loss).__name__
    require(isinstance(value, Tensor), f"{name} returned {type(value).__name__} with {case}: return a scalar tensor.")
    require(value.shape == (), f"{name} returned the shape {list(value.shape)} with {case}: reduce it to a scalar.")
    scalar: Tensor = value
    return scalar


def gradient_of(loss: nn.Module, batch: Batch, case: str, *, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """Return the value of a loss, and its gradient at generated speech; 0 where none arrives.

    Raises:
        AssertionError: see `value_of`; or the value has no gradient at all.
    """
    leaves = [part.detach().clone().requires_grad_() for part in batch.generated]
    value = value_of(loss, batch.with_sides(leaves, batch.reference), case, seed=seed)
    require(
        value.requires_grad,
        f"{type(loss).__name__} gives a value without a gradient with {case}: look for torch.no_grad, detach, item or "
        "numpy. A batch with nothing to teach counts as `0.0 * generated.sum()`.",
    )
    with calling(loss, f"{case}, in its backward pass"):
        found = torch.autograd.grad(value, leaves, allow_unused=True)
    return value.detach(), [torch.zeros_like(p) if g is None else g for p, g in zip(leaves, found, strict=True)]


def norm_of(gradient: Sequence[Tensor]) -> float:
    """Return the norm of a gradient over all parts."""
    return math.hypot(*(float(part.double().norm()) for part in gradient))
