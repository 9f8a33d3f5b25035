import contextlib
import errno
import os
import resource
import shutil
import stat
from pathlib import Path

import pytest
import torch

from coqui_scl_plugin.utils.atomic import replacing, replacing_folder


@pytest.fixture
def former(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "old.txt").touch()
    return tmp_path / "made"


def fill_until_full(folder):
    with replacing_folder(folder) as temporary:
        (temporary / "new.txt").touch()
        raise OSError("full")


def fill_and_lose(folder):
    with replacing_folder(folder) as temporary:
        shutil.rmtree(temporary)


@pytest.mark.parametrize("fill", [fill_until_full, fill_and_lose])
def test_a_folder_that_cannot_be_replaced_is_as_it_was(former, fill):
    with pytest.raises(OSError, match=r"full|No such file"):
        fill(former)
    assert sorted(former.parent.rglob("*")) == [former, former / "old.txt"]


# --- what is replaced -------------------------------------------------------------------------------------------------


def write(path, text):
    with replacing(path) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize("leads_to", ["elsewhere/real.txt", "link.txt"])
def test_a_link_stays_a_link(tmp_path, leads_to):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.txt").symlink_to("elsewhere/real.txt")
    path = tmp_path / "of-a-link.txt"
    path.symlink_to(leads_to)  # to the file, or to another link to it
    for text in ("new", "newer"):  # first, it leads nowhere
        write(path, text)
        assert path.is_symlink()
        assert (tmp_path / "elsewhere" / "real.txt").read_text() == text
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["elsewhere", "link.txt", "of-a-link.txt", "real.txt"]


def test_a_link_to_a_folder_stays_one(former):
    link = former.with_name("link")
    link.symlink_to(former)
    with replacing_folder(link) as temporary:
        (temporary / "new.txt").touch()
    assert link.is_symlink()
    assert [path.name for path in former.iterdir()] == ["new.txt"]
    assert sorted(path.name for path in former.parent.iterdir()) == ["link", "made"]


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
def test_the_mode_of_what_is_replaced_stays(tmp_path, mode):
    path = tmp_path / "a.txt"
    write(path, "old")
    path.chmod(mode)
    write(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "new"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_of_what_is_replaced_stays(tmp_path):
    path = tmp_path / "a.txt"
    write(path, "old")
    os.chown(path, 1234, 1235)
    write(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    path = tmp_path / "full.txt"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write(path, "new")
    assert caught.value.filename == str(path)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


@pytest.mark.parametrize("place", ["a folder", "below a file"])
def test_what_cannot_be_a_file_is_named_and_left(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    named, path = {
        "a folder": (tmp_path / "folder", tmp_path / "folder"),
        "below a file": (tmp_path / "file", tmp_path / "file" / "new.txt"),
    }[place]
    with pytest.raises(OSError, match=r"Is a directory|File exists") as caught:
        write(path, "new")
    assert caught.value.filename == str(named)
    assert sorted(found.name for found in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "mine"


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    def copy(source):
        with replacing(tmp_path / "new.txt") as temporary:
            temporary.write_bytes(source.read_bytes())

    with pytest.raises(FileNotFoundError) as caught:
        copy(tmp_path / "missing.txt")
    assert caught.value.filename == str(tmp_path / "missing.txt")


def test_what_a_library_says_of_a_full_disk_is_said_as_the_system_says_it(tmp_path):
    path = tmp_path / "a.pth"

    def save():
        with replacing(path) as temporary, limited(1000), temporary.open("wb") as file:
            torch.save(torch.zeros(1000), file)  # which raises a RuntimeError

    with pytest.raises(OSError, match="File too large") as caught:
        save()
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


# --- an error at each call --------------------------------------------------------------------------------------------

CALLS = ["open", "mkdir", "chown", "chmod", "rename", "replace", "write"]


@contextlib.contextmanager
def limited(size):
    """Let no file become larger, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("call", CALLS)
def test_an_error_at_any_call_leaves_what_was_there(tmp_path, monkeypatch, call):
    path = tmp_path / "a.txt"
    write(path, "old")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def attempt():
        with replacing(path) as temporary:
            if call == "open":
                raise OSError(errno.ENOSPC, "No space left on device", str(temporary))
            with limited(3 if call == "write" else 1000):
                temporary.write_text("newer")

    for owner in (os, Path):
        if hasattr(owner, call) and call not in ("open", "write"):
            monkeypatch.setattr(owner, call, full)
    harmless = call in ("chown", "chmod", "rename")  # do not matter, or are not called
    with contextlib.nullcontext() if harmless else pytest.raises(OSError, match=r"No space|too large") as caught:
        attempt()
    monkeypatch.undo()
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == ("newer" if harmless else "old")
    if not harmless:
        assert caught.value.filename == str(path)
