"""The losses of pytorch-metric-learning that compare generated speech with references."""

import importlib
import inspect
import itertools
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.losses.base import SpeakerConsistencyLoss
from coqui_scl_plugin.plugins.parameters import check_value
from coqui_scl_plugin.utils.shown import shortened, shown
from coqui_scl_plugin.utils.suggest import did_you_mean

_NON_FINITE_LOSSES = {"TupletMarginLoss"}
"""Losses whose gradient is not finite where embeddings equal or oppose their references: in 200 of 200 random batches
with versions 2.8.0 and 2.9.0 (`acos` has no slope there), in 0 of 200 with every other loss that the library lists."""
# one id is large, so that MarginLoss fails here and not in training if its num_classes is too small for the speakers
_TRIAL_SPEAKERS = torch.tensor([900_001, 5, 5, 70, 900_001, 5, 8])


def _library() -> ModuleType:
    try:
        return importlib.import_module("pytorch_metric_learning.losses")
    except ImportError as error:
        msg = (
            "The loss metric_learning needs pytorch-metric-learning: "
            f'pip install "coqui-scl-plugin[metric-learning]" ({error}).'
        )
        raise ConfigError(msg) from error


def usable() -> tuple[str, ...]:
    """Return the names of the losses that the library lists as taking references, and whose gradients are finite."""
    return tuple(sorted({*_library().CrossBatchMemory.supported_losses()} - _NON_FINITE_LOSSES))


def _find_class(name: str) -> type[nn.Module]:
    found: Any = getattr(_library(), name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        msg = f"params.loss = {shown(name)}: pytorch-metric-learning has no loss of this name."
        raise ConfigError(f"{msg} {did_you_mean(name, usable())}")
    if name in usable():
        return found
    reason = (
        "its gradient is not finite where an embedding equals or opposes its reference"
        if name in _NON_FINITE_LOSSES
        else "pytorch-metric-learning does not list it among the losses that take reference embeddings (in place of a "
        "loss with weights for each class, such as ArcFaceLoss, use the loss angular_margin)"
    )
    raise ConfigError(f"params.loss = {name!r} cannot be used: {reason}. Usable: {', '.join(usable())}.")


def _check_params(cls: type, params: Mapping[str, Any]) -> None:
    """Check names and types: the library hides names behind `**kwargs`, and only default values show types.

    The parameters that all losses share are objects (distances, reducers, regularisers), which a config cannot hold.
    """
    shared = (_library().GenericPairLoss, _library().BaseMetricLossFunction)
    own = itertools.takewhile(lambda base: base not in shared, cls.__mro__)
    known = {
        name: parameter.default
        for base in own
        for name, parameter in inspect.signature(base).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    for name, value in params.items():
        path = f"params.params.{name}"
        if name not in known:
            msg = f"{path}: {cls.__name__} has no such parameter that a config can hold."
            raise ConfigError(f"{msg} {did_you_mean(name, known)}")
        default = known[name]
        annotation = bool if isinstance(default, bool) else float if isinstance(default, int | float) else Any
        check_value(value, annotation, path)


def _compare(loss: nn.Module, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Tensor:
    # if both labels are the same tensor, the library assumes a single set and skips each item's own reference
    compared: Tensor = loss(embeddings=generated, labels=speaker_ids, ref_emb=reference, ref_labels=speaker_ids.clone())
    return compared


def _find_problem(loss: nn.Module) -> str | None:
    """Return why a loss with its parameters cannot be used, found by trying it at cosines of exactly 1 and -1."""
    if any(True for _ in loss.parameters()):
        return "it learns weights of its own; the loss angular_margin has references in their place"
    values = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        reference = torch.eye(16)[_TRIAL_SPEAKERS.unique(return_inverse=True)[1]]
        for sign in (1.0, -1.0):
            generated = (sign * reference).requires_grad_()
            value = _compare(loss, generated, reference, _TRIAL_SPEAKERS)
            (gradient,) = torch.autograd.grad(value, generated)
            if not (value.isfinite() and gradient.isfinite().all()):
                return "its value or gradient is not finite where embeddings equal or oppose their references"
            values.append(value.item())
    equal, opposite = values
    return None if equal < opposite else "it does not fall as generated embeddings come to equal their references"


def _build(name: str, params: Mapping[str, Any]) -> nn.Module:
    cls = _find_class(name)
    _check_params(cls, params)
    refusal = f"params.loss = {name!r} with params.params = {shown(dict(params))} cannot be used"
    try:
        loss = cls(**params)
        problem = _find_problem(loss)
    except Exception as error:
        raise ConfigError(f"{refusal}: {type(error).__name__}: {shortened(str(error))}") from error
    if problem is not None:
        raise ConfigError(f"{refusal}: {problem}.")
    return loss


class MetricLearningLoss(SpeakerConsistencyLoss):
    """A loss of pytorch-metric-learning, with generated embeddings as anchors and references as positives or negatives.

    A batch with one speaker counts 0, whatever the library would compute; a run in which every batch is like that is
    refused before step 1. The library's miners read from the device, which makes the program wait for a GPU.
    """

    min_speakers = 2

    def __init__(self, loss: str, params: dict[str, Any] | None = None) -> None:
        """Choose the loss.

        Args:
            loss: The name of a class in `pytorch_metric_learning.losses`, such as `SupConLoss`.
            params: Its keyword arguments that are numbers, strings or booleans.

        Raises:
            ConfigError: pytorch-metric-learning is not installed, has no such loss, it cannot compare generated
                embeddings with references, or `params` do not fit.
        """
        super().__init__()
        self.metric = _build(loss, params or {})

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor, prototypes: Tensor | None) -> Tensor:
        """Return the library's value on checked inputs; shapes as in `forward`."""
        if (speaker_ids == speaker_ids[0]).all():
            return 0.0 * generated.sum()
        return _compare(self.metric, generated, reference, speaker_ids)
