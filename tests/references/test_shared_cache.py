"""One cache file for several runs at the same time: nothing is lost, torn, or left locked."""

import fcntl
import multiprocessing
import multiprocessing.synchronize
import time
from pathlib import Path

import filelock
import pytest
import torch
from toy_speech import write_recordings

from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.recordings import Recording, Stamp
from coqui_scl_plugin.utils import locked as locked_module
from coqui_scl_plugin.utils.locked import locked

fork = multiprocessing.get_context("fork")
ROUNDS = 15


def write(path: Path, who: int) -> None:
    """Save after each of several embeddings, as a run does that fills the cache."""
    cache = ReferenceCache.load(path)
    for index in range(ROUNDS):
        cache.put("one", f"{who}-{index:02d}", Stamp(who, index), torch.full((64,), 1.0 + index))
        cache.save()


def hold(path: Path, held: "multiprocessing.synchronize.Event") -> None:
    with locked(path):
        held.set()
        time.sleep(60)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    (tmp_path / "speech").mkdir()
    return write_recordings(tmp_path / "speech", {"a1": 0.3, "b1": 0.4})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A link to the file, by which its lock must be the same."""
    (tmp_path / "shared").mkdir()
    link = tmp_path / "cache.safetensors"
    link.symlink_to("shared/cache.safetensors")
    return link


def test_runs_that_save_at_the_same_time_lose_nothing_and_read_whole_files(path: Path) -> None:
    runs = [fork.Process(target=write, args=(path if who else path.resolve(), who)) for who in range(3)]
    for run in runs:
        run.start()
    while any(run.is_alive() for run in runs):
        ReferenceCache.load(path)  # raises if it is torn
    assert [run.exitcode for run in runs] == [0, 0, 0]
    names = {f"{who}-{index:02d}" for who in range(3) for index in range(ROUNDS)}
    assert set(ReferenceCache.load(path)._entries["one"]) == names
    assert path.is_symlink()
    assert [found.name for found in path.resolve().parent.iterdir()] == [path.name]  # no lock, no temporary file


def test_what_another_run_saved_is_kept_but_ours_stands(path: Path, recordings: list[Recording]) -> None:
    first, second = recordings
    ours, theirs = ReferenceCache.load(path), ReferenceCache.load(path)
    for cache, value in ((ours, 1.0), (theirs, 2.0)):
        cache.put("one", first.name, first.stamp, torch.full((4,), value))
    theirs.put("one", second.name, second.stamp, torch.full((4,), 3.0))
    theirs.save()
    ours.save()
    found = ReferenceCache.load(path)
    assert found.get("one", first).tolist() == [1.0] * 4
    assert found.get("one", second).tolist() == [3.0] * 4
    assert ours.get("one", second).tolist() == [3.0] * 4


def test_a_run_that_was_killed_with_the_lock_holds_up_nobody(path: Path, recordings: list[Recording]) -> None:
    holder = fork.Process(target=hold, args=(path, held := fork.Event()))
    holder.start()
    assert held.wait(30)
    lock = path.resolve().with_name(".cache.safetensors.lock")
    with lock.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder.kill()
    holder.join()
    assert lock.exists()
    cache = ReferenceCache.load(path)
    cache.put("one", "a1", recordings[0].stamp, torch.ones(4))
    started = time.monotonic()
    cache.save()
    assert time.monotonic() - started < locked_module._TIMEOUT_SECONDS / 2
    assert [found.name for found in path.resolve().parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "error", [OSError(38, "Function not implemented"), NotImplementedError(), filelock.Timeout("x")]
)
def test_where_there_are_no_locks_it_is_saved_without(
    path: Path, recordings: list[Recording], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    cache = ReferenceCache.load(path)
    cache.put("one", "a1", recordings[0].stamp, torch.ones(4))
    cache.save()
    assert ReferenceCache.load(path).get("one", recordings[0]).tolist() == [1.0] * 4


def test_an_error_under_the_lock_frees_it(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(path):
        raise ZeroDivisionError
    with locked(path):
        pass
    assert list(path.resolve().parent.iterdir()) == []
