"""Measure what the loss costs on the paths that a user runs, and write the tables of docs/speed.md.

Each figure compares two things timed by turns. It is kept in benchmarks/results.json as soon as it is measured; after
an interruption, --resume leaves out those of this revision. Needs libri10, and two quiet cores for 20 minutes.
On a machine that does other work, --cpu-time counts the time on one CPU instead; its absolute times mean less.
"""

import argparse
import logging
import sys
import time
import traceback
import warnings
from typing import Any

import torch

from benchmarks.speech import need_speech
from benchmarks.speed import results
from benchmarks.speed.figures import FIGURES
from benchmarks.speed.page import ONE_THREAD, targets_table, write_page
from benchmarks.speed.timing import Effort


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=list(FIGURES), metavar="NAME", default=list(FIGURES),
        help=f"figures to measure, by default all: {', '.join(FIGURES)}",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=Effort.rounds, help="rounds of each, at most")
    parser.add_argument(
        "--quick", action="store_true", help="one round of each, kept nowhere: to see that all of it runs"
    )
    parser.add_argument("--resume", action="store_true", help="leave out the figures that are of this revision")
    parser.add_argument("--cpu-time", action="store_true", help="count the time on CPUs, with one thread")
    return parser.parse_args()


def _efforts(name: str, options: argparse.Namespace) -> dict[str, Effort]:
    """Return how to measure a figure, by the name of its record."""
    rounds = 1 if options.quick else options.rounds
    if options.cpu_time:
        return {name: Effort(rounds, threads=1, cpu_time=True)}
    efforts = {name: Effort(rounds)}
    if FIGURES[name].one_thread:
        efforts[ONE_THREAD.format(name)] = Effort(min(rounds, 3), threads=1)
    return efforts


def _measure(name: str, effort: Effort) -> dict[str, Any]:
    """Measure a figure, and return its record."""
    torch.set_num_threads(effort.threads)
    started, revision = time.perf_counter(), results.revision()
    rows = FIGURES[name].measure(effort)
    return results.measured(rows, effort, time.perf_counter() - started, revision)


def _is_known(record: dict[str, Any], effort: Effort) -> bool:
    """Tell whether a figure was measured like this, and nothing has changed since."""
    return bool(record) and (record["revision"], record["cpu_time"]) == (results.revision(), effort.cpu_time)


def main() -> None:
    """Measure what is asked for, and write the tables."""
    options = _options()
    need_speech()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    known = results.read()
    efforts = {record: (name, effort) for name in options.only for record, effort in _efforts(name, options).items()}
    failed = 0
    for number, (record, (name, effort)) in enumerate(efforts.items(), 1):
        sys.stderr.write(f"[{number}/{len(efforts)}] {record} ... ")
        if options.resume and _is_known(known.get(record, {}), effort):
            sys.stderr.write("known\n")
            continue
        sys.stderr.flush()
        try:
            found = _measure(name, effort)
        except results.CannotMeasureError as reason:
            sys.stderr.write(f"left as it was: {reason}\n")
            continue
        except Exception:  # noqa: BLE001  # the others can still be measured
            sys.stderr.write(f"\n{traceback.format_exc()}")
            failed += 1
            continue
        sys.stderr.write(f"{found['took_seconds']:.0f} s\n")
        known[record] = found
        if not options.quick:
            results.merge({record: found})
    sys.stdout.write(targets_table(known))
    if not options.quick:
        write_page(results.read())
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
