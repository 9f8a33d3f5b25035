"""The peak of the memory that torch allocates in a block."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch.profiler import ProfilerActivity, profile


@dataclass
class Peak:
    """Peak of the memory allocated within a block."""

    mebibytes: float = 0.0


@contextmanager
def watched() -> Iterator[Peak]:
    """Measure the peak, which is set when the block ends. Earlier allocations do not count, nor does their release.

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
    allocated = most = 0
    for event in sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"]):
        allocated += event["args"]["Bytes"]
        most = max(most, allocated)
    peak.mebibytes = most / 2**20
