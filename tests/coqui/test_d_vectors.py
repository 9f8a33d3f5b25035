"""Coqui's d-vector files: what its own command writes is taken, what we write its own manager loads."""

import json
import math
import os
import pickle
import shutil
import time
import warnings
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor
from toy_speech import cached, toy, write_recordings
from TTS.bin.compute_embeddings import compute_embeddings
from TTS.tts.datasets.formatters import coqui
from TTS.tts.utils.managers import save_file
from TTS.tts.utils.speakers import SpeakerManager

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.coqui.d_vectors import export_d_vectors, import_d_vectors
from coqui_scl_plugin.demo import corpus_files
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.fill import embed_recordings, fill_cache
from coqui_scl_plugin.references.recordings import Recording, recordings_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    (tmp_path / "speech").mkdir()
    return write_recordings(tmp_path / "speech", {f"{'ab'[i % 2]}{i}": 0.5 + 0.1 * i for i in range(9)})


@pytest.fixture
def embeddings(recordings: list[Recording]) -> Tensor:
    return embed_recordings({"toy": toy()}, recordings, ReferenceCache())[0].by_encoder["toy"]


def content(recordings: list[Recording], embeddings: Tensor) -> dict[str, dict[str, object]]:
    return {
        recording.name: {"name": recording.speaker, "embedding": row.tolist()}
        for recording, row in zip(recordings, embeddings, strict=True)
    }


# --- written ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["pth", "json"])
def test_coquis_own_manager_loads_what_is_written(recordings, embeddings, tmp_path, suffix):
    path = tmp_path / "made" / f"speakers.{suffix}"
    export_d_vectors(path, recordings, embeddings)
    manager = SpeakerManager(d_vectors_file_path=str(path))
    assert manager.name_to_id == {"a": 0, "b": 1}
    assert manager.embedding_dim == 12
    assert manager.get_clips() == sorted(recording.name for recording in recordings)
    for recording, row in zip(recordings, embeddings, strict=True):
        assert torch.equal(torch.tensor(manager.get_embedding_by_clip(recording.name)), row)
    own = embeddings[[recording.speaker == "a" for recording in recordings]]
    torch.testing.assert_close(torch.from_numpy(manager.get_mean_embedding("a")).float(), own.mean(dim=0))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["pth", "json"])
def test_what_is_written_is_taken_back(recordings, embeddings, tmp_path, suffix):
    path = tmp_path / f"speakers.{suffix}"
    export_d_vectors(path, recordings, embeddings)
    cache, encoder = ReferenceCache(), toy()
    assert import_d_vectors(path, cache, encoder, recordings) == 9
    speech, computed = embed_recordings({"toy": encoder}, recordings, cache)
    assert computed == {"toy": 0}
    torch.testing.assert_close(speech.by_encoder["toy"], embeddings)


def test_a_file_that_cannot_be_written_leaves_the_old_one(recordings, embeddings, tmp_path, monkeypatch):
    path = tmp_path / "made" / "speakers.json"
    export_d_vectors(path, recordings[:2], embeddings[:2])
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises((OSError, ConfigError), match="no space left"):
        export_d_vectors(path, recordings, embeddings)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


