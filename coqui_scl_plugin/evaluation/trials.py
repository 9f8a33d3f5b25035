"""The trials of an evaluation: pairs of recordings, of one speaker or of two, drawn where they are too many."""

import functools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet
from coqui_scl_plugin.evaluation.metrics import equal_error_rate, min_dcf

Matrix = NDArray[np.float64]
_MAX_TRIALS = 200_000
"""Of one speaker, and then as many of different speakers: more would make large files, and hardly other rates."""
_MAX_BLOCK, _MAX_SCORED = 2**22, 2**11
"""Pairs that are looked at, and that are scored, at a time; the embeddings of the latter fit into a cache."""


@dataclass(frozen=True)
class Trials:
    """Pairs of recordings: does the second belong to the speaker that the first should sound like?"""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    scores: dict[str, Matrix]
    """`[N]` cosines by alias."""


class _Pairs(NamedTuple):
    """Pairs of rows and columns, `[N]` each."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]

    @classmethod
    def none(cls) -> "_Pairs":
        """Return an empty list."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))


class _Block(NamedTuple):
    """All pairs of some rows with all columns. Those of a large evaluation do not fit into memory at once."""

    start: int
    """The first row."""
    asked: NDArray[np.bool_]
    """`[rows, columns]`, whether the pair is a trial."""
    of_one: NDArray[np.bool_]
    """`[rows, columns]`, whether both are of one speaker."""

    @property
    def same(self) -> NDArray[np.bool_]:
        """The trials of one speaker."""
        return self.asked & self.of_one

    @property
    def other(self) -> NDArray[np.bool_]:
        """The trials of different speakers."""
        return self.asked & ~self.of_one


@dataclass(frozen=True)
class Compared:
    """An evaluation set, and the indices of the recordings that take part in its comparisons."""

    recordings: EvaluationSet
    synthetic: list[int]
    real: list[int]

    def trials(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor], seed: int) -> Trials:
        """Pair each synthetic with each real recording but its reference."""
        kept = _sampled(self._blocks, seed)
        return _trials(kept, np.array(self.synthetic), np.array(self.real), first, second)

    def real_trials(self, embeddings: Mapping[str, Tensor], seed: int) -> Trials:
        """Pair each real recording with each other one."""
        kept, real = _sampled(self._real_blocks, seed), np.array(self.real)
        return _trials(kept, real, real, embeddings, embeddings)

    @functools.cached_property
    def speakers(self) -> list[str]:
        """All speakers, those with synthetic speech first."""
        named = (self.recordings.real[j].speaker for j in self.real)
        return list(dict.fromkeys([*self.recordings.speakers, *named]))

    @functools.cached_property
    def of_synthetic(self) -> NDArray[np.int64]:
        """`[N]` places in `speakers` of the synthetic recordings that take part."""
        places = {speaker: place for place, speaker in enumerate(self.speakers)}
        return np.array([places[self.recordings.synthetic[i].speaker] for i in self.synthetic], np.int64)

    @functools.cached_property
    def of_real(self) -> NDArray[np.int64]:
        """`[M]` places in `speakers` of the real recordings that take part."""
        places = {speaker: place for place, speaker in enumerate(self.speakers)}
        return np.array([places[self.recordings.real[j].speaker] for j in self.real], np.int64)

    @functools.cached_property
    def own(self) -> NDArray[np.int64]:
        """`[N]` places of the synthetic recordings' references among the real ones that take part; -1 if none."""
        places = {self.recordings.real[j].name: place for place, j in enumerate(self.real)}
        made = self.recordings.synthetic
        return np.array([places.get(made[i].reference or "", -1) for i in self.synthetic], np.int64)

    def _blocks(self) -> Iterator[_Block]:
        rows = np.arange(len(self.own))
        for some in _split(rows, len(self.of_real)):
            asked = np.ones((len(some), len(self.of_real)), bool)
            known = self.own[some] >= 0
            asked[known.nonzero()[0], self.own[some][known]] = False
            yield _Block(int(some[0]), asked, self.of_synthetic[some, None] == self.of_real)

    def _real_blocks(self) -> Iterator[_Block]:
        columns = np.arange(len(self.of_real))
        for some in _split(columns, len(columns)):
            yield _Block(int(some[0]), columns > some[:, None], self.of_real[some, None] == self.of_real)


def _split(rows: NDArray[np.int64], columns: int) -> Iterator[NDArray[np.int64]]:
    """Yield so many rows at a time that their pairs with all columns are at most `_MAX_BLOCK`."""
    size = max(1, _MAX_BLOCK // max(1, columns))
    yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _sampled(blocks: Callable[[], Iterable[_Block]], seed: int) -> _Pairs:
    """Draw as many trials as keep their list at a readable length, those of one speaker all as far as possible."""
    totals = np.sum([(0, 0), *([block.same.sum(), block.other.sum()] for block in blocks())], axis=0)
    of_one = min(int(totals[0]), _MAX_TRIALS)
    numbers = (_drawn(int(totals[0]), of_one, seed), _drawn(int(totals[1]), max(_MAX_TRIALS - of_one, of_one), seed))
    found, passed = [_Pairs.none()], np.zeros(2, np.int64)
    for block in blocks():
        for kind, mask in enumerate((block.same, block.other)):
            places = np.flatnonzero(mask)
            low, high = np.searchsorted(numbers[kind], (passed[kind], passed[kind] + len(places)))
            rows, columns = np.divmod(places[numbers[kind][low:high] - passed[kind]], mask.shape[1])
            found.append(_Pairs(rows + block.start, columns, np.full(len(rows), kind == 0)))
            passed[kind] += len(places)
    first, second = np.concatenate([one.first for one in found]), np.concatenate([one.second for one in found])
    order = np.lexsort((second, first))
    return _Pairs(first[order], second[order], np.concatenate([one.same for one in found])[order])


def _drawn(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return all numbers below `count`, or so many of them drawn at random, sorted."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.array(random.Random(seed).sample(range(count), most), np.int64))


def _trials(
    pairs: _Pairs,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
) -> Trials:
    a, b = rows[pairs.first].astype(np.int64), columns[pairs.second].astype(np.int64)
    parts = [slice(start, start + _MAX_SCORED) for start in range(0, max(1, len(a)), _MAX_SCORED)]
    scores = {
        alias: np.concatenate([(first[alias][a[some]] * second[alias][b[some]]).sum(dim=-1).numpy() for some in parts])
        for alias in first
    }
    return Trials(a, b, pairs.same, scores)


def error_rates(trials: Trials, alias: str) -> tuple[float | None, float | None]:
    """Return the equal error rate and the detection cost; None unless there are trials of both kinds."""
    if trials.same.all() or not trials.same.any():
        return None, None
    return equal_error_rate(trials.scores[alias], trials.same), min_dcf(trials.scores[alias], trials.same)
