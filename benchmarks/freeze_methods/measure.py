"""Measure the methods as rows of the table. Every cell is observed in a run."""

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

_WARM_UP_STEPS = 1
_MEMORY_STEPS = 2
"""The first step creates the optimizer's state; the second holds it along with everything else a step needs."""


@dataclass(frozen=True)
class Row:
    """The measurements of a method."""

    method: str
    weights_move: bool
    """Whether any bit of the encoder's parameters differed from the start after any step."""
    buffers_move: bool
    """The same for its buffers."""
    gradient_reaches_waveform: bool
    """Whether the term's gradient at the generated waveform was finite and not zero at every step."""
    gradient_on_weights: bool
    """Whether the backward pass of any step left a gradient on a parameter of the encoder."""
    gradients_pile_up: bool
    """Whether a gradient was left after `optimizer.zero_grad()`, with a larger norm at the last step than the first."""
    left_by_model_zero_grad: bool
    """Whether a gradient was left after `model.zero_grad()` as well."""
    survives_train: bool
    """Whether every module of the encoder was in eval mode after each `model.train()`."""
    moves_with_to: bool
    """Whether `model.to(device)` moved every tensor of the encoder."""
    milliseconds: float
    """Median time of a step."""
    mebibytes: float
    """Peak allocation, apart from the weights of generator and encoder and the data."""


def measure(methods: Sequence[type[Nothing]], setting: Setting, steps: int) -> list[Row]:
    """Run each method twice from the same start: once to measure its memory, once to observe and time it.

    The methods take turns, so that other load on the machine affects all of them alike.

    Args:
        methods: Methods to measure.
        setting: Models and batches to run them on, which are left unchanged.
        steps: Timed steps of each, after one to warm up.
    """
    peaks = [_mebibytes(method, setting) for method in tqdm(methods, "memory", leave=False, unit="method")]
    runs = [_Run(method, setting, _WARM_UP_STEPS + steps) for method in methods]
    for _ in tqdm(range(_WARM_UP_STEPS + steps), "steps", leave=False, unit="round"):
        for run in runs:
            run.step()
    return [run.row(peak) for run, peak in zip(runs, peaks, strict=True)]


class _Run:
    """A running method, and the observations so far."""

    def __init__(self, method_class: type[Nothing], setting: Setting, steps: int) -> None:
        self._method = method_class(*_start(method_class, setting))
        self._encoder = self._method.model.speaker_encoder
        self._first = {name: tensor.detach().clone() for name, tensor in named_tensors(self._encoder).items()}
        self._steps = train(self._method, setting, steps)
        self._seen: list[Step] = []
        self._moved: set[str] = set()
        self._left: list[float] = []

    def step(self) -> None:
        """Take a step, and record what it changed."""
        self._seen.append(next(self._steps))
        self._moved |= _moved(self._first, self._encoder)
        self._left.append(gradient_norm(self._encoder))

    def row(self, mebibytes: float) -> Row:
        """Return the measurements. Ends the run, since it clears gradients."""
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
            milliseconds=1000 * statistics.median(step.seconds for step in self._seen[_WARM_UP_STEPS:]),
            mebibytes=mebibytes,
        )


def _start(method_class: type[Nothing], setting: Setting) -> tuple[nn.Module, nn.Module]:
    """Return copies of the generator and of the method's encoder."""
    return copy.deepcopy(setting.generator), copy.deepcopy(setting.encoders[method_class.kind])


def _moved(start: Mapping[str, Tensor], encoder: nn.Module) -> set[str]:
    return {name for name, tensor in named_tensors(encoder).items() if not torch.equal(tensor, start[name])}


def _moves_with_to(method: Nothing) -> bool:
    """Tell whether `model.to(device)` moves the encoder, from a copy moved to the device that holds no data."""
    moved = copy.deepcopy(method.model).to("meta")
    return all(tensor.is_meta for tensor in named_tensors(moved.speaker_encoder).values())


def _mebibytes(method_class: type[Nothing], setting: Setting) -> float:
    start = _start(method_class, setting)
    with watched() as peak:
        for _ in train(method_class(*start), setting, _MEMORY_STEPS):
            pass
    return peak.mebibytes
