"""The file of the reference cache: what comes back, when it does not, and that it is whole or not there."""

import json
import os
import resource
import stat
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file
from toy_speech import ToyEncoder, cached, kept, toy, write_recordings

from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError, SclError
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.fill import fill_cache
from coqui_scl_plugin.references.recordings import Recording, Stamp


def embedding(seed: int, dim: int = 6) -> torch.Tensor:
    return torch.randn(dim, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "cache.safetensors"


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    (tmp_path / "speech").mkdir()
    return write_recordings(tmp_path / "speech", {"a1": 0.3, "b1": 0.4, "b2": 0.5})


@pytest.fixture
def saved(path: Path, recordings: list[Recording]) -> Path:
    """A cache with two encoders, of which one knows all recordings."""
    cache = ReferenceCache(path)
    for row, recording in enumerate(recordings):
        cache.put("one", recording.name, recording.stamp, embedding(row))
    cache.put("other", "a1", recordings[0].stamp, embedding(9, dim=4))
    cache.save()
    return path


def test_what_is_saved_comes_back_bit_by_bit(saved, recordings):
    cache = ReferenceCache.load(saved)
    for row, recording in enumerate(recordings):
        assert torch.equal(cache.get("one", recording), embedding(row))
    assert torch.equal(cache.get("other", recordings[0]), embedding(9, dim=4))
    assert cache.get("other", recordings[1]) is None
    assert cache.get("third", recordings[0]) is None


def test_a_file_that_is_not_there_is_an_empty_cache(path, recordings):
    cache = ReferenceCache.load(path)
    assert all(cache.get("one", recording) is None for recording in recordings)
    assert not path.exists()


def test_without_a_path_it_is_kept_in_memory(recordings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "speech")
    before = sorted(tmp_path.rglob("*"))
    cache = ReferenceCache.load(None)
    cache.put("one", "a1", recordings[0].stamp, embedding(0))
    cache.save()
    assert torch.equal(cache.get("one", recordings[0]), embedding(0))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_embedding_is_kept_without_its_graph_as_float32(path, recordings):
    given = embedding(0).double().requires_grad_() * 2
    cache = ReferenceCache(path)
    cache.put("one", "a1", recordings[0].stamp, given)
    cache.save()
    for found in (cache.get("one", recordings[0]), ReferenceCache.load(path).get("one", recordings[0])):
        assert found.dtype == torch.float32
        assert not found.requires_grad
        torch.testing.assert_close(found, 2 * embedding(0))


def test_what_was_put_does_not_change_with_its_source(recordings):
    cache, given = ReferenceCache(), embedding(0)
    cache.put("one", "a1", recordings[0].stamp, given)
    given.zero_()
    assert torch.equal(cache.get("one", recordings[0]), embedding(0))


# --- is it still the file that was embedded? --------------------------------------------------------------------------


def test_a_file_of_another_time_is_another_file(saved, recordings):
    file = recordings[0].path
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    cache = ReferenceCache.load(saved)
    assert cache.get("one", recordings[0]) is None
    assert cache.get("other", recordings[0]) is None
    assert torch.equal(cache.get("one", recordings[1]), embedding(1))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert torch.equal(cache.get("one", recordings[0]), embedding(0))


def test_a_file_of_another_size_is_another_file(saved, recordings):
    file = recordings[1].path
    status = file.stat()
    with file.open("ab") as end:
        end.write(b"\0")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    cache = ReferenceCache.load(saved)
    assert cache.get("one", recordings[1]) is None
    assert torch.equal(cache.get("one", recordings[0]), embedding(0))


def test_it_is_the_name_and_the_stamp_that_count_not_the_folder(saved, recordings, tmp_path):
    moved = tmp_path / "elsewhere.wav"
    recordings[0].path.rename(moved)
    assert torch.equal(ReferenceCache.load(saved).get("one", Recording("a1", moved, "a")), embedding(0))


def test_a_file_that_is_gone_is_named(saved, recordings):
    recordings[2].path.unlink()
    cache = ReferenceCache.load(saved)
    with pytest.raises(ConfigError, match=r"b2\.wav"):
        cache.get("one", recordings[2])


def test_the_newer_embedding_stands(saved, recordings):
    cache = ReferenceCache.load(saved)
    cache.put("one", "a1", recordings[0].stamp, embedding(50))
    cache.save()
    assert torch.equal(ReferenceCache.load(saved).get("one", recordings[0]), embedding(50))


# --- the bytes --------------------------------------------------------------------------------------------------------


def test_the_same_content_is_the_same_bytes_whatever_the_order(saved, recordings, tmp_path):
    entries = [("one", row, recording) for row, recording in enumerate(recordings)]
    again = ReferenceCache(tmp_path / "again.safetensors")
    again.put("other", "a1", recordings[0].stamp, embedding(9, dim=4))
    for key, row, recording in reversed(entries):
        again.put(key, recording.name, recording.stamp, embedding(row))
    again.save()
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


def test_loading_and_saving_changes_nothing(saved):
    before = saved.read_bytes()
    ReferenceCache.load(saved).save()
    assert saved.read_bytes() == before


def test_any_reader_of_safetensors_opens_it(saved):
    tensors = load_file(saved)
    assert sorted(tuple(tensor.shape) for tensor in tensors.values()) == [(1, 4), (3, 6)]


def test_entries_of_other_encoders_and_recordings_survive(path, recordings):
    one, other = toy(1), toy(2)
    assert fill_cache(ReferenceCache.load(path), "one", one, recordings[:2]) == 2
    assert fill_cache(ReferenceCache.load(path), "other", other, recordings[1:]) == 2
    assert fill_cache(ReferenceCache.load(path), "one", one, recordings[2:]) == 1
    assert kept(path, one, recordings) == {"a1", "b1", "b2"}
    assert kept(path, other, recordings) == {"b1", "b2"}


# --- what an encoder's entries are kept under -------------------------------------------------------------------------


def test_encoders_of_one_class_and_other_weights_are_told_apart(recordings):
    cache = ReferenceCache()
    assert fill_cache(cache, "toy", toy(0), recordings) == 3
    assert fill_cache(cache, "another alias", toy(0), recordings) == 0
    assert cached(cache, toy(1), recordings[0]) is None


def test_encoders_of_the_same_weights_and_another_class_are_told_apart(recordings):
    class AnotherEncoder(ToyEncoder):
        def forward(self, waveform):
            return super().forward(waveform).flip(-1)

    cache = ReferenceCache()
    fill_cache(cache, "toy", toy(0), recordings)
    assert cached(cache, SegmentEncoder(AnotherEncoder(0)), recordings[0]) is None


# --- whole or not at all ----------------------------------------------------------------------------------------------


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(saved, recordings):
    before = saved.read_bytes()
    cache = ReferenceCache.load(saved)
    cache.put("one", "a1", recordings[0].stamp, torch.ones(6))
    cache.put("wide", "a1", recordings[0].stamp, torch.ones(4096))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as a disk that is full after 1,000 bytes
    try:
        with pytest.raises((OSError, SclError)):
            cache.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_save_that_is_interrupted_leaves_the_old_file_and_nothing_else(saved, recordings, monkeypatch):
    before = saved.read_bytes()
    cache = ReferenceCache.load(saved)
    cache.put("one", "a1", recordings[0].stamp, torch.ones(6))

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        patch.setattr(Path, "rename", interrupted)
        patch.setattr(os, "replace", interrupted)
        patch.setattr(os, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.save()
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
    cache.save()
    assert torch.equal(ReferenceCache.load(saved).get("one", recordings[0]), torch.ones(6))
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_file_may_be_read_by_whom_the_umask_lets(path, umask, mode):
    cache = ReferenceCache(path)
    cache.put("one", "a1", Stamp(1, 2), embedding(0))
    before = os.umask(umask)
    try:
        cache.save()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


# --- files that are no cache ------------------------------------------------------------------------------------------


def header_of(path: Path) -> tuple[str, dict]:
    with safetensors.safe_open(path, "pt") as file:
        ((name, text),) = file.metadata().items()
    return name, json.loads(text)


def with_header(path: Path, change) -> None:
    name, header = header_of(path)
    tensors = load_file(path)
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    changed = change(header, tensors)
    save_file(tensors, path, {name: json.dumps(header if changed is None else changed)})


def another_format(header, tensors):
    header["format"] += 1


def a_row_short(header, tensors):
    tensors["one"] = tensors["one"][:-1].clone()


def a_name_short(header, tensors):
    header["encoders"]["one"]["names"].pop()


def a_size_short(header, tensors):
    header["encoders"]["one"]["sizes"].pop()


def without_a_tensor(header, tensors):
    del tensors["other"]


def without_encoders(header, tensors):
    del header["encoders"]


def a_list(header, tensors):
    return [1, 2]


def nothing(header, tensors):
    return None if header.clear() else {}


BROKEN = {
    "text": lambda path: path.write_text("a,b\n1,2\n" * 40),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "all but the last byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "a pickle": lambda path: torch.save({"one": torch.ones(3)}, path),
    "safetensors of something else": lambda path: save_file({"one": torch.ones(3, 6)}, path),
    "safetensors with other metadata": lambda path: save_file({"one": torch.ones(3, 6)}, path, {"format": "pt"}),
    **{
        change.__name__.replace("_", " "): lambda path, change=change: with_header(path, change)
        for change in (
            another_format, a_row_short, a_name_short, a_size_short, without_a_tensor, without_encoders, a_list, nothing
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_no_cache_is_named_and_left_alone(kind, saved):
    BROKEN[kind](saved)
    before = saved.read_bytes()
    with pytest.raises(ConfigError, match=r"^scl\.reference\.cache = ") as caught:
        ReferenceCache.load(saved)
    assert str(saved) in str(caught.value)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_in_its_place_is_named_and_left_alone(path):
    path.mkdir(parents=True)
    (path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"^scl\.reference\.cache = ") as caught:
        ReferenceCache.load(path)
    assert str(path) in str(caught.value)
    assert [file.name for file in path.iterdir()] == ["mine.txt"]


def test_a_header_that_is_changed_without_harm_still_loads(saved, recordings):
    # so that the cases above fail for what they change, not for being written again
    with_header(saved, lambda header, tensors: None)
    assert torch.equal(ReferenceCache.load(saved).get("one", recordings[2]), embedding(2))