# --- of Coqui's own command -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Recording]]:
    """A data set of the shortest of the bundled recordings, three of them, and what Coqui calls them."""
    folder = tmp_path_factory.mktemp("bundled")
    bundled_samples = corpus_files.load_samples(corpus_files.BUNDLED)
    chosen = sorted(bundled_samples, key=lambda sample: soundfile.info(sample["audio_file"]).duration)[:3]
    lines = ["audio_file|text|speaker_name"]
    for sample in chosen:
        relative = Path(sample["audio_file"]).relative_to(corpus_files.BUNDLED)
        (folder / relative.parent).mkdir(exist_ok=True)
        shutil.copy(sample["audio_file"], folder / relative)
        lines.append(f"{relative}|{sample['text']}|{sample['speaker_name']}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    samples = coqui(str(folder), "metadata.csv")
    for sample in samples:
        name = Path(sample["audio_file"]).relative_to(folder).with_suffix("")
        sample["audio_unique_name"] = f"mine#{name}"
    return folder, recordings_of(samples)


@pytest.fixture(scope="module")
def written_by_coqui(bundled, coqui_files, tmp_path_factory) -> Path:
    files, path = coqui_files["resnet"], tmp_path_factory.mktemp("coqui") / "speakers.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Coqui's librosa
        compute_embeddings(
            str(files.model_path),
            str(files.config_path),
            str(path),
            formatter_name="coqui",
            dataset_name="mine",
            dataset_path=str(bundled[0]),
            meta_file_train="metadata.csv",
            disable_cuda=True,
            no_eval=True,
        )
    return path


@pytest.fixture(scope="module")
def resnet(coqui_files) -> SegmentEncoder:
    return SegmentEncoder(build_encoder("coqui", coqui_files["resnet"].params())).eval()


@pytest.mark.parametrize("suffix", ["pth", "json"])
def test_what_coquis_command_writes_is_taken_for_its_encoder(bundled, written_by_coqui, resnet, tmp_path, suffix):
    _, recordings = bundled
    theirs = torch.load(written_by_coqui, weights_only=True)
    path, cache = tmp_path / f"speakers.{suffix}", ReferenceCache(tmp_path / "cache.safetensors")
    save_file(theirs, path)
    assert import_d_vectors(path, cache, resnet, recordings) == 3
    for recording in recordings:
        vector = torch.tensor(theirs[recording.name]["embedding"])
        torch.testing.assert_close(cached(cache, resnet, recording), vector / vector.norm())
    assert fill_cache(cache, "coqui", resnet, recordings) == 0
    cache.save()
    assert fill_cache(ReferenceCache.load(cache.path), "coqui", resnet, recordings) == 0


def test_it_is_refused_for_an_encoder_of_other_weights(bundled, written_by_coqui, coqui_files, tmp_path):
    files = coqui_files["resnet"]
    saved = torch.load(files.model_path, weights_only=True)
    generator = torch.Generator().manual_seed(1)
    for key, value in saved["model"].items():
        if key.endswith("weight") and value.ndim > 1:
            saved["model"][key] = value.std() * torch.randn(value.shape, generator=generator)
    torch.save(saved, tmp_path / "other.pth")
    params = files.params() | {"model_path": str(tmp_path / "other.pth")}
    other = SegmentEncoder(build_encoder("coqui", params)).eval()
    assert_refused(written_by_coqui, other, bundled[1], "another encoder")


def test_it_is_refused_for_an_encoder_of_another_size(bundled, written_by_coqui, coqui_files):
    lstm = SegmentEncoder(build_encoder("coqui", coqui_files["lstm"].params())).eval()
    assert_refused(written_by_coqui, lstm, bundled[1], "512 numbers, expected 256")


def test_it_is_refused_for_a_data_set_of_another_name(bundled, written_by_coqui, resnet):
    renamed = [Recording(r.name.replace("mine#", "yours#"), r.path, r.speaker) for r in bundled[1]]
    assert_refused(written_by_coqui, resnet, renamed, "dataset_name", "mine#", "yours#")


# --- which entries are taken ------------------------------------------------------------------------------------------


def test_recordings_beyond_the_data_set_are_left_out(recordings, embeddings, tmp_path):
    path, cache, encoder = tmp_path / "speakers.json", ReferenceCache(tmp_path / "cache.safetensors"), toy()
    export_d_vectors(path, recordings, embeddings)
    assert import_d_vectors(path, cache, encoder, recordings[2:5]) == 3
    cache.save()
    found = ReferenceCache.load(cache.path)
    assert [cached(found, encoder, r) is not None for r in recordings] == [False] * 2 + [True] * 3 + [False] * 4


def test_what_the_file_lacks_is_embedded(recordings, embeddings, tmp_path):
    path, cache, encoder = tmp_path / "speakers.json", ReferenceCache(), toy()
    export_d_vectors(path, recordings[:6], embeddings[:6])
    assert import_d_vectors(path, cache, encoder, recordings) == 6
    speech, computed = embed_recordings({"toy": encoder}, recordings, cache)
    assert computed == {"toy": 3}
    torch.testing.assert_close(speech.by_encoder["toy"], embeddings)


def test_any_length_of_a_vector_becomes_1(recordings, embeddings, tmp_path):
    path, cache, encoder = tmp_path / "speakers.json", ReferenceCache(), toy()
    save_file(content(recordings, 7.5 * embeddings), path)
    import_d_vectors(path, cache, encoder, recordings)
    for recording, row in zip(recordings, embeddings, strict=True):
        torch.testing.assert_close(cached(cache, encoder, recording), row)


def test_it_is_taken_for_the_files_as_they_are_now(recordings, embeddings, tmp_path):
    path, cache, encoder = tmp_path / "speakers.json", ReferenceCache(), toy()
    export_d_vectors(path, recordings, embeddings)
    import_d_vectors(path, cache, encoder, recordings)
    os.utime(recordings[4].path)
    assert fill_cache(cache, "toy", encoder, recordings) == 1


def test_vectors_as_tensors_are_taken_too(recordings, embeddings, tmp_path):
    """Coqui's command writes lists; its manager also loads what a user's own script saved as tensors."""
    path, cache, encoder = tmp_path / "speakers.pth", ReferenceCache(), toy()
    save_file({r.name: {"name": r.speaker, "embedding": e} for r, e in zip(recordings, embeddings, strict=True)}, path)
    assert import_d_vectors(path, cache, encoder, recordings) == 9
    torch.testing.assert_close(cached(cache, encoder, recordings[3]), embeddings[3])


# --- what is refused --------------------------------------------------------------------------------------------------


def assert_refused(path: Path, encoder: SegmentEncoder, recordings: list[Recording], *parts: str) -> None:
    """By the file's name, and nothing of it is taken."""
    cache = ReferenceCache(path.with_name("cache.safetensors"))
    with pytest.raises(ConfigError) as caught:
        import_d_vectors(path, cache, encoder, recordings)
    for part in (str(path), *parts):
        assert part in str(caught.value)
    assert all(cached(cache, encoder, recording) is None for recording in recordings)
    assert not cache.path.exists()


def test_vectors_of_another_encoder_of_the_same_size(recordings, embeddings, tmp_path):
    generator = torch.Generator().manual_seed(0)
    path = tmp_path / "speakers.json"
    export_d_vectors(path, recordings, torch.randn(embeddings.shape, generator=generator))
    assert_refused(path, toy(), recordings, "another encoder")


def test_vectors_that_are_not_those_of_the_recordings(recordings, embeddings, tmp_path):
    path = tmp_path / "speakers.json"
    export_d_vectors(path, recordings, -embeddings)
    assert_refused(path, toy(), recordings, "cosine of -1.00")


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row[:-1],
        lambda row: [*row, 0.0],
        lambda row: [],
        lambda row: [math.nan, *row[1:]],
        lambda row: [math.inf, *row[1:]],
        lambda row: [0.0] * len(row),
    ],
    ids=["short", "long", "empty", "nan", "infinite", "zeros"],
)
@pytest.mark.parametrize("which", [0, 1, 8])
def test_one_vector_that_is_none(recordings, embeddings, tmp_path, change, which):
    entries = content(recordings, embeddings)
    name = recordings[which].name
    entries[name]["embedding"] = change(entries[name]["embedding"])
    path = tmp_path / "speakers.pth"
    save_file(entries, path)
    assert_refused(path, toy(), recordings, repr(name), "expected 12 finite")


