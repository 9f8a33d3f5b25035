"""The file of the reference cache: what comes back, when it does not, and that it is whole or not there."""

import json
import os
import re
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
from coqui_scl_plugin.references.cache import ReferenceCache, encoder_key
from coqui_scl_plugin.references.fill import embed_recordings, fill_cache
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
        for change in (another_format, without_encoders, a_list, nothing)
    },
}


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


# --- files of which a part is bad -------------------------------------------------------------------------------------


def without_a_list(header, tensors):
    del header["encoders"]["one"]["names"]


def a_list_of_another_type(header, tensors):
    header["encoders"]["one"]["mtimes"] = [1.5, 2.5, 3.5]


def a_name_twice(header, tensors):
    header["encoders"]["one"]["names"] = ["a1", "a1", "b1"]


def of_another_type(header, tensors):
    tensors["one"] = tensors["one"].half()


def of_another_shape(header, tensors):
    tensors["one"] = tensors["one"].unsqueeze(-1)


def as_a_number(header, tensors):
    tensors["one"] = torch.tensor(1.0)


def no_columns(header, tensors):
    tensors["one"] = torch.zeros(3, 0)


def no_listing(header, tensors):
    header["encoders"]["one"] = None


def without_its_tensor(header, tensors):
    del tensors["one"]


def not_a_number(header, tensors):
    tensors["one"][1, 2] = float("nan")


def infinite(header, tensors):
    tensors["one"][1, 2] = float("inf")


def all_zero(header, tensors):
    tensors["one"][1] = 0.0


def a_flipped_bit(header, tensors):
    tensors["one"].view(torch.int32)[1, 0] ^= 1


def a_changed_size(header, tensors):
    header["encoders"]["one"]["sizes"][1] += 1


def exchanged_rows(header, tensors):
    tensors["one"] = tensors["one"].flip(0)


WHOLE = {
    a_row_short: "3 names for 2 rows",
    a_name_short: "2 names for 3 rows",
    a_size_short: "2 sizes for 3 rows",
    without_a_list: "no list of names",
    a_list_of_another_type: "no list of mtimes",
    a_name_twice: "a recording listed twice",
    of_another_type: "float16",
    of_another_shape: r"\[3, 6, 1\]",
    as_a_number: r"float32 \[\]",
    no_columns: r"\[3, 0\]",
    no_listing: "no list of recordings",
    without_its_tensor: "no tensor",
}
ROWS = {
    not_a_number: ({"a1", "b2"}, "1 (not finite)"),
    infinite: ({"a1", "b2"}, "1 (not finite)"),
    all_zero: ({"a1", "b2"}, "1 (all 0)"),
    a_flipped_bit: ({"a1", "b2"}, "1 (another checksum)"),
    a_changed_size: ({"a1", "b2"}, "1 (another checksum)"),
    exchanged_rows: ({"b1"}, "2 (another checksum)"),
}


def held(cache, recordings) -> set[str]:
    return {recording.name for recording in recordings if cache.get("one", recording) is not None}


@pytest.mark.parametrize("change", WHOLE, ids=lambda change: change.__name__)
def test_a_bad_tensor_is_left_out_with_one_warning(change, saved, recordings, caplog):
    with_header(saved, change)
    cache = ReferenceCache.load(saved)
    assert held(cache, recordings) == set()
    assert torch.equal(cache.get("other", recordings[0]), embedding(9, dim=4))
    (record,) = caplog.records
    assert re.search(WHOLE[change], record.message)
    assert str(saved) in record.message


@pytest.mark.parametrize("change", ROWS, ids=lambda change: change.__name__)
def test_a_bad_row_is_left_out_with_one_warning(change, saved, recordings, caplog):
    with_header(saved, change)
    expected, said = ROWS[change]
    cache = ReferenceCache.load(saved)
    assert held(cache, recordings) == expected
    (record,) = caplog.records
    assert said in record.message
    caplog.clear()
    cache.save()
    assert held(ReferenceCache.load(saved), recordings) == expected
    assert not caplog.records


def test_a_file_of_an_earlier_version_has_no_checksums_and_is_read(saved, recordings, caplog):
    with_header(
        saved, lambda header, tensors: [header["encoders"][key].pop("checksums") for key in ("one", "other")] and None
    )
    assert held(ReferenceCache.load(saved), recordings) == {"a1", "b1", "b2"}
    assert not caplog.records
    with_header(saved, not_a_number)
    assert held(ReferenceCache.load(saved), recordings) == {"a1", "b2"}


@pytest.mark.parametrize("change", [not_a_number, a_flipped_bit, of_another_type])
def test_what_was_left_out_is_embedded_again_and_the_encoder_not_blamed(change, path, recordings, caplog):
    fill_cache(ReferenceCache.load(path), "toy", toy(), recordings)
    first, _ = embed_recordings({"toy": toy()}, recordings, ReferenceCache.load(path))
    (key,) = load_file(path)

    def spoil(header, tensors):
        tensors["one"], header["encoders"]["one"] = tensors.pop(key), header["encoders"].pop(key)
        change(header, tensors)
        tensors[key], header["encoders"][key] = tensors.pop("one"), header["encoders"].pop("one")

    with_header(path, spoil)
    again, computed = embed_recordings({"toy": toy()}, recordings, ReferenceCache.load(path))
    assert torch.equal(first.by_encoder["toy"], again.by_encoder["toy"])
    assert computed["toy"] == (3 if change is of_another_type else 1)
    assert len(caplog.records) == 1
    assert kept(path, toy(), recordings) == {"a1", "b1", "b2"}


def test_embeddings_of_another_width_are_embedded_again(path, recordings, caplog):
    cache = ReferenceCache(path)
    for recording in recordings:
        cache.put(encoder_key(toy()), recording.name, recording.stamp, embedding(0))
    cache.save()
    embeddings, computed = embed_recordings({"toy": toy()}, recordings, ReferenceCache.load(path))
    assert embeddings.by_encoder["toy"].shape == (3, 12)
    assert computed == {"toy": 3}
    (record,) = caplog.records
    assert "another width than the encoder's 12" in record.message
