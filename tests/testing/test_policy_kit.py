"""The conformance tests of policies pass those of this package, and fail each broken one with a message that helps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coqui_scl_plugin.freeze import FrozenPolicy, RestorePolicy, TrainablePolicy
from coqui_scl_plugin.plugins.registry import installed
from coqui_scl_plugin.testing import POLICY_CHECKS, check_policy
from coqui_scl_plugin.utils.fingerprint import named_tensors

CHECKS = {check.__name__: check for check in POLICY_CHECKS}
pytestmark = pytest.mark.usefixtures("one_thread")


class Nameless:
    def apply(self, encoder: nn.Module) -> None:
        encoder.eval().requires_grad_(False)


class NoApply:
    trainable = False


class OnlyEval:
    """Leaves the weights to the optimizer."""

    trainable = False

    def apply(self, encoder: nn.Module) -> None:
        encoder.eval()


class OnlyWeights:
    """Lets the statistics of batch normalisation move."""

    trainable = False

    def apply(self, encoder: nn.Module) -> None:
        encoder.requires_grad_(False)


class Once:
    """Freezes the first time only."""

    trainable = False

    def __init__(self) -> None:
        self.done = False

    def apply(self, encoder: nn.Module) -> None:
        if not self.done:
            encoder.eval().requires_grad_(False)
        self.done = True


class NoGradForward:
    """Runs the encoder without a gradient."""

    trainable = False

    def apply(self, encoder: nn.Module) -> None:
        encoder.eval().requires_grad_(False)
        encoder.forward = torch.no_grad()(type(encoder).forward.__get__(encoder))  # type: ignore[method-assign]


class Halves:
    """Changes what the encoder computes."""

    trainable = False

    @torch.no_grad()
    def apply(self, encoder: nn.Module) -> None:
        encoder.eval().requires_grad_(False)
        encoder.get_parameter("project.weight")[0] = 0.0


class KeepsGrads:
    trainable = False

    def apply(self, encoder: nn.Module) -> None:
        encoder.eval().requires_grad_(False)


class SaysItUndoes(FrozenPolicy):
    undoes_changes = True


class WithoutBuffers(FrozenPolicy):
    """Puts back parameters and forgets buffers."""

    undoes_changes = True

    def __init__(self) -> None:
        self.copy: dict[str, Tensor] = {}

    @torch.no_grad()
    def apply(self, encoder: nn.Module) -> None:
        super().apply(encoder)
        for name, parameter in encoder.named_parameters():
            if name not in self.copy:
                self.copy[name] = parameter.clone()
            elif not torch.equal(parameter, self.copy[name]):
                parameter.copy_(self.copy[name])


class SharedCopy(RestorePolicy):
    """Keeps its copy in the class."""

    copies: dict[str, Tensor] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self._copy = self.copies

    def apply(self, encoder: nn.Module) -> None:
        if not self.copies:
            self.copies.update({name: tensor.detach().clone() for name, tensor in named_tensors(encoder).items()})
        super().apply(encoder)


class AlwaysWrites(FrozenPolicy):
    """Writes what it kept without a look."""

    def __init__(self) -> None:
        self.copy: dict[str, Tensor] = {}

    @torch.no_grad()
    def apply(self, encoder: nn.Module) -> None:
        super().apply(encoder)
        for name, tensor in named_tensors(encoder).items():
            tensor.copy_(self.copy.setdefault(name, tensor.clone()))


class Replaces(FrozenPolicy):
    """Puts new tensors in place of the parameters."""

    def apply(self, encoder: nn.Module) -> None:
        super().apply(encoder)
        for part in encoder.modules():
            for name, parameter in part.named_parameters(recurse=False):
                setattr(part, name, nn.Parameter(parameter.clone(), requires_grad=False))


class SaysItTrains(FrozenPolicy):
    trainable = True


BROKEN: list[tuple[Callable[[], Any], str, str]] = [
    (Nameless, "says_whether_it_trains", r"Nameless\.trainable = None: it must be True or False"),
    (NoApply, "says_whether_it_trains", r"NoApply needs a method apply\(encoder\)"),
    (OnlyEval, "freezes_through_training_steps", r"6 parameters of SampleEncoder require a gradient.*requires_grad_"),
    (OnlyWeights, "freezes_through_training_steps", r"step 0: SampleEncoder is in train mode.*encoder\.eval\(\)"),
    (Once, "freezes_through_training_steps", r"step 0: SampleEncoder is in train mode, after the trainer called"),
    (NoGradForward, "freezes_through_training_steps", r"no gradient passes through SampleEncoder.*not run the encoder"),
    (NoGradForward, "passes_the_gradient_on_unchanged", r"under NoGradForward, no gradient passes"),
    (Halves, "passes_the_gradient_on_unchanged", r"Halves changes the gradient at the waveform"),
    (Once, "freezes_again_whatever_was_undone", r"after train\(\) on one of its layers: apply must look at all"),
    (KeepsGrads, "freezes_again_whatever_was_undone", r"after a gradient on one parameter"),
    (SaysItUndoes, "undoes_what_it_says_to_undo", r"after step 0.*10 tensors are not .*keep a copy at the first"),
    (
        WithoutBuffers,
        "undoes_what_it_says_to_undo",
        r"4 tensors are not .*normalisation\.num_batches_tracked.*buffers too",
    ),
    (SharedCopy, "undoes_what_it_says_to_undo", r"two objects of SharedCopy share what they keep"),
    (AlwaysWrites, "writes_to_nothing_that_is_as_it_was", r"writes to tensors that did not change.*compare before"),
    (Replaces, "works_in_inference_mode", r"replaces tensors in inference mode.*change them in place"),
    (SaysItTrains, "lets_a_trainable_encoder_train", r"trainable = True, but 6 parameters do not train"),
]
"""The factory, the check that must fail, and a part of its message."""


@pytest.mark.parametrize(("make", "check", "message"), BROKEN, ids=lambda value: getattr(value, "__name__", " "))
def test_each_defect_is_found_by_its_check(make: Callable[[], Any], check: str, message: str) -> None:
    if make is SharedCopy:
        SharedCopy.copies.clear()
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        CHECKS[check](make)


def test_every_check_finds_some_defect() -> None:
    assert {check for _, check, _ in BROKEN} == CHECKS.keys()


@pytest.mark.parametrize("policy", [FrozenPolicy, RestorePolicy, TrainablePolicy])
def test_those_of_this_package_conform(policy: type) -> None:
    assert policy in [entry.cls for entry in installed().freeze_policies.values()]
    check_policy(policy)
