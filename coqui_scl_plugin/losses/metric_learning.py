"""The losses of pytorch-metric-learning, as far as they can compare generated speech with references."""

import functools
import importlib
import inspect
import logging
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.losses.base import SpeakerConsistencyLoss
from coqui_scl_plugin.losses.compatibility import CANNOT, obstacle
from coqui_scl_plugin.plugins.parameters import check_value
from coqui_scl_plugin.utils.suggest import did_you_mean

_ARGUMENTS = {"embeddings", "labels", "ref_emb", "ref_labels"}
_WEIGHTS = (
    "it learns weights of its own, as a rule some for each class. The loss angular_margin is of this kind, with "
    "references in the place of weights"
)
_WRAPS = "it is made of other losses, or of a memory of earlier batches, and takes no references"

logger = logging.getLogger(__name__)


def _library() -> ModuleType:
    try:
        return importlib.import_module("pytorch_metric_learning.losses")
    except ImportError as error:
        msg = (
            "The loss metric_learning needs pytorch-metric-learning: "
            f'pip install "coqui-scl-plugin[metric-learning]" ({error}).'
        )
        raise ConfigError(msg) from error


def _classes() -> dict[str, type[nn.Module]]:
    return {name: cls for name, cls in vars(_library()).items() if isinstance(cls, type) and issubclass(cls, nn.Module)}


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """What the constructor takes and what it passes its `**kwargs` on to, short of what all losses share.

    The shared ones are objects (distances, reducers, regularisers), which a config cannot hold. What a base class
    requires comes from its subclasses.
    """
    shared = cls.__mro__.index(_library().BaseMetricLossFunction)
    constructors = [vars(base)["__init__"] for base in cls.__mro__[:shared] if "__init__" in vars(base)]
    known: dict[str, inspect.Parameter] = {}
    for constructor in constructors:
        for name, parameter in list(inspect.signature(constructor).parameters.items())[1:]:
            named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if named and (constructor is constructors[0] or parameter.default is not parameter.empty):
                known.setdefault(name, parameter)
    return known


def _check_params(cls: type, params: Mapping[str, Any]) -> None:
    known = _parameters(cls)
    for name, value in params.items():
        path = f"params.params.{name}"
        if name not in known:
            msg = f"{path}: {cls.__name__} has no such parameter that a config can hold."
            raise ConfigError(f"{msg} {did_you_mean(name, known)}")
        default, annotation = known[name].default, known[name].annotation
        if annotation is inspect.Parameter.empty:
            # most of these classes tell the type of a parameter by its default only
            annotation = bool if isinstance(default, bool) else float if isinstance(default, int | float) else Any
        check_value(value, annotation, path)


def _compare(loss: nn.Module, generated: Tensor, reference: Tensor, speaker_ids: Tensor) -> Tensor:
    # given one tensor as both labels, the library takes both sets for one, and no item for its own reference
    compared: Tensor = loss(embeddings=generated, labels=speaker_ids, ref_emb=reference, ref_labels=speaker_ids.clone())
    return compared


def _refusal_of_class(cls: type[nn.Module]) -> str | None:
    """Why no loss of this class can be used here, as far as can be told without making one."""
    if not inspect.signature(cls.forward).parameters.keys() >= _ARGUMENTS:
        return _WRAPS
    return _WEIGHTS if issubclass(cls, _library().WeightRegularizerMixin) else None


def _refusal(loss: nn.Module) -> str | None:
    """Why a loss cannot be used here, or None where it can."""
    if any(True for _ in loss.parameters()):
        return _WEIGHTS
    return obstacle(functools.partial(_compare, loss))


def _missing(cls: type, params: Mapping[str, Any]) -> list[str]:
    return [name for name, p in _parameters(cls).items() if p.default is p.empty and name not in params]


def _works_as_it_is(cls: type[nn.Module]) -> bool:
    try:
        return _refusal_of_class(cls) is None and not _missing(cls, {}) and _refusal(cls()) is None
    except CANNOT:
        return False


@functools.cache
def usable() -> tuple[str, ...]:
    """The names of the losses that can be used without parameters."""
    return tuple(sorted(name for name, cls in _classes().items() if _works_as_it_is(cls)))


def _build(name: str, params: Mapping[str, Any]) -> nn.Module:
    classes = _classes()
    if name not in classes:
        msg = f"params.loss = {name!r}: pytorch-metric-learning has no loss of this name."
        raise ConfigError(f"{msg} {did_you_mean(name, usable())}")
    cls = classes[name]
    reason = _refusal_of_class(cls)
    missing: list[str] = []
    if reason is None:
        _check_params(cls, params)
        missing = _missing(cls, params)
        try:
            # small numbers stand in for what is missing, to say first whether the loss could be used at all
            loss: nn.Module = cls(**params, **dict.fromkeys(missing, 4))
        except CANNOT as error:
            raise ConfigError(f"params.params: {name} refuses {dict(params)}: {error}") from error
        reason = _refusal(loss)
    if reason is not None:
        with_params = f" with {dict(params)}" if params else ""
        msg = f"params.loss = {name!r}{with_params} cannot be used: {reason}. Usable: {', '.join(usable())}."
        raise ConfigError(msg)
    if missing:
        raise ConfigError(f"params.params: {name} needs {', '.join(missing)}, got {sorted(params) or 'none'}.")
    return loss


class MetricLearningLoss(SpeakerConsistencyLoss):
    """A loss of pytorch-metric-learning, with generated embeddings as anchors and references as what they are held to.

    Which of its classes can serve is found out by trying them. A batch with one speaker counts 0, whatever the class
    would make of it, and is reported once; a run whose every batch is like that is refused before step 1.
    """

    min_speakers = 2

    def __init__(self, loss: str, params: dict[str, Any] | None = None) -> None:
        """Choose the loss.

        Args:
            loss: The name of a class in `pytorch_metric_learning.losses`, such as `SupConLoss`.
            params: Its keyword arguments; those that are numbers, strings or booleans.

        Raises:
            ConfigError: pytorch-metric-learning is not installed, has no such loss, it cannot compare generated
                embeddings with references, or `params` do not fit.
        """
        super().__init__()
        self.metric = _build(loss, params or {})
        self._said_one_speaker = False

    def compute(self, generated: Tensor, reference: Tensor, speaker_ids: Tensor, prototypes: Tensor | None) -> Tensor:
        """The class's own formula on checked inputs; shapes as in `forward`."""
        if (speaker_ids == speaker_ids[0]).all():
            if not self._said_one_speaker:
                self._said_one_speaker = True
                logger.warning("metric_learning: a batch holds one speaker, so no negatives; such batches count 0.")
            return 0.0 * generated.sum()
        return _compare(self.metric, generated, reference, speaker_ids)
