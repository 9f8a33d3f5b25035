"""Work that several processes share."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from tqdm import tqdm


def in_processes(do: Callable[..., object], calls: Sequence[tuple[Any, ...]], jobs: int, what: str) -> None:
    """Call `do` with each tuple of arguments, `jobs` at a time, under a progress bar; the first error ends all.

    Args:
        do: A function of a module.
        calls: Its positional arguments, call by call.
        jobs: Processes.
        what: Heads the progress bar.
    """
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        pending = [pool.submit(do, *arguments) for arguments in calls]
        try:
            for done in tqdm(as_completed(pending), total=len(pending), desc=what, unit="model"):
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)
