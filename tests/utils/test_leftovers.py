import os
import subprocess
import sys

import pytest

from coqui_scl_plugin.utils.atomic import owner, replacing
from coqui_scl_plugin.utils.leftovers import remove_leftovers


@pytest.fixture(scope="module")
def dead() -> int:
    """A number that no process has any more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path, dead):
    machine = owner().partition("@")[2]
    left = [f".a.{dead}@{machine}.partial.json", f".b.c.{dead}.partial.safetensors", f".d.{dead}@{machine}.partial"]
    kept = [f".a.{dead}@another.host.partial.json", f".a.{os.getppid()}@{machine}.partial.json", "a.json", ".b.c.5"]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    (tmp_path / f".e.{dead}.partial").mkdir()
    (tmp_path / f".e.{dead}.partial" / "x").touch()
    with replacing(tmp_path / "mine.json") as temporary:
        temporary.touch()
        removed = remove_leftovers(tmp_path)
        assert temporary.exists()
    assert removed == sorted([*left, f".e.{dead}.partial"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "mine.json"])


def test_a_number_that_another_process_has_now(tmp_path):
    old = tmp_path / f".a.{os.getpid()}.partial.json"
    old.touch()
    os.utime(old, (1e9, 1e9))
    assert remove_leftovers(tmp_path) == [old.name]


def test_only_those_of_one_file(tmp_path, dead):
    for name in ("cache", "other"):
        (tmp_path / f".{name}.{dead}.partial.safetensors").touch()
    assert remove_leftovers(tmp_path, "cache.*") == [f".cache.{dead}.partial.safetensors"]


def test_a_folder_between_two_names_gets_its_own_back(tmp_path, dead):
    former = tmp_path / f".made.{dead}.former"
    former.mkdir()
    (former / "old.txt").touch()
    remove_leftovers(tmp_path)
    assert (tmp_path / "made" / "old.txt").exists()
    assert not former.exists()


def test_no_folder(tmp_path):
    assert remove_leftovers(tmp_path / "none") == []
