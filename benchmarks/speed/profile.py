"""`python -m benchmarks.speed.profile --out FILE`: what takes time in a step of the demo's model, by torch.profiler.

The section is the default one, with references held. A table has the parts of this package by their names, another the
operations by the time that they take themselves.
"""

import argparse
import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.markdown import table
from benchmarks.speech import need_speech
from benchmarks.speed import results
from benchmarks.speed.models import hold_corpus, scl_model, term_of, training_batch
from benchmarks.speed.steps import Step
from coqui_scl_plugin.utils.atomic import replacing

_ROWS = 25
_STEPS = 3


def _recorded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        with record_function(name):
            return call(*args, **kwargs)

    return recorded


@contextlib.contextmanager
def _named_parts(step: Step) -> Iterator[None]:
    """Give what this package calls a name in the profile."""
    run = step.model.training_run
    named: list[tuple[Any, str, str]] = [
        (run, "add_term", "scl: the term, its backward pass included"),
        (run, "enforce", "scl: enforce policies"),
    ]
    named += [
        (e, "forward", f"scl: {alias}, forward") for alias, e in term_of(step.model).encoders.segment_encoders.items()
    ]
    with contextlib.ExitStack() as stack:
        for owner, name, title in named:
            stack.enter_context(mock.patch.object(owner, name, _recorded(title, getattr(owner, name))))
        yield


def profiled(step: Step) -> Any:
    """Return the averages of a few steps, after one that warms up."""
    step()
    with _named_parts(step), profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(_STEPS):
            step()
    return found.key_averages()


def tables(averages: Any) -> str:
    """Return the parts by name, and the operations that take most time themselves, per step."""
    total = sum(entry.self_cpu_time_total for entry in averages)
    parts = [
        [f"`{entry.key}`", f"{entry.cpu_time_total / 1000 / _STEPS:.1f}", f"{100 * entry.cpu_time_total / total:.1f} %"]
        for entry in averages
        if entry.key.startswith("scl: ")
    ]
    largest = sorted(averages, key=lambda entry: entry.self_cpu_time_total, reverse=True)[:_ROWS]
    operations = [
        [
            f"`{entry.key}`", f"{entry.count / _STEPS:.0f}", f"{entry.self_cpu_time_total / 1000 / _STEPS:.1f}",
            f"{100 * entry.self_cpu_time_total / total:.1f} %",
        ]
        for entry in largest
    ]  # fmt: skip
    return (
        f"A step took {total / 1000 / _STEPS:.0f} ms; {torch.get_num_threads()} thread(s), "
        f"revision {results.revision('coqui_scl_plugin')} of the package.\n\n"
        f"{table(['part of this package', 'ms a step', 'share'], parts)}\n"
        f"{table(['operation', 'calls a step', 'ms of its own', 'share'], operations)}"
    )


def main() -> None:
    """Profile, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    options = parser.parse_args()
    need_speech()
    warnings.filterwarnings("ignore")
    model = hold_corpus(scl_model({}))
    written = tables(profiled(Step(model, training_batch(model, 4))))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.out) as temporary:
        temporary.write_text(f"<!-- made by `python -m benchmarks.speed.profile` -->\n{written}", encoding="utf-8")


if __name__ == "__main__":
    main()
