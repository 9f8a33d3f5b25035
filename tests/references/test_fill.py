"""Every recording through every encoder, once: in batches, from any file, and on from where it was interrupted."""

import itertools
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from toy_speech import RATE, ToyEncoder, cached, kept, speech, toy, write_recording, write_recordings

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.demo import corpus_files
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError, EncoderError, SclError
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.fill import embed_recordings, fill_cache, plan_batches
from coqui_scl_plugin.references.recordings import Recording, recordings_of


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    """Eighty recordings of 0.1 s to 12 s, and some more of one length."""
    generator = random.Random(0)
    lengths = {f"{'abc'[index % 3]}{index:03}": 0.1 * 120 ** generator.random() for index in range(80)}
    return write_recordings(tmp_path_factory.mktemp("many"), lengths | {f"d{index:03}": 2.5 for index in range(60)})


@pytest.fixture
def few(tmp_path: Path) -> list[Recording]:
    """Twelve recordings of lengths of their own, so that each is a batch of its own."""
    (tmp_path / "speech").mkdir()
    return write_recordings(tmp_path / "speech", {f"{'ab'[i % 2]}{i:02}": 0.3 * 1.1**i for i in range(12)})


@pytest.fixture
def one_worker():
    """On a CPU there is one a thread; of several, the first may be the last to finish."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- which recordings are embedded together ---------------------------------------------------------------------------


def test_the_plan_holds_every_recording_once(many):
    planned = [recording.name for batch in plan_batches(many) for recording in batch.recordings]
    assert sorted(planned) == sorted(recording.name for recording in many)


def test_a_batch_is_cut_to_one_length_that_takes_2_percent_of_none(many):
    for batch in plan_batches(many):
        for recording in batch.recordings:
            length = soundfile.info(recording.path).duration
            assert 0.98 * length <= batch.seconds <= length


def test_the_longest_come_first(many):
    lengths = [batch.seconds for batch in plan_batches(many)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 10.0 > 0.2 > lengths[-1]


def test_the_plan_is_the_same_for_the_same_recordings_in_any_order(many):
    shuffled = random.Random(1).sample(many, len(many))
    assert plan_batches(shuffled) == plan_batches(many)


def test_what_is_left_of_a_recording_depends_on_itself_alone(many):
    together = {r.name: batch.seconds for batch in plan_batches(many) for r in batch.recordings}
    for recording in many[::7]:
        (alone,) = plan_batches([recording])
        assert alone.seconds == together[recording.name]


def test_a_batch_is_large_enough_to_be_quick_and_small_enough_for_the_memory(many):
    batches = plan_batches(many)
    assert max(len(batch.recordings) * batch.seconds for batch in batches) <= 60.0
    assert max(len(batch.recordings) for batch in batches) > 10


def test_one_that_is_longer_than_any_batch_is_a_batch(tmp_path):
    (batch,) = plan_batches([write_recording(tmp_path, "a1", 100.0)])
    assert batch.seconds == pytest.approx(100.0, rel=0.02)


def test_no_length_is_rounded_up_beyond_the_recording(tmp_path):
    # whole numbers of samples at and around powers of the step between lengths
    for rate in (RATE, 10_000, 22_050):
        for samples in {round(rate * 1.02**power) + extra for power in (-50, -1, 0, 1, 2, 50) for extra in (-1, 0, 1)}:
            path = tmp_path / f"{rate}-{samples}.wav"
            soundfile.write(path, np.zeros(samples, np.float32), rate)
            (batch,) = plan_batches([Recording(path.stem, path, "a")])
            assert samples / 1.0201 - 1 <= int(batch.seconds * rate) <= samples


def test_nothing_is_planned_for_nothing():
    assert plan_batches([]) == []


def test_a_recording_without_a_sample_is_named(tmp_path):
    recordings = write_recordings(tmp_path, {"a1": 0.5, "a2": 0.0})
    with pytest.raises(ConfigError, match=r"a2\.wav.* is empty"):
        plan_batches(recordings)
    cache = ReferenceCache(tmp_path / "cache.safetensors")
    with pytest.raises(ConfigError, match=r"a2\.wav.* is empty"):
        embed_recordings({"toy": toy()}, recordings, cache)
    assert not (tmp_path / "cache.safetensors").exists()


# --- the embeddings ---------------------------------------------------------------------------------------------------


def assert_as_one_by_one(encoder: SegmentEncoder, recordings: list[Recording], embeddings: torch.Tensor) -> None:
    assert embeddings.shape == (len(recordings), encoder.encoder.embedding_dim)
    for recording, found in zip(recordings, embeddings, strict=True):
        samples, rate = soundfile.read(recording.path, dtype="float32")
        assert rate == encoder.sample_rate
        (batch,) = plan_batches([recording])
        with torch.no_grad():
            part, whole = (
                encoder(torch.from_numpy(waveform)[None])[0]
                for waveform in (samples[: int(batch.seconds * rate)], samples)
            )
        torch.testing.assert_close(found, part, atol=1e-5, rtol=0)
        assert torch.cosine_similarity(found, whole, dim=0) > 0.95


def test_batches_give_what_each_recording_gives_alone(many):
    encoder = toy()
    shuffled = random.Random(2).sample(many, len(many))
    speech, computed = embed_recordings({"toy": encoder}, shuffled, ReferenceCache())
    assert computed == {"toy": len(many)}
    assert encoder.encoder.rows_heard == len(many)
    assert len(encoder.encoder.heard) < 100
    assert_as_one_by_one(encoder, shuffled, speech.by_encoder["toy"])
    # and they are the recordings' own, in the order that was given
    assert len({tuple(row.tolist()) for row in speech.by_encoder["toy"].round(decimals=6)}) == len(many)
    assert [speech.row[recording.name] for recording in shuffled] == list(range(len(shuffled)))


def test_batches_through_real_layers_give_what_each_recording_gives_alone(one_worker):
    recordings = recordings_of(corpus_files.load_samples(corpus_files.BUNDLED))[::4]
    encoder = SegmentEncoder(build_encoder("ge2e"), 1.0).eval()
    speech, computed = embed_recordings({"ge2e": encoder}, recordings, ReferenceCache())
    assert computed == {"ge2e": 11}
    assert not speech.by_encoder["ge2e"].requires_grad
    assert_as_one_by_one(encoder, recordings, speech.by_encoder["ge2e"])


def test_every_encoder_hears_every_recording(few, tmp_path):
    encoders, path = {"one": toy(1), "two": toy(2)}, tmp_path / "cache.safetensors"
    speech, computed = embed_recordings(encoders, few, ReferenceCache(path))
    assert computed == {"one": 12, "two": 12}
    for alias, encoder in encoders.items():
        assert encoder.encoder.rows_heard == 12
        assert_as_one_by_one(encoder, few, speech.by_encoder[alias])
    assert (speech.by_encoder["one"] - speech.by_encoder["two"]).abs().max() > 1e-2
    loaded = ReferenceCache.load(path)
    for alias, encoder in encoders.items():
        for recording, row in zip(few, speech.by_encoder[alias], strict=True):
            assert torch.equal(cached(loaded, encoder, recording), row)


def test_a_short_recording_is_tiled_as_training_tiles(tmp_path):
    (recording,) = write_recordings(tmp_path, {"a1": 0.02})  # 160 samples, the encoder needs 400
    for minimum, heard in ((0.0, 400), (1.0, RATE)):
        encoder = SegmentEncoder(ToyEncoder(), minimum)
        embed_recordings({"toy": encoder}, [recording], ReferenceCache())
        assert encoder.encoder.heard == [(1, heard)]


def test_other_minimum_lengths_are_other_embeddings_of_short_recordings(tmp_path):
    """What is in the cache must be what would be computed now, or a run depends on the runs before it."""
    (recording,) = write_recordings(tmp_path, {"a1": 0.3})
    path, found = tmp_path / "cache.safetensors", {}
    for minimum in (0.0, 0.5):
        encoder = SegmentEncoder(ToyEncoder(), minimum)
        found_cached, _ = embed_recordings({"toy": encoder}, [recording], ReferenceCache.load(path))
        fresh, _ = embed_recordings({"toy": encoder}, [recording], ReferenceCache())
        torch.testing.assert_close(found_cached.by_encoder["toy"], fresh.by_encoder["toy"], atol=1e-6, rtol=0)
        found[minimum] = fresh.by_encoder["toy"]
    assert (found[0.0] - found[0.5]).abs().max() > 1e-4


def test_the_settings_of_an_encoder_count_as_much_as_its_weights(coqui_files, tmp_path):
    """Of two configs for one checkpoint, one is wrong; correcting it must not leave its embeddings in the cache."""
    (recording,) = write_recordings(tmp_path, {"a1": 1.0})
    files, path = coqui_files["resnet"], tmp_path / "cache.safetensors"
    text = files.config_path.read_text()
    another_hop, another_input = (
        text.replace(f'"{key}": {old}', f'"{key}": {new}')
        for key, old, new in (("hop_length", "160", "100"), ("log_input", "true", "false"))
    )
    assert len({text, another_hop, another_input}) == 3
    for changed in (text, another_hop, another_input):
        config = tmp_path / "encoder.json"
        config.write_text(changed)
        encoder = SegmentEncoder(build_encoder("coqui", files.params() | {"config_path": str(config)})).eval()
        found_cached, _ = embed_recordings({"coqui": encoder}, [recording], ReferenceCache.load(path))
        fresh, _ = embed_recordings({"coqui": encoder}, [recording], ReferenceCache())
        torch.testing.assert_close(found_cached.by_encoder["coqui"], fresh.by_encoder["coqui"], atol=1e-5, rtol=0)


def test_an_encoder_that_keeps_count_of_something_is_still_the_same_encoder(few, tmp_path):
    class Counting(ToyEncoder):
        calls = 0

        def forward(self, waveform):
            self.calls += 1
            return super().forward(waveform)

    path = tmp_path / "cache.safetensors"
    for expected in (12, 0):
        encoder = SegmentEncoder(Counting()).eval()
        speech, computed = embed_recordings({"toy": encoder}, few, ReferenceCache.load(path))
        assert computed == {"toy": expected}
        assert speech.by_encoder["toy"].shape == (12, 12)


def test_recordings_of_different_lengths_that_share_a_pass_have_the_embeddings_of_each_alone():
    recordings = recordings_of(corpus_files.load_samples(corpus_files.BUNDLED))[:3]
    waveforms = [torchaudio.functional.resample(*recording.load(), 16_000) for recording in recordings]
    waveforms = [part[: 30_000 + 9_000 * index] for index, part in enumerate(waveforms)] + [waveforms[0][:5_000]]
    for name in ("ge2e", "dvector"):
        encoder = SegmentEncoder(build_encoder(name)).eval()
        with torch.no_grad():
            alone = torch.cat([encoder(waveform[None]) for waveform in waveforms])
            torch.testing.assert_close(encoder.embed_each(waveforms), alone, atol=1e-5, rtol=0)
        assert encoder.embeds_each


def test_a_file_of_several_names_is_heard_once(few, tmp_path):
    (tmp_path / "links").mkdir()
    linked = []
    for recording in few:
        (tmp_path / "links" / recording.path.name).symlink_to(recording.path)
        linked.append(Recording(f"linked {recording.name}", tmp_path / "links" / recording.path.name, "a"))
    encoder, path = toy(), tmp_path / "cache.safetensors"
    speech, computed = embed_recordings({"toy": encoder}, [*few, *linked], ReferenceCache(path))
    assert computed == {"toy": 24}
    assert encoder.encoder.rows_heard == 12
    assert_as_one_by_one(encoder, few, speech.by_encoder["toy"][:12])
    assert torch.equal(speech.by_encoder["toy"][12:], speech.by_encoder["toy"][:12])
    assert kept(path, encoder, linked) >= {recording.name for recording in linked}


# --- files ------------------------------------------------------------------------------------------------------------


def embedded(*recordings: Recording) -> torch.Tensor:
    return embed_recordings({"toy": toy()}, recordings, ReferenceCache())[0].by_encoder["toy"]


def test_channels_are_averaged(tmp_path):
    left, right = speech(1.0, seed=1), speech(1.0, seed=2)
    for name, samples in {"both": np.stack([left, right], axis=1), "mean": (left + right) / 2}.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
    both, mean = embedded(*(Recording(name, tmp_path / f"{name}.wav", "a") for name in ("both", "mean")))
    torch.testing.assert_close(both, mean, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rate", [4_000, 11_025, 16_000, 44_100])
def test_other_rates_are_resampled(tmp_path, rate):
    samples = speech(1.0, seed=3, rate=rate)
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    (found,) = embedded(Recording("a", tmp_path / "a.wav", "a"))
    at_ours = torchaudio.functional.resample(torch.from_numpy(samples), rate, RATE)
    with torch.no_grad():
        expected = toy()(at_ours[None])[0]  # a whole second is not cut
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_rates_may_differ_within_a_batch(tmp_path):
    recordings = []
    for rate in (4_000, RATE, 16_000, 22_050):
        soundfile.write(tmp_path / f"{rate}.wav", speech(1.0, seed=rate, rate=rate), rate, subtype="FLOAT")
        recordings.append(Recording(str(rate), tmp_path / f"{rate}.wav", "a"))
    assert len(plan_batches(recordings)) == 1
    together = embedded(*recordings)
    for recording, row in zip(recordings, together, strict=True):
        torch.testing.assert_close(embedded(recording)[0], row, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("suffix", "subtype"), [("flac", "PCM_16"), ("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III")])
def test_compressed_speech_sounds_like_itself(tmp_path, suffix, subtype):
    original = write_recording(tmp_path, "a1", 2.0)
    samples, _ = soundfile.read(original.path)
    path = tmp_path / f"compressed.{suffix}"
    soundfile.write(path, samples, RATE, subtype=subtype)
    soundfile.write(tmp_path / "other.wav", 0.1 * np.sin(np.arange(2 * RATE) / 10), RATE)
    compressed, whole, other = embedded(
        Recording("c", path, "a"), original, Recording("other", tmp_path / "other.wav", "b")
    )
    assert compressed @ whole > 0.99
    assert compressed @ other < 0.9


@pytest.mark.parametrize("codec", [["-c:a", "aac"], ["-c:a", "alac"]], ids=lambda codec: codec[-1])
def test_what_torchaudio_alone_can_read_is_read(tmp_path, codec):
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg to make the file")
    original = write_recording(tmp_path, "a1", 2.0)
    path = tmp_path / "a1.m4a"
    subprocess.run(["ffmpeg", "-loglevel", "error", "-i", original.path, *codec, path], check=True)
    with pytest.raises(soundfile.SoundFileError):
        soundfile.info(path)
    compressed, whole = embedded(Recording("m4a", path, "a"), original)
    assert compressed @ whole > 0.99


@pytest.mark.parametrize("form", [["mp3", "-q:a", "4", "-write_xing", "0"], ["flac"]], ids=lambda form: form[0])
def test_a_header_that_does_not_know_the_length_does_no_harm(tmp_path, form):
    """As of an MP3 of variable rate without one, or of a FLAC file that was written to a pipe."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg to make the file")
    pause, words = np.zeros(3 * RATE, np.float32), speech(3.0, seed=4)
    soundfile.write(tmp_path / "a.wav", np.concatenate([pause, words]), RATE, subtype="FLOAT")
    original, path = Recording("whole", tmp_path / "a.wav", "a"), tmp_path / f"a.{form[0]}"
    with path.open("wb") as file:
        command = ["ffmpeg", "-loglevel", "error", "-i", original.path, "-f", *form, "-"]
        subprocess.run(command, stdout=file, check=True)
    claimed = soundfile.info(path).duration
    assert claimed > 7.0
    # others beside it of the length that it claims to be, so that all are one batch
    others = [write_recording(tmp_path, f"b{index}", min(claimed, 30.0), seed=index) for index in range(2)]
    found, whole, *beside = embedded(Recording("a", path, "a"), original, *others)
    assert found @ whole > 0.99
    for other, row in zip(others, beside, strict=True):
        torch.testing.assert_close(row, embedded(other)[0], atol=1e-5, rtol=0)


