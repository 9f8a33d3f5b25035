"""Figures of whole training steps: what the loss adds, what of it is ours alone, and what the guards add."""

import functools
from collections.abc import Callable, Mapping

import torch
from pretend_cuda import moved, pretended_cuda, uploaded

from benchmarks.speed.models import hold_corpus, scl_model, training_batch
from benchmarks.speed.results import Row
from benchmarks.speed.steps import OwnTime, Step
from benchmarks.speed.timing import Effort, Spread, spread_of
from coqui_scl_plugin.config import SclConfig, WindowConfig
from coqui_scl_plugin.freeze import DriftGuard
from coqui_scl_plugin.freeze.gradient_guard import GradientGuard


def _name(window: WindowConfig) -> str:
    return f"{window.seconds:g} s, {window.items or 'all'}"


_DEFAULT = {"default": SclConfig().window}
_SLICE = {"Coqui's slice, all": WindowConfig(0.0, None)}
_WINDOWS = {
    f"{_name(WindowConfig(seconds, items))}, every {steps}": WindowConfig(seconds, items, steps)
    for seconds, items in ((0.0, None), *((s, items) for items in (None, 1) for s in (1.0, 2.0, 4.0)))
    for steps in (1, 4)
}
_BATCHES = (8, 32)
_STOCKS_OWN = "coqui/vits.py"
"""Where Coqui's own code runs: it waits for a GPU some 50 times in a step, whatever this package does."""


def _step(size: int, *, full: bool = False) -> Step:
    model = hold_corpus(scl_model({}, full=full))
    return Step(model, training_batch(model, size))


# --- what the loss adds -----------------------------------------------------------------------------------------------


def of_a_step(effort: Effort) -> list[Row]:
    """Compare steps of the demo's model with the default encoders, by window, with a step without the loss."""
    whole = effort.threads > 1 or effort.cpu_time
    rows = _by_window(effort.at_most(3), _step(4), _DEFAULT | (_WINDOWS if whole else {}))
    for size in _BATCHES if whole else _BATCHES[:1]:
        of_this_size = _by_window(effort.at_most(3), _step(size), _DEFAULT)
        rows += [{**row, "case": f"{row['case']}, batch of {size}"} for row in of_this_size]
    return rows


def of_a_full_size_step(effort: Effort) -> list[Row]:
    """Compare steps of a VITS of Coqui's default size, with the default encoders, with a step without the loss."""
    return _by_window(effort.at_most(1), _step(4, full=True), _DEFAULT | _SLICE)


def _by_window(effort: Effort, step: Step, windows: Mapping[str, WindowConfig]) -> list[Row]:
    works: dict[str, Callable[[], None]] = {"without": step.without_loss}
    works |= {_name(window): functools.partial(step.through, window) for window in windows.values()}
    times = effort.alternate(works)
    kept = {name: step.mebibytes(work) for name, work in works.items()}
    rows: list[Row] = [{"case": "without the loss", "ms": times.milliseconds("without"), "mib": kept["without"]}]
    for case, window in windows.items():
        name = _name(window)
        of_without = _mean_of(times.ratio(name, "without"), window.every_n_steps)
        rows.append({"case": case, "ms": times.milliseconds(name), "of_without": of_without, "mib": kept[name]})
    return rows


def _mean_of(ratio: Spread, steps: int) -> Spread:
    """Return the mean over `steps` steps, in one of which the loss takes part, against a step without it."""
    return Spread(*((value + steps - 1) / steps for value in (ratio.median, ratio.low, ratio.high)))


# --- what is ours alone -----------------------------------------------------------------------------------------------


def own_share(effort: Effort) -> list[Row]:
    """Measure what of a step of the demo's model is spent in this package and is no encoder and no decoder pass."""
    step = _step(4)
    step()
    shares, own, whole = [], [], []
    for _ in range(2 * effort.rounds):
        spent = OwnTime(effort.clock)
        with spent.measured(step.model):
            started = effort.clock()
            step()
            whole.append(1000 * (effort.clock() - started))
        own.append(1000 * (spent.package - spent.passes))
        shares.append(own[-1] / whole[-1])
    return [{"case": "default", "share": spread_of(shares), "own_ms": spread_of(own), "ms": spread_of(whole)}]


def waits(effort: Effort) -> list[Row]:
    """Count how often a step of the demo's model waits for a GPU by our doing, on a GPU that is pretended."""
    step = _step(2)
    step()  # how encoders are passed is found out once, where random numbers can be forked
    with pretended_cuda() as ledger:
        moved(step.model)
        step = Step(step.model, uploaded(step.batch), updates=False)
        step()
        ledger.clear()
        step()
        ours = {place: count for place, count in ledger.own().items() if _STOCKS_OWN not in place[1]}
        stocks = sum(ledger.waits.values()) - sum(ours.values())
    return [{"case": "default", "ours": sum(ours.values()), "stock": stocks, "where": sorted({p for _, p in ours})}]


# --- guards -----------------------------------------------------------------------------------------------------------


def guards(effort: Effort) -> list[Row]:
    """Compare what keeps the default encoders frozen with a step of the demo's model."""
    step = _step(4)
    guard, every = DriftGuard(step.model.parts.frozen_encoders()), step.model.config.scl.freeze.check_every
    works: dict[str, Callable[[], object]] = {
        "step": step,
        "drift guard": lambda: guard.check(0),
        "gradient guard": _watched_gradient,
        "policies": step.model.parts.apply_policies,
    }
    times = effort.alternate(works)
    rows = []
    for name, a_step in (("drift guard", 1 / every), ("gradient guard", 1 / every), ("policies", 2)):
        one = times.ratio(name, "step")
        share = Spread(*(value * a_step for value in (one.median, one.low, one.high)))
        rows.append({"case": name, "a_step": a_step, "ms": times.milliseconds(name), "share": share})
    return rows


def _watched_gradient() -> None:
    """Take what a check adds to a step: the norm of the gradient at the windows, and reading it."""
    guard, generated = GradientGuard(), torch.ones(4, 32_000, requires_grad=True)
    guard.watch(generated, expect=True)
    generated.sum().backward()
    guard.check(0)
