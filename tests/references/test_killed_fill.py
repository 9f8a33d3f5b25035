"""A process that is killed while it writes the reference cache leaves the last whole one, which the next completes."""

import time

import pytest
import torch
from killed_runs import die_at_rename, die_in_write, end_of, in_a_fork
from toy_speech import ToyEncoder, write_recording

from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.fill import embed_recordings
from coqui_scl_plugin.utils.leftovers import remove_leftovers

MOMENTS = {
    "the first write": lambda: die_in_write(".cache", 0),
    "the third write": lambda: die_in_write(".cache", 2),
    "before it has its name": lambda: die_at_rename("cache", before=True),
    "after it has its name": lambda: die_at_rename("cache", before=False),
    "the fifth write": lambda: die_in_write(".cache", 4),
}
QUICK = ("the third write", "before it has its name")


@pytest.mark.parametrize(
    "moment", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.nightly) for name in MOMENTS]
)
def test_killed_while_the_cache_is_written(tmp_path, moment, one_thread):
    recordings = [write_recording(tmp_path, f"r{n}", 0.2 + 0.05 * n) for n in range(8)]
    whole, path = tmp_path / "whole.safetensors", tmp_path / "cache.safetensors"
    expected, _ = embed_recordings({"toy": SegmentEncoder(ToyEncoder())}, recordings, ReferenceCache(whole))

    def slow():
        time.sleep(0.05)  # so that the cache is saved after each batch

    def work():
        MOMENTS[moment]()
        encoder = SegmentEncoder(ToyEncoder(before=slow))
        embed_recordings({"toy": encoder}, recordings, ReferenceCache.load(path))

    assert end_of(in_a_fork(work, tmp_path / "log.txt")) == -9
    before = path.read_bytes() if path.exists() else None
    removed = remove_leftovers(tmp_path, "cache.*")
    assert len(removed) == (0 if moment.startswith("after") else 1)
    assert (path.read_bytes() if path.exists() else None) == before
    again = SegmentEncoder(ToyEncoder())
    speech, computed = embed_recordings({"toy": again}, recordings, ReferenceCache.load(path))
    assert computed["toy"] == again.encoder.rows_heard < len(recordings) + (before is None)
    assert torch.equal(speech.by_encoder["toy"], expected.by_encoder["toy"])
    assert path.read_bytes() == whole.read_bytes()
