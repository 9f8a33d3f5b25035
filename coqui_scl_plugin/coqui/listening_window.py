"""The window of a training batch that the loss listens to: which items, from where, and how long."""

import random
from collections.abc import Sequence
from typing import NamedTuple


class ListeningWindow(NamedTuple):
    """A stretch of the latents of some items of a batch."""

    items: list[int]
    """Indices of the K items in the batch, ascending."""
    starts: list[int]
    """First frame of each item."""
    frames: int
    """Length, the same for all items."""


def draw_items(batch_size: int, items: int | None, step: int) -> list[int]:
    """Draw the items of a batch that the loss listens to, by the training step; all of them for `items` None.

    >>> draw_items(3, None, step=0), len(draw_items(8, 2, step=0))
    ([0, 1, 2], 2)
    """
    if items is None or items >= batch_size:
        return list(range(batch_size))
    return sorted(random.Random(f"window {step}").sample(range(batch_size), items))


def draw_window(
    names: Sequence[str], lengths: Sequence[int], frames: int, *, items: int | None, step: int
) -> ListeningWindow:
    """Draw a window of each item at a place of its own, by the training step and the name of its recording.

    The global random state is not used, so that a continued run draws what an uninterrupted one would.

    Args:
        names: Names of the recordings of the batch.
        lengths: Their lengths in frames.
        frames: Length wanted. The window is shorter where the shortest of the drawn items is, and is never padded
            unless an item has no frame at all.
        items: Number of items. None: all of them.
        step: The training step.
    """
    chosen = draw_items(len(names), items, step)
    fitting = max(1, min(frames, *(lengths[item] for item in chosen)))
    starts = [random.Random(f"window {step} {names[i]}").randrange(max(1, lengths[i] - fitting + 1)) for i in chosen]
    return ListeningWindow(chosen, starts, fitting)
