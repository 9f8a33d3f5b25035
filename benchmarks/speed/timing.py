"""Things timed by turns, so that whatever else the machine does slows all of them alike."""

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

Work = Callable[[], object]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Spread:
    """The median of several measurements, and their quartiles."""

    median: float
    low: float
    high: float


def spread_of(values: Sequence[float]) -> Spread:
    """Return the median and the quartiles; of fewer than four values, the smallest and the largest one.

    >>> spread_of([4.0, 1.0, 2.0])
    Spread(median=2.0, low=1.0, high=4.0)
    """
    if len(values) < 4:
        return Spread(statistics.median(values), min(values), max(values))
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


@dataclass(frozen=True)
class Times:
    """Seconds of each of several things, round by round."""

    seconds: dict[str, list[float]]

    def milliseconds(self, name: str) -> Spread:
        """Return the time of one of them."""
        return spread_of([1000 * value for value in self.seconds[name]])

    def of(self, name: str) -> Spread:
        """Return the seconds of one of them."""
        return spread_of(self.seconds[name])

    def ratio(self, name: str, *others: str) -> Spread:
        """Return the time of one divided by that of another, or by the sum of several, in the same round."""
        return spread_of([own / sum(rest) for own, *rest in self._rounds(name, *others)])

    def excess(self, name: str, other: str) -> Spread:
        """Return the milliseconds by which one takes longer than another in the same round."""
        return spread_of([1000 * (own - rest) for own, rest in self._rounds(name, other)])

    def _rounds(self, *names: str) -> list[tuple[float, ...]]:
        return list(zip(*(self.seconds[name] for name in names), strict=True))


@dataclass(frozen=True)
class Effort:
    """How a figure is measured."""

    rounds: int = 5
    """Rounds that count, where a figure does not say otherwise."""
    threads: int = 2
    """Threads of torch."""
    cpu_time: bool = False
    """Whether to count the time on CPUs, for a machine that does other work meanwhile; with one thread only."""

    @property
    def clock(self) -> Callable[[], float]:
        """The clock, in seconds."""
        return time.process_time if self.cpu_time else time.perf_counter

    def at_most(self, rounds: int) -> "Effort":
        """Return the same with fewer rounds, for what takes long."""
        return replace(self, rounds=min(rounds, self.rounds))

    def alternate(self, works: Mapping[str, Work]) -> Times:
        """Time each of several things by turns; one round more, from last to first, warms up."""
        for work in reversed(list(works.values())):
            work()
        return Times(
            by_turns({name: functools.partial(self._seconds, work) for name, work in works.items()}, self.rounds)
        )

    def _seconds(self, work: Work) -> float:
        started = self.clock()
        work()
        return self.clock() - started


def by_turns(works: Mapping[str, Callable[[], Found]], rounds: int) -> dict[str, list[Found]]:
    """Do each thing once a round, in every other round from last to first, and return what each of them returned."""
    found: dict[str, list[Found]] = {name: [] for name in works}
    for number in range(rounds):
        for name in works if number % 2 == 0 else reversed(list(works)):
            found[name].append(works[name]())
    return found