WRONG_CONTENT = {
    "a list": [1, 2],
    "a number": 5,
    "null": None,
    "no entries": {},
    "entries that are lists": {"a0": [0.1] * 12},
    "entries that are numbers": {"a0": 1.0},
    "entries without an embedding": {"a0": {"name": "a"}},
    "embeddings of text": {"a0": {"name": "a", "embedding": "0.1, 0.2"}},
    "embeddings of several texts": {"a0": {"name": "a", "embedding": ["0.1"] * 12}},
    "embeddings that are null": {"a0": {"name": "a", "embedding": None}},
    "embeddings that are ragged": {"a0": {"name": "a", "embedding": [[0.1], [0.2, 0.3]]}},
    "embeddings that are sections": {"a0": {"name": "a", "embedding": {"0": 0.1}}},
}


@pytest.mark.parametrize("suffix", ["pth", "json"])
@pytest.mark.parametrize("kind", WRONG_CONTENT)
def test_content_of_another_kind(recordings, tmp_path, kind, suffix):
    path = tmp_path / f"speakers.{suffix}"
    save_file(WRONG_CONTENT[kind], path)
    assert_refused(path, toy(), recordings)


class Hostile:
    """A pickle that would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_that_would_run_a_program(recordings, tmp_path, how):
    path, target = tmp_path / "speakers.pth", tmp_path / "it_ran"
    entries = {"a0": {"name": "a", "embedding": Hostile(target)}}
    if how == "torch":
        torch.save(entries, path)
    else:
        path.write_bytes(pickle.dumps(entries, protocol=2))
    assert_refused(path, toy(), recordings)
    time.sleep(0.05)
    assert not target.exists()


def test_what_is_refused_takes_the_place_of_nothing(recordings, embeddings, tmp_path):
    path, cache, encoder = tmp_path / "speakers.json", ReferenceCache(), toy()
    before, _ = embed_recordings({"toy": encoder}, recordings, cache)
    export_d_vectors(path, recordings, -embeddings)
    with pytest.raises(ConfigError):
        import_d_vectors(path, cache, encoder, recordings)
    after, computed = embed_recordings({"toy": encoder}, recordings, cache)
    assert computed == {"toy": 0}
    assert torch.equal(after.by_encoder["toy"], before.by_encoder["toy"])


@pytest.mark.parametrize("suffix", ["pth", "json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_that_is_cut_off(recordings, embeddings, tmp_path, suffix, share):
    path = tmp_path / f"speakers.{suffix}"
    export_d_vectors(path, recordings, embeddings)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert_refused(path, toy(), recordings)


@pytest.mark.parametrize("name", ["speakers.pth", "speakers.json"])
def test_bytes_of_something_else(recordings, tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x02\xff\xfe\x00 neither" * 20)
    assert_refused(tmp_path / name, toy(), recordings)


def test_a_folder_and_no_file(recordings, tmp_path):
    (tmp_path / "speakers.pth").mkdir()
    assert_refused(tmp_path / "speakers.pth", toy(), recordings)
    assert_refused(tmp_path / "nosuch.json", toy(), recordings)