def cut_off(folder: Path) -> Path:
    """A FLAC file whose header promises more than there is."""
    samples = speech(4.0, seed=5)
    soundfile.write(folder / "bad.flac", samples, RATE)
    content = (folder / "bad.flac").read_bytes()
    (folder / "bad.flac").write_bytes(content[: len(content) // 2])
    return folder / "bad.flac"


def written(content: bytes, name: str):
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def folder_of_that_name(folder: Path) -> Path:
    (folder / "bad.wav").mkdir()
    return folder / "bad.wav"


UNREADABLE = {
    "text": written(b"this is no audio at all", "bad.wav"),
    "nothing": written(b"", "bad.wav"),
    "an image": written(b"\x89PNG\r\n\x1a\n" + bytes(200), "bad.png"),
    "a header of RIFF": written(b"RIFF\x24\x00\x00\x00WAVEfmt ", "bad.wav"),
    "a folder": folder_of_that_name,
    "no file": lambda folder: folder / "bad.wav",
    "cut off": cut_off,
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_recording_that_cannot_be_read_is_named(kind, tmp_path):
    bad = UNREADABLE[kind](tmp_path)
    # one of the same length beside it, and a longer one that is embedded first
    good = write_recordings(tmp_path, {"a1": 4.0, "a2": 5.0})
    cache = ReferenceCache(tmp_path / "cache.safetensors")
    with pytest.raises(ConfigError) as caught:
        embed_recordings({"toy": toy()}, [*good, Recording("bad", bad, "b")], cache)
    assert str(bad) in str(caught.value)
    assert not list(tmp_path.glob("*.partial*"))
    # once it is gone, the others are embedded
    _, computed = embed_recordings({"toy": toy()}, good, ReferenceCache.load(cache.path))
    assert computed["toy"] <= 2
    assert kept(cache.path, toy(), good) == {"a1", "a2"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_all_recordings_that_are_not_finite_are_named_and_the_others_kept(tmp_path, value):
    good = write_recordings(tmp_path, {"a1": 1.0, "a2": 2.0})
    bad = []
    for name in ("bad", "worse"):
        samples = speech(1.0, seed=1)
        samples[500] = value
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
        bad.append(Recording(name, tmp_path / f"{name}.wav", "b"))
    cache = ReferenceCache(tmp_path / "cache.safetensors")
    with pytest.raises(EncoderError, match=r"bad\.wav, \S+worse\.wav hold samples that are not finite") as caught:
        embed_recordings({"toy": toy()}, [*good, *bad], cache)
    assert "a1.wav" not in str(caught.value)
    assert "toy" not in str(caught.value)
    assert kept(cache.path, toy(), [*good, *bad]) == {"a1", "a2"}


class Failing(ToyEncoder):
    """Makes something useless of recordings of a second."""

    def __init__(self, useless):
        super().__init__()
        self.useless = useless

    def forward(self, waveform):
        embedding = super().forward(waveform)
        return embedding * self.useless if waveform.shape[1] < 1.5 * RATE else embedding


@pytest.mark.parametrize("useless", [float("nan"), 0.0])
def test_what_an_encoder_makes_of_sound_samples_is_blamed_on_it(tmp_path, useless):
    recordings = write_recordings(tmp_path, {"a1": 1.0, "a2": 2.0, "b1": 1.0})
    cache = ReferenceCache(tmp_path / "cache.safetensors")
    encoder = SegmentEncoder(Failing(useless)).eval()
    with pytest.raises(EncoderError, match=r"a1\.wav, \S+b1\.wav are finite, but the encoder 'toy' makes"):
        embed_recordings({"toy": encoder}, recordings, cache)
    assert kept(cache.path, encoder, recordings) == {"a2"}


def test_an_encoder_that_embeds_nothing_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("coqui_scl_plugin.references.fill._HOPELESS", 4)
    monkeypatch.setattr("coqui_scl_plugin.references.fill._CONVOLUTIONS_SECONDS", 2.0)
    recordings = write_recordings(tmp_path, {f"a{number}": 1.0 for number in range(40)})
    encoder = SegmentEncoder(Failing(float("nan"))).eval()
    with pytest.raises(EncoderError, match="makes an embedding of them"):
        embed_recordings({"toy": encoder}, recordings, ReferenceCache())
    assert encoder.encoder.rows_heard < 40


# --- what is there is not computed again ------------------------------------------------------------------------------


def test_a_second_time_no_encoder_hears_anything(few, tmp_path):
    path = tmp_path / "cache.safetensors"
    first, _ = embed_recordings({"toy": toy()}, few, ReferenceCache.load(path))
    written, again = path.read_bytes(), toy()
    speech, computed = embed_recordings({"toy": again}, few, ReferenceCache.load(path))
    assert computed == {"toy": 0}
    assert again.encoder.heard == []
    assert torch.equal(speech.by_encoder["toy"], first.by_encoder["toy"])
    assert path.read_bytes() == written


@pytest.mark.parametrize("change", ["time", "content"])
def test_one_file_that_changed_is_heard_again_alone(many, tmp_path, change):
    recordings = [
        Recording(recording.name, Path(shutil.copy2(recording.path, tmp_path)), recording.speaker)
        for recording in many[-20:]
    ]
    path, changed = tmp_path / "cache.safetensors", recordings[7]
    before, _ = embed_recordings({"toy": toy()}, recordings, ReferenceCache.load(path))
    if change == "time":
        os.utime(changed.path)
    else:
        write_recording(tmp_path, changed.name, 1.5, seed=99)
    again = toy()
    speech, computed = embed_recordings({"toy": again}, recordings, ReferenceCache.load(path))
    assert computed == {"toy": 1}
    assert again.encoder.rows_heard == 1
    for row, recording in enumerate(recordings):
        difference = (speech.by_encoder["toy"][row] - before.by_encoder["toy"][row]).abs().max()
        if recording is changed and change == "content":
            assert difference > 1e-2
        else:
            assert difference < 1e-6
    assert fill_cache(ReferenceCache.load(path), "toy", toy(), recordings) == 0


def test_new_recordings_are_added_and_old_ones_stay(few, tmp_path):
    path = tmp_path / "cache.safetensors"
    assert fill_cache(ReferenceCache.load(path), "toy", toy(), few[:8]) == 8
    assert fill_cache(ReferenceCache.load(path), "toy", toy(), few[4:]) == 4
    assert kept(path, toy(), few) == {recording.name for recording in few}


def test_a_file_that_changes_while_it_is_embedded_puts_no_recording_in_the_place_of_another(few):
    times = itertools.count(1)
    encoder = toy(before=lambda: os.utime(few[3].path, ns=(0, 10**9 * next(times))))
    try:
        speech, _ = embed_recordings({"toy": encoder}, few, ReferenceCache())
    except SclError as error:
        if few[3].path.name in str(error):
            return
        raise
    assert_as_one_by_one(toy(), few, speech.by_encoder["toy"])


def test_a_cache_that_cannot_be_written_is_named(few, tmp_path):
    (tmp_path / "in_the_way").write_text("a file")
    cache = ReferenceCache.load(tmp_path / "in_the_way" / "cache.safetensors")
    with pytest.raises(SclError, match="in_the_way"):
        embed_recordings({"toy": toy()}, few, cache)


# --- interrupted ------------------------------------------------------------------------------------------------------


def interrupted(error: type[BaseException], after: int, seed: int = 0) -> SegmentEncoder:
    """An encoder that raises once it has heard so many batches."""

    def stop() -> None:
        if len(encoder.encoder.heard) >= after:
            raise error("in the middle")

    encoder = toy(seed, before=stop)
    return encoder


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyboardInterrupt])
def test_what_is_done_is_kept_and_used(few, tmp_path, error, one_worker):
    whole, path = tmp_path / "whole.safetensors", tmp_path / "cache.safetensors"
    expected, _ = embed_recordings({"toy": toy()}, few, ReferenceCache(whole))
    with pytest.raises(error):
        embed_recordings({"toy": interrupted(error, after=6)}, few, ReferenceCache.load(path))
    partial = kept(path, toy(), few)
    assert partial == {recording.name for recording in sorted(few, key=lambda r: -r.seconds)[:6]}

    again = toy()
    speech, computed = embed_recordings({"toy": again}, few, ReferenceCache.load(path))
    assert computed == {"toy": 6}
    assert again.encoder.rows_heard == 6
    assert torch.equal(speech.by_encoder["toy"], expected.by_encoder["toy"])
    assert path.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.partial*"))


def test_an_interrupted_encoder_leaves_the_finished_ones_entries(few, tmp_path):
    path = tmp_path / "cache.safetensors"
    encoders = {"one": toy(1), "two": interrupted(RuntimeError, after=0, seed=2)}
    with pytest.raises(RuntimeError, match="in the middle"):
        embed_recordings(encoders, few, ReferenceCache.load(path))
    assert len(kept(path, toy(1), few)) == 12


def test_what_is_done_is_on_disk_before_all_is_done(few, tmp_path, one_worker):
    path, on_disk = tmp_path / "cache.safetensors", []

    def look() -> None:
        time.sleep(0.01)
        on_disk.append(len(kept(path, toy(), few)))

    watching = toy(before=look)
    embed_recordings({"toy": watching}, few, ReferenceCache(path))
    assert on_disk[0] == 0
    assert 1 <= max(on_disk) <= 11


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_number_of_threads_is_what_it_was(few, error):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        if error is None:
            embed_recordings({"toy": toy()}, few, ReferenceCache())
        else:
            with pytest.raises(error):
                embed_recordings({"toy": interrupted(error, after=2)}, few, ReferenceCache())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_bits_do_not_depend_on_the_number_of_threads(many, tmp_path):
    before, encoder, found = torch.get_num_threads(), SegmentEncoder(build_encoder("ge2e"), 1.0).eval(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            path = tmp_path / f"{threads}.safetensors"
            embed_recordings({"ge2e": encoder}, many[-8:] + many[:6], ReferenceCache(path))
            found.append(path.read_bytes())
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_a_progress_bar_counts_the_recordings_that_are_missing(few, capfd):
    cache = ReferenceCache()
    fill_cache(cache, "my_alias", toy(), few[:5])
    capfd.readouterr()
    fill_cache(cache, "my_alias", toy(), few)
    shown = capfd.readouterr()
    assert "my_alias" in shown.err
    assert "7/7" in shown.err
    assert shown.out == ""
    fill_cache(cache, "my_alias", toy(), few)
    assert capfd.readouterr() == ("", "")


def test_no_graph_is_kept_and_modes_are_left_alone(few):
    seen: list[bool] = []
    encoder = toy(before=lambda: seen.append(torch.is_grad_enabled()))
    speech, _ = embed_recordings({"toy": encoder}, few, ReferenceCache())
    assert len(seen) == 12
    assert not any(seen)
    assert torch.is_grad_enabled()
    assert not encoder.training
    assert not speech.by_encoder["toy"].requires_grad
    torch.testing.assert_close(speech.by_encoder["toy"].norm(dim=1), torch.ones(12))


# --- which recordings a data set has ----------------------------------------------------------------------------------


def sample(name: str, file: str, speaker: str) -> dict[str, str]:
    return {"audio_unique_name": name, "audio_file": file, "speaker_name": speaker, "text": "words"}


def test_a_data_set_is_its_recordings_each_once_by_name():
    train = [sample("d#c", "c.wav", "x"), sample("d#a", "a.wav", "y"), sample("d#c", "c.wav", "x")]
    evaluation = [sample("d#b", "b.wav", "x"), sample("d#a", "a.wav", "y")]
    assert recordings_of(train, evaluation) == [
        Recording("d#a", Path("a.wav"), "y", held_out=False),  # in both: it is trained on
        Recording("d#b", Path("b.wav"), "x", held_out=True),
        Recording("d#c", Path("c.wav"), "x", held_out=False),
    ]
    assert recordings_of([]) == []
