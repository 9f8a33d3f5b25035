"""Whether a loss that somebody else wrote can serve as a speaker consistency loss, found out by trying it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

Compare = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From generated and reference embeddings `[B, D]` and speaker ids `[B]` to a loss."""

CANNOT = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What a loss may raise when it gets what it does not take."""

_SPEAKERS = torch.tensor([900_001, 5, 5, 70, 900_001, 5, 8])


class _Outcome(NamedTuple):
    value: Tensor
    to_generated: Tensor | None
    to_reference: Tensor | None

    def is_finite(self) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in self if tensor is not None)


def _try(compare: Compare, generated: Tensor, reference: Tensor) -> _Outcome:
    generated, reference = generated.clone().requires_grad_(), reference.clone().requires_grad_()
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.default_generator.manual_seed(0)  # a loss may draw at random; torch.manual_seed would touch CUDA's too
        value = compare(generated, reference, _SPEAKERS)
        return _Outcome(value.detach(), *torch.autograd.grad(value, [generated, reference], allow_unused=True))


def obstacle(compare: Compare) -> str | None:
    """Why a loss cannot be used, or None where it can.

    It must take references beside the generated embeddings and be moved by both, give one finite number with finite
    gradients, also where embeddings are equal or opposite, the less where they are equal, and remember nothing of
    earlier batches.

    >>> obstacle(lambda generated, reference, speaker_ids: (generated - reference).square().mean())
    >>> obstacle(lambda generated, reference, speaker_ids: generated.mean())
    'it does not depend on both the generated embeddings and the references'
    """
    generator = torch.Generator().manual_seed(0)
    generated, reference = (normalize(torch.randn(len(_SPEAKERS), 16, generator=generator)) for _ in range(2))
    _, rows = _SPEAKERS.unique(return_inverse=True)
    same = torch.eye(16)[rows]  # cosines of exactly 1 and -1
    pairs = [(generated, reference), (reference, reference), (-reference, reference), (same, same), (-same, same)]
    try:
        outcomes = [_try(compare, *pair) for pair in pairs]
        again = _try(compare, *pairs[0])
    except CANNOT as error:
        return f"it cannot compare generated embeddings with references: {type(error).__name__}: {error}"
    if any(outcome.value.ndim for outcome in outcomes):
        return "it does not give a single number"
    if all(outcome.to_generated is None or outcome.to_reference is None for outcome in outcomes):
        return "it does not depend on both the generated embeddings and the references"
    if not all(outcome.is_finite() for outcome in outcomes):
        return "its value or gradient is not finite, as can happen to equal or opposite embeddings"
    if outcomes[-2].value >= outcomes[-1].value:
        return "it does not fall as generated embeddings come to equal their references"
    if not torch.equal(again.value, outcomes[0].value):
        return "its value depends on earlier batches, which no checkpoint keeps"
    return None
