"""Methods in, rows of the table out. Every cell is seen in a run, none is known beforehand."""

import copy
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.freeze_methods.memory import watched
from benchmarks.freeze_methods.methods import Nothing
from benchmarks.freeze_methods.setting import Setting
from benchmarks.freeze_methods.training import Step, gradient_norm, has_gradients, train
from coqui_scl_plugin.utils.fingerprint import named_tensors

_WARM_UP = 1
_MEMORY_STEPS = 2
"""The first makes the optimizer's state, the second has it beside all that a step needs."""


@dataclass(frozen=True)
class Row:
    """What was measured of a method."""

    method: str
    weights_move: bool
    """A bit of a parameter of the encoder differed from the start after any whole step."""
    buffers_move: bool
    """The same of its buffers."""
    gradient_reaches_waveform: bool
    """The term's gradient at the generated waveform was finite and not zero at every step."""
    gradient_on_weights: bool
    """The backward pass of a step left a gradient on a parameter of the encoder."""
    gradients_pile_up: bool
    """After `optimizer.zero_grad()` there was one still, of a larger norm after the last step than after the first."""
    left_by_model_zero_grad: bool
    """After `model.zero_grad()` as well there was one still."""
    survives_train: bool
    """Every module of the encoder was in eval mode after each `model.train()`."""
    moves_with_to: bool
    """`model.to(device)` took every tensor of the encoder along."""
    milliseconds: float
    """Median of a step."""
    mebibytes: float
    """The most that was allocated at a time, beside the weights of generator and encoder and the data."""


def measure(methods: Sequence[type[Nothing]], setting: Setting, steps: int) -> list[Row]:
    """Run each method twice from the same start: to count its memory, then to look at it and time it.

    The methods take turns, so that what else the machine does meets all of them.

    Args:
        methods: The methods.
        setting: What they are run on; left as it is.
        steps: Timed steps of each, after one to warm up.
    """
    peaks = [_mebibytes(method, setting) for method in tqdm(methods, "memory", leave=False, unit="method")]
    runs = [_Run(method, setting, _WARM_UP + steps) for method in methods]
    for _ in tqdm(range(_WARM_UP + steps), "steps", leave=False, unit="round"):
        for run in runs:
            run.step()
    return [run.row(peak) for run, peak in zip(runs, peaks, strict=True)]


class _Run:
    """A method under way, and what was seen of it so far."""

    def __init__(self, method_class: type[Nothing], setting: Setting, steps: int) -> None:
        self._method = method_class(*_start(method_class, setting))
        self._encoder = self._method.model.speaker_encoder
        self._first = {name: tensor.detach().clone() for name, tensor in named_tensors(self._encoder).items()}
        self._steps = train(self._method, setting, steps)
        self._seen: list[Step] = []
        self._moved: set[str] = set()
        self._left: list[float] = []

    def step(self) -> None:
        """Take a step, and look at what it left."""
        self._seen.append(next(self._steps))
        self._moved |= _moved(self._first, self._encoder)
        self._left.append(gradient_norm(self._encoder))

    def row(self, mebibytes: float) -> Row:
        """What was seen. Ends the run, since it clears gradients."""
        parameters = {name for name, _ in self._encoder.named_parameters(remove_duplicate=False)}
        self._method.model.zero_grad(set_to_none=True)
        return Row(
            method=self._method.name,
            weights_move=bool(self._moved & parameters),
            buffers_move=bool(self._moved - parameters),
            gradient_reaches_waveform=all(0 < step.waveform_gradient < math.inf for step in self._seen),
            gradient_on_weights=any(step.weight_gradients for step in self._seen),
            gradients_pile_up=self._left[-1] > self._left[0] > 0,
            left_by_model_zero_grad=has_gradients(self._encoder),
            survives_train=all(step.in_eval for step in self._seen),
            moves_with_to=_moves_with_to(self._method),
            milliseconds=1000 * statistics.median(step.seconds for step in self._seen[_WARM_UP:]),
            mebibytes=mebibytes,
        )


def _start(method_class: type[Nothing], setting: Setting) -> tuple[nn.Module, nn.Module]:
    """A generator and the encoder of the method, its own to change."""
    return copy.deepcopy(setting.generator), copy.deepcopy(setting.encoders[method_class.kind])


def _moved(start: Mapping[str, Tensor], encoder: nn.Module) -> set[str]:
    return {name for name, tensor in named_tensors(encoder).items() if not torch.equal(tensor, start[name])}


def _moves_with_to(method: Nothing) -> bool:
    """Needs no second device: a copy is moved to the one that holds no data."""
    moved = copy.deepcopy(method.model).to("meta")
    return all(tensor.is_meta for tensor in named_tensors(moved.speaker_encoder).values())


def _mebibytes(method_class: type[Nothing], setting: Setting) -> float:
    start = _start(method_class, setting)
    with watched() as peak:
        for _ in train(method_class(*start), setting, _MEMORY_STEPS):
            pass
    return peak.mebibytes
