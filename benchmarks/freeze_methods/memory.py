"""How much memory torch allocates while something runs."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch.profiler import ProfilerActivity, profile


@dataclass
class Peak:
    """The most that was allocated at one time, of what was allocated while it was watched."""

    mebibytes: float = 0.0


@contextmanager
def watched() -> Iterator[Peak]:
    """Fill in the peak at the end. What was allocated before does not count, nor does its release.

    Example:
        >>> import torch
        >>> with watched() as peak:
        ...     kept = torch.zeros(2**20)  # 4 MiB
        ...     for _ in range(3):
        ...         passing = torch.zeros(2**18)  # 1 MiB; the next comes before the last goes
        >>> peak.mebibytes
        6.0
    """
    peak = Peak()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield peak
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    held = most = 0
    for event in sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"]):
        held += event["args"]["Bytes"]
        most = max(most, held)
    peak.mebibytes = most / 2**20
