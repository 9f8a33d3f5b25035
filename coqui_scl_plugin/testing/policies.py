"""Conformance tests of a freeze policy; `plugins/hookspecs.py` has the contract."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from coqui_scl_plugin.freeze.policies import undoes_changes
from coqui_scl_plugin.testing.frozen_training import TrainedModel, require_frozen, train
from coqui_scl_plugin.testing.running import Check, Factory, calling, require, run_checks
from coqui_scl_plugin.testing.sample_encoder import SampleEncoder
from coqui_scl_plugin.testing.speech import speech_like
from coqui_scl_plugin.utils.fingerprint import copied_tensors, moved_tensors, named_tensors
from coqui_scl_plugin.utils.frozen import is_frozen


def says_whether_it_trains(make: Factory) -> None:
    """Check the attribute `trainable` and the method `apply`."""
    policy = make()
    name = type(policy).__name__
    require(
        isinstance(getattr(policy, "trainable", None), bool),
        f"{name}.trainable = {getattr(policy, 'trainable', None)!r}: it must be True or False.",
    )
    require(callable(getattr(policy, "apply", None)), f"{name} needs a method apply(encoder).")
    with calling(policy, "apply(encoder)"):
        policy.apply(SampleEncoder())


def freezes_through_training_steps(make: Factory) -> None:
    """Check that no bit of a frozen encoder moves, no gradient is kept and no key saved, though `train()` is called.

    The encoder has batch normalisation, whose statistics move in train mode, and dropout.
    """
    policy = make()
    if not policy.trainable:
        require_frozen(SampleEncoder(), policy, _speech(), type(policy).__name__)


def passes_the_gradient_on_unchanged(make: Factory) -> None:
    """Check that the gradient at the waveform is that of the same encoder in eval mode without a policy."""
    policy = make()
    if policy.trainable:
        return
    plain, held = SampleEncoder().eval(), SampleEncoder()
    policy.apply(held)
    expected, found = (_gradient(encoder) for encoder in (plain, held))
    name = type(policy).__name__
    require(
        found is not None,
        f"under {name}, no gradient passes through the encoder to the waveform: apply must set requires_grad of the "
        "weights to False, not wrap the forward in torch.no_grad.",
    )
    require(
        found is not None and expected is not None and torch.allclose(found, expected, rtol=1e-4, atol=1e-9),
        f"{name} changes the gradient at the waveform: it must not change what the encoder computes in eval mode.",
    )


def freezes_again_whatever_was_undone(make: Factory) -> None:
    """Check that `apply` notices each single thing that other code may undo."""
    if make().trainable:
        return
    for what, undo in _UNDONE.items():
        policy, encoder = make(), SampleEncoder()
        policy.apply(encoder)
        undo(encoder)
        policy.apply(encoder)
        require(
            is_frozen(encoder),
            f"{type(policy).__name__} leaves the encoder as it is after {what}: apply must look at all modules and "
            "parameters each time, since it is called whenever something may have undone it.",
        )


def undoes_what_it_says_to_undo(make: Factory) -> None:
    """Check that a policy with `undoes_changes` puts back every bit that an optimizer or other code changed."""
    policy = make()
    if policy.trainable or not undoes_changes(policy):
        return
    name, encoder = type(policy).__name__, SampleEncoder()
    steps = train(TrainedModel(encoder, policy, _speech()), _write_to_all)
    for number, step in enumerate(steps):
        require(
            not step.moved,
            f"{name} has undoes_changes, but after step {number}, in which other code wrote to the encoder, "
            f"{len(step.moved)} tensors are not what they were, such as {(step.moved or ['none'])[0]}: keep a copy "
            "at the first apply, of buffers too, and put it back in place.",
        )
    others = make(), make()
    for seed, other in enumerate(others):
        encoder = SampleEncoder(seed)
        start = copied_tensors(encoder)
        other.apply(encoder)
        _write_to_all(encoder)
        other.apply(encoder)
        require(
            not moved_tensors(encoder, start),
            f"two objects of {name} share what they keep: each must put back its own encoder. Keep copies in the "
            "object, not in the class.",
        )


def writes_to_nothing_that_is_as_it_was(make: Factory) -> None:
    """Check that `apply` between a forward and its backward pass, as at a save, does not break the gradient."""
    policy, encoder = make(), SampleEncoder()
    policy.apply(encoder)
    speech = _speech().requires_grad_()
    embedded = encoder(speech).sum()
    policy.apply(encoder)
    try:
        embedded.backward()
    except RuntimeError as error:
        msg = (
            f"{type(policy).__name__} writes to tensors that did not change, which breaks the backward pass ({error}): "
            "compare before you copy."
        )
        raise AssertionError(msg) from error


def works_in_inference_mode(make: Factory) -> None:
    """Check that `apply` in an evaluation leaves an encoder that training can go on with."""
    policy, encoder = make(), SampleEncoder()
    policy.apply(encoder)
    if not policy.trainable:
        encoder.train()
    with torch.inference_mode(), calling(policy, "apply(encoder) in inference mode"):
        policy.apply(encoder)
    require(
        not any(tensor.is_inference() for tensor in named_tensors(encoder).values()) and _gradient(encoder) is not None,
        f"{type(policy).__name__} replaces tensors in inference mode, after which no gradient passes: change them in "
        "place.",
    )


def lets_a_trainable_encoder_train(make: Factory) -> None:
    """Check that the optimizer moves the weights under a policy with `trainable`, and that a checkpoint holds them."""
    policy, encoder = make(), SampleEncoder()
    if not policy.trainable:
        return
    model = TrainedModel(encoder, policy, _speech())
    moved = train(model)[-1].moved
    still = [name for name, _ in encoder.named_parameters() if name not in moved]
    saved = [key for key in model.checkpoint() if key.startswith("encoders.")]
    require(
        not still and len(saved) > 0,
        f"{type(policy).__name__} has trainable = True, but {len(still)} parameters do not train, such as "
        f"{(still or ['none'])[0]}: set trainable = False, so that the drift guard watches the encoder.",
    )


POLICY_CHECKS: tuple[Check, ...] = (
    says_whether_it_trains,
    freezes_through_training_steps,
    passes_the_gradient_on_unchanged,
    freezes_again_whatever_was_undone,
    undoes_what_it_says_to_undo,
    writes_to_nothing_that_is_as_it_was,
    works_in_inference_mode,
    lets_a_trainable_encoder_train,
)
"""All checks of a freeze policy; each takes a factory."""


def check_policy(make: Factory, *, skip: Collection[str] = ()) -> None:
    """Run all checks of a freeze policy.

    Args:
        make: Returns a new policy at each call; usually the class, since a config gives policies no parameters.
        skip: Names of checks that the policy fails by design.

    Raises:
        AssertionError: some checks fail; the message says which and what to do.
        ValueError: `skip` names no check.
    """
    run_checks(POLICY_CHECKS, make, skip)


# --- what the checks share --------------------------------------------------------------------------------------------


def _speech() -> Tensor:
    return speech_like(2, 4 * SampleEncoder.min_samples, SampleEncoder.sample_rate)


def _gradient(encoder: nn.Module) -> Tensor | None:
    speech = _speech().requires_grad_()
    embedded = encoder(speech)
    return torch.autograd.grad(embedded[:, 0].sum(), speech)[0] if embedded.requires_grad else None


@torch.no_grad()
def _write_to_all(encoder: nn.Module) -> None:
    """Write to every parameter and buffer, as an optimizer or a callback of other code may."""
    encoder.train().requires_grad_(True)
    for tensor in named_tensors(encoder).values():
        tensor.add_(1)


_UNDONE: dict[str, Callable[[Any], object]] = {
    "train() on one of its layers": lambda encoder: encoder.normalisation.train(),
    "training = True on itself": lambda encoder: setattr(encoder, "training", True),
    "requires_grad_(True) on one parameter": lambda encoder: encoder.project.bias.requires_grad_(True),
    "a gradient on one parameter": lambda encoder: setattr(
        encoder.project.bias, "grad", torch.ones_like(encoder.project.bias)
    ),
}
