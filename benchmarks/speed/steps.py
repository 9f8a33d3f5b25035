"""A whole training step as Coqui's trainer takes it, and the time in it that is ours alone."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.speed.memory import KeptBytes
from benchmarks.speed.models import term_of
from coqui_scl_plugin.config import WindowConfig
from coqui_scl_plugin.coqui.vits import SclVits

_MAX_NORM = 1000.0
"""At which Coqui clips gradients by default."""
_WEIGHT = 9.0


class Step:
    """Both turns of a step of one model: forward, losses, backward passes and optimizers."""

    def __init__(self, model: SclVits, batch: dict[str, Any], *, updates: bool = True) -> None:
        """Take a model in train mode with references, and a batch of the trainer's; without `updates` weights stay."""
        self.model, self.batch, self._updates = model, batch, updates
        self._criteria, self._optimizers = model.get_criterion(), model.get_optimizer()

    def __call__(self) -> None:
        """Take the step."""
        for turn, (criterion, optimizer) in enumerate(zip(self._criteria, self._optimizers, strict=True)):
            _, losses = self.model.train_step(self.batch, criterion, turn)
            losses["loss"].backward()
            if self._updates:
                torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], _MAX_NORM)
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.model.parts.apply_policies()

    def without_loss(self) -> None:
        """Take the step with a weight of 0, in which no encoder and no second decoder pass runs."""
        self.model.config.scl.weight = 0.0
        self()
        self.model.config.scl.weight = _WEIGHT

    def through(self, window: WindowConfig) -> None:
        """Take a step in which the loss hears this window."""
        self.model.config.scl.window = WindowConfig(window.seconds, window.items)
        self()

    def mebibytes(self, step: Callable[[], None]) -> float:
        """Return the MiB that the graphs of one of these steps keep."""
        kept = KeptBytes(self.model)
        with kept.counted():
            step()
        return kept.mebibytes


class OwnTime:
    """The time of a step within this package, and of that the passes through encoders and decoder."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take a clock in seconds."""
        self.package = self.passes = 0.0
        self._clock, self._depth = clock, 0

    @contextlib.contextmanager
    def measured(self, model: SclVits) -> Iterator[None]:
        """Measure the steps within the block."""
        run, parts = model.training_run, model.parts
        with contextlib.ExitStack() as stack:
            for owner, name in ((run, "enforce"), (run, "add_term"), (parts, "apply_policies")):
                stack.enter_context(mock.patch.object(owner, name, self._timed(getattr(owner, name))))
            for module in (*term_of(model).encoders.segment_encoders.values(), model.waveform_decoder):
                for hook in self._watch(module):
                    stack.callback(hook.remove)
            yield

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            started = self._clock()
            try:
                return call(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:  # `enforce` applies the policies
                    self.package += self._clock() - started

        return timed

    def _watch(self, module: nn.Module) -> Iterator[Any]:
        """Time what runs in a module within our calls: forward, and where it is ours, backward from output to input.

        The backward pass through encoders runs within our calls, that through the decoder in stock's.
        """
        started: list[float] = []

        def begin(*_: Any) -> None:
            started.append(self._clock())

        def end(*_: Any) -> None:
            if started:
                self.passes += self._clock() - started.pop()

        def before(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if not self._depth:
                return None
            heard = args[0].view_as(args[0])  # encoders may share a waveform; the gradient arrives at each view alone
            if heard.requires_grad:
                heard.register_hook(end)
            begin()
            return (heard, *args[1:])

        def after(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            end()
            if self._depth and output.requires_grad:
                output.register_hook(lambda _: begin() if self._depth else None)

        yield module.register_forward_pre_hook(before)
        yield module.register_forward_hook(after)
