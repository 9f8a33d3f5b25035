"""Files that fsspec writes in a run folder appear whole or not at all, and elsewhere as ever."""

import os

import fsspec
import pytest
import torch
from trainer.io import get_last_checkpoint, save_fsspec

from coqui_scl_plugin.coqui.whole_files import WholeFileSystem, write_whole

STATE = {"model": {"flow.a": torch.arange(5000.0)}, "step": 1}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(WholeFileSystem, "folders", set())
    folder = tmp_path / "run"
    folder.mkdir()
    write_whole(folder)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_once_it_is_closed(run):
    file = run / "checkpoint_1.pth"
    file.write_bytes(b"former")
    with fsspec.open(str(file), "wb") as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_bytes() == b"former"
        assert len(names(run)) == 2
        file.unlink()
        with pytest.raises(ValueError, match="No models found"):  # the temporary name is no checkpoint's
            get_last_checkpoint(run)
    assert file.read_bytes() == b"new"
    assert names(run) == ["checkpoint_1.pth"]


def test_text_is_written_whole_too(run):
    file = run / "config.json"
    file.write_text("former")
    with fsspec.open(str(file), "w", encoding="utf8") as stream:
        stream.write("ä")
        assert file.read_text() == "former"
    assert file.read_text(encoding="utf8") == "ä"


class Full(torch.Tensor):
    """A tensor that cannot be saved."""

    def __reduce_ex__(self, _):
        raise OSError(28, "No space left on device")


def test_a_file_that_fails_leaves_the_former_one(run):
    file = run / "checkpoint_1.pth"
    save_fsspec(STATE, file)
    former = file.read_bytes()
    with pytest.raises(OSError, match="No space"):
        save_fsspec({"model": STATE, "more": torch.zeros(3).as_subclass(Full)}, file)
    assert file.read_bytes() == former
    assert names(run) == ["checkpoint_1.pth"]


def test_a_full_disk_leaves_the_former_one(run, monkeypatch):
    file = run / "checkpoint_1.pth"
    save_fsspec(STATE, file)
    former = file.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        save_fsspec({**STATE, "step": 2}, file)
    assert file.read_bytes() == former
    assert names(run) == ["checkpoint_1.pth"]


def test_a_save_while_an_error_is_handled_is_no_failure(run):
    """As Coqui saves when the user interrupts it."""
    file = run / "checkpoint_1.pth"
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        save_fsspec(STATE, file)
    assert torch.equal(torch.load(file, weights_only=True)["model"]["flow.a"], STATE["model"]["flow.a"])


def test_copies_are_whole(run, monkeypatch):
    source, target = run / "best_model_1.pth", run / "best_model.pth"
    source.write_bytes(b"new" * 500_000)
    target.write_bytes(b"former")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space") as caught:
        fsspec.get_mapper(str(run)).fs.copy(str(source), str(target))
    assert caught.value.filename == str(target)
    assert target.read_bytes() == b"former"
    monkeypatch.undo()
    write_whole(run)
    fsspec.get_mapper(str(run)).fs.copy(str(source), str(target))
    assert target.read_bytes() == source.read_bytes()
    assert names(run) == ["best_model.pth", "best_model_1.pth"]


def test_other_folders_and_modes_are_as_ever(run):
    other = run.with_name("other.txt")
    with fsspec.open(str(other), "wb") as stream:
        stream.write(b"a")
        stream.flush()
        assert other.read_bytes() == b"a"
    kept = run / "log.txt"
    with fsspec.open(str(kept), "ab") as stream:
        stream.write(b"b")
    with fsspec.open(str(kept), "ab") as stream:
        stream.write(b"c")
        stream.flush()
        assert kept.read_bytes() == b"bc"
    with fsspec.open(str(kept), "rb") as stream:
        assert stream.read() == b"bc"
    with fsspec.open("memory://a", "wb") as stream:
        stream.write(b"d")
    assert type(fsspec.filesystem("memory")).__name__ == "MemoryFileSystem"


def test_a_link_stays_a_link(run):
    (run.parent / "elsewhere.pth").write_bytes(b"former")
    link = run / "checkpoint_1.pth"
    link.symlink_to(run.parent / "elsewhere.pth")
    save_fsspec(STATE, link)
    assert link.is_symlink()
    assert torch.load(run.parent / "elsewhere.pth", weights_only=True)["step"] == 1
