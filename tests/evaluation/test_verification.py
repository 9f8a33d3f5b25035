import csv
import functools
import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from evaluation_data import RATE, FirstSamples, Voices, first_samples, possible_eers, smallest_cost, syllables

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation import trials as all_trials
from coqui_scl_plugin.evaluation import verification
from coqui_scl_plugin.evaluation.evaluation_set import EvaluationSet, SyntheticRecording
from coqui_scl_plugin.evaluation.metrics import bootstrap_mean
from coqui_scl_plugin.evaluation.verification import embed_recording, verify
from coqui_scl_plugin.references.recordings import Recording

pytestmark = pytest.mark.usefixtures("one_thread")
RESAMPLES = 199


@pytest.fixture
def voices(tmp_path):
    return Voices(tmp_path)


def filled(voices, seed=0, dimensions=6):
    """Three speakers with unequal counts of recordings, of which some are copies of real ones, one is twice."""
    draw = np.random.default_rng(seed)
    own = {speaker: draw.normal(size=dimensions) for speaker in ("ann", "bob", "cid")}
    for speaker, count in {"ann": 4, "bob": 3, "cid": 2}.items():
        for number in range(count):
            voices.add_real(f"{speaker}{number}", speaker, own[speaker] + draw.normal(0, 0.7, dimensions))
    for speaker, references in {"ann": ["ann0", "ann0", "ann3", None, None], "bob": [None], "cid": ["cid1"]}.items():
        for number, reference in enumerate(references):
            vector = own[speaker] + draw.normal(0, 1.0, dimensions)
            voices.add_synthetic(f"{speaker}-made{number}", speaker, vector, reference)
    return voices


def scores_of(voices, **options):
    return verify(voices.evaluation_set, {"known": first_samples(6)}, resamples=RESAMPLES, **options).scores["known"]


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else None


def calibration_of(voices):
    """Mean cosines of real speech of different speakers, and of different recordings of one."""
    pairs = list(itertools.combinations(voices.real, 2))
    return tuple(
        mean(voices.cosine(a, b) for a, b in pairs if (a.speaker == b.speaker) is same) for same in (False, True)
    )


def figures_of(voices, speaker):
    """Similarity to the own reference and to other recordings, of one speaker."""
    secs, cross = [], []
    for made in voices.synthetic:
        if made.speaker != speaker:
            continue
        others = [voices.cosine(made, r) for r in voices.real if r.speaker == speaker and r.name != made.reference]
        cross.append(mean(others))
        own = [voices.cosine(made, r) for r in voices.real if r.name == made.reference]
        secs.append(own[0] if own else mean(others))
    return mean(secs), mean(cross)


def near(value):
    return pytest.approx(value, abs=1e-6)


def numbers(value):
    """All of a scores, one after another."""
    if isinstance(value, dict):
        value = value.values()
    return list(itertools.chain(*map(numbers, value))) if hasattr(value, "__iter__") else [value]


# --- one encoder, by an independent computation -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_similarities_are_means_over_speakers_of_means_of_theirs(voices, seed):
    scores = scores_of(filled(voices, seed))
    floor, ceiling = calibration_of(voices)
    assert (scores.floor, scores.ceiling) == (near(floor), near(ceiling))
    expected = {speaker: figures_of(voices, speaker) for speaker in ("ann", "bob", "cid")}
    assert [*scores.speakers] == [*expected]
    for speaker, (secs, cross) in expected.items():
        found = scores.speakers[speaker]
        assert (found.secs, found.cross_utterance) == (near(secs), near(cross))
        assert found.calibrated_cross_utterance == pytest.approx((cross - floor) / (ceiling - floor), abs=1e-5)
    assert [found.recordings for found in scores.speakers.values()] == [5, 1, 1]
    for measure in ("secs", "cross_utterance", "calibrated_cross_utterance"):
        values = [getattr(found, measure) for found in scores.speakers.values()]
        assert getattr(scores, measure).mean == near(mean(values))
        assert getattr(scores, measure) == near(bootstrap_mean(values, seed=0, resamples=RESAMPLES))


def test_a_speaker_with_many_recordings_counts_as_one(voices):
    for speaker, vector in {"ann": [1, 0], "bob": [0, 1]}.items():
        for number in range(2):
            voices.add_real(f"{speaker}{number}", speaker, vector)
    for number in range(9):
        voices.add_synthetic(f"ann-made{number}", "ann", [1, 0])
    voices.add_synthetic("bob-made", "bob", [1, 0])
    scores = verify(voices.evaluation_set, {"known": first_samples(2)}, resamples=RESAMPLES).scores["known"]
    assert (scores.floor, scores.ceiling) == (near(0), near(1))
    for measure in ("secs", "cross_utterance", "calibrated_cross_utterance"):
        assert getattr(scores, measure).mean == near(0.5)


@pytest.mark.parametrize("seed", range(3))
def test_the_matrix_is_of_everyone_against_everyone_but_own_references(voices, seed):
    matrix = scores_of(filled(voices, seed)).matrix
    for row, column in itertools.product(range(3), repeat=2):
        expected = mean(
            voices.cosine(made, real)
            for made, real in itertools.product(voices.synthetic, voices.real)
            if made.speaker == ("ann", "bob", "cid")[row]
            and real.speaker == ("ann", "bob", "cid")[column]
            and made.reference != real.name
        )
        assert matrix[row][column] == near(expected)


@pytest.mark.parametrize("seed", range(3))
def test_trials_are_of_all_pairs_but_own_references(voices, seed):
    whole = verify(filled(voices, seed).evaluation_set, {"known": first_samples(6)}, resamples=RESAMPLES)
    synthetic_trials = [
        (i, j, made.speaker == real.speaker, voices.cosine(made, real))
        for (i, made), (j, real) in itertools.product(enumerate(voices.synthetic), enumerate(voices.real))
        if made.reference != real.name
    ]
    real_trials = [
        (i, j, a.speaker == b.speaker, voices.cosine(a, b))
        for (i, a), (j, b) in itertools.combinations(enumerate(voices.real), 2)
    ]
    assert len(synthetic_trials) == 7 * 9 - 4
    scores = whole.scores["known"]
    for trials, expected, eer, cost in (
        (whole.trials, synthetic_trials, scores.eer, scores.min_dcf),
        (whole.real_trials, real_trials, scores.real_eer, scores.real_min_dcf),
    ):
        found = zip(trials.first.tolist(), trials.second.tolist(), trials.same.tolist(), strict=True)
        assert sorted(found) == sorted(trial[:3] for trial in expected)
        by_pair = {trial[:2]: trial[3] for trial in expected}
        pairs = zip(trials.first.tolist(), trials.second.tolist(), strict=True)
        np.testing.assert_allclose(trials.scores["known"], [by_pair[pair] for pair in pairs], atol=1e-6)
        scores, same = [trial[3] for trial in expected], [trial[2] for trial in expected]
        assert any(eer == near(rate) for rate in possible_eers(scores, same))
        assert cost == near(smallest_cost(scores, same))


def test_each_encoder_has_its_own_view(voices):
    filled(voices)
    alone = {name: first_samples(2, skip) for name, skip in (("one", 0), ("other", 3))}
    together = verify(voices.evaluation_set, alone, resamples=RESAMPLES)
    for name, encoder in alone.items():
        own = verify(voices.evaluation_set, {name: encoder}, resamples=RESAMPLES)
        assert together.scores[name] == own.scores[name]
        assert torch.equal(together.real[0].embeddings[name], own.real[0].embeddings[name])
    assert together.scores["one"] != together.scores["other"]


def test_same_seed_same_scores(voices):
    filled(voices)
    for number, vector in enumerate(np.random.default_rng(0).normal(size=(9, 6))):  # the bounds depend on the draws
        voices.add_real(f"real{number}", f"speaker{number}", vector)
        voices.add_synthetic(f"made{number}", f"speaker{number}", vector + number)
    assert scores_of(voices, seed=3) == scores_of(voices, seed=3)
    assert scores_of(voices, seed=3).secs != scores_of(voices, seed=4).secs


# --- where something cannot be said -----------------------------------------------------------------------------------


def test_one_speaker_has_similarities_and_no_error_rates(voices):
    for number in range(3):
        voices.add_real(f"ann{number}", "ann", [1, number])
    voices.add_synthetic("made", "ann", [1, 1], "ann1")
    scores = verify(voices.evaluation_set, {"known": first_samples(2)}, resamples=RESAMPLES).scores["known"]
    others = (math.sqrt(1 / 2) + 3 / math.sqrt(10)) / 2
    assert scores.secs == near((1, None, None))
    assert scores.cross_utterance == near((others, None, None))
    assert scores.matrix == [[near(others)]]
    found = (scores.calibrated_cross_utterance, scores.eer, scores.min_dcf, scores.real_eer, scores.real_min_dcf)
    assert (*found, scores.floor, scores.ceiling, scores.speakers["ann"].calibrated_cross_utterance) == (None,) * 8


def test_one_recording_that_is_the_reference(voices):
    voices.add_real("ann0", "ann", [1, 0])
    voices.add_synthetic("made", "ann", [3, 4], "ann0")
    found = verify(voices.evaluation_set, {"known": first_samples(2)}, resamples=RESAMPLES)
    scores = found.scores["known"]
    assert scores.secs.mean == near(0.6)
    assert scores.cross_utterance is None
    assert scores.matrix == [[None]]
    assert len(found.trials.first) == len(found.real_trials.first) == 0


def without(voices, kind, name):
    """The same voices, but for a recording."""
    changed = SimpleNamespace(real=voices.real, synthetic=voices.synthetic)
    setattr(changed, kind, [recording for recording in getattr(changed, kind) if recording.name != name])
    return EvaluationSet("fewer", {}, changed.real, changed.synthetic)


@pytest.mark.parametrize("samples", [np.zeros(RATE), np.full(RATE, np.nan), np.zeros(0)])
@pytest.mark.parametrize("kind", ["real", "synthetic"])
def test_what_says_nothing_is_left_out(voices, kind, samples):
    filled(voices)
    recording = {"real": voices.real[1], "synthetic": voices.synthetic[3]}[kind]
    soundfile.write(recording.path, samples, RATE, subtype="FLOAT")
    encoders = {"known": SegmentEncoder(SaysNothingOfSilence(6)).eval()}
    found = verify(voices.evaluation_set, encoders, resamples=RESAMPLES)
    fewer = verify(without(voices, kind, recording.name), encoders, resamples=RESAMPLES)
    assert numbers(asdict(found.scores["known"])) == near(numbers(asdict(fewer.scores["known"])))
    embedded = {"real": found.real[1], "synthetic": found.synthetic[3]}[kind]
    not_finite = f"not finite: {len(samples)} of {len(samples)} samples NaN or infinite, the first at 0.000 s"
    silence = "silence, and not embedded by known: its embedding is not finite"
    assert embedded.problem == ("empty" if len(samples) == 0 else not_finite if np.isnan(samples).any() else silence)
    assert embedded.seconds == len(samples) / RATE
    assert {one.problem for one in (*found.real, *found.synthetic)} == {None, embedded.problem}


class SaysNothingOfSilence(FirstSamples):
    def forward(self, waveform):
        embedding = waveform[:, : self.embedding_dim]
        return embedding / embedding.norm(dim=-1, keepdim=True)


def test_synthetic_silence_and_noise_count_as_the_encoder_finds_them(voices):
    filled(voices)
    index = [made.speaker for made in voices.synthetic].index("bob")
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    soundfile.write(voices.synthetic[index].path, noise, RATE, subtype="FLOAT")
    voices.vectors[voices.synthetic[index].path] = noise[:6] / np.linalg.norm(noise[:6])
    found = verify(voices.evaluation_set, {"known": first_samples(6)}, resamples=RESAMPLES)
    assert found.synthetic[index].problem == "steady noise or a tone"
    assert found.scores["known"].speakers["bob"].secs == near(figures_of(voices, "bob")[0])


def test_a_real_recording_without_speech_is_not_compared_with_though_it_can_be_embedded(voices):
    filled(voices)
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    soundfile.write(voices.real[0].path, noise, RATE, subtype="FLOAT")
    encoders = {"known": first_samples(6)}
    found = verify(voices.evaluation_set, encoders, resamples=RESAMPLES)
    assert found.real[0].problem == "steady noise or a tone"
    fewer = verify(without(voices, "real", "ann0"), encoders, resamples=RESAMPLES)
    assert numbers(asdict(found.scores["known"])) == near(numbers(asdict(fewer.scores["known"])))
    assert 0 not in found.trials.second


def test_a_speaker_of_whom_nothing_is_left(voices):
    filled(voices)
    for real in voices.real[7:]:
        soundfile.write(real.path, np.zeros(RATE), RATE, subtype="FLOAT")
    scores = scores_of(voices)
    found = scores.speakers["cid"]
    assert (found.secs, found.cross_utterance, found.calibrated_cross_utterance) == (None, None, None)
    assert scores.secs.mean == near(mean(scores.speakers[speaker].secs for speaker in ("ann", "bob")))
    assert [row[2] for row in scores.matrix] == [None] * 3
    assert None not in scores.matrix[2][:2]


def test_no_real_speech_at_all(voices):
    filled(voices)
    for real in voices.real:
        soundfile.write(real.path, np.zeros(RATE), RATE, subtype="FLOAT")
    scores = scores_of(voices)
    assert (scores.secs, scores.calibrated_cross_utterance, scores.eer, scores.floor, scores.real_eer) == (None,) * 5


@pytest.mark.parametrize("kind", ["real", "synthetic"])
def test_a_file_that_cannot_be_read_is_left_out(voices, kind):
    filled(voices)
    recording = {"real": voices.real[1], "synthetic": voices.synthetic[2]}[kind]
    recording.path.write_bytes(b"no audio")
    encoders = {"known": first_samples(6)}
    found = verify(voices.evaluation_set, encoders, resamples=RESAMPLES)
    fewer = verify(without(voices, kind, recording.name), encoders, resamples=RESAMPLES)
    assert numbers(asdict(found.scores["known"])) == near(numbers(asdict(fewer.scores["known"])))
    embedded = {"real": found.real[1], "synthetic": found.synthetic[2]}[kind]
    assert embedded.problem.startswith("not readable audio (")
    assert not embedded.is_read


@pytest.mark.parametrize("kind", ["real", "synthetic"])
def test_nothing_to_compare_is_one_message(voices, kind):
    filled(voices)
    for recording in {"real": voices.real, "synthetic": voices.synthetic}[kind]:
        recording.path.write_bytes(b"no audio")
    with pytest.raises(ConfigError, match=f"none of the . {kind} recordings can be evaluated.*not readable audio"):
        scores_of(voices)


class FailsOnLong(FirstSamples):
    def forward(self, waveform):
        if waveform.shape[-1] > RATE:
            raise RuntimeError("out of memory")
        return super().forward(waveform)


def test_a_recording_that_an_encoder_fails_on_is_left_out(voices):
    filled(voices)
    soundfile.write(voices.synthetic[2].path, np.tile(syllables(), 4), RATE, subtype="FLOAT")
    encoders = {"known": first_samples(6), "fails": SegmentEncoder(FailsOnLong(6)).eval()}
    found = verify(voices.evaluation_set, encoders, resamples=RESAMPLES)
    assert found.synthetic[2].problem == "not embedded by fails: out of memory"
    assert 2 not in found.trials.first
    assert {one.problem for one in found.real} == {None}


def test_integers_written_as_floats_are_named_unless_loudness_is_set(voices):
    filled(voices)
    samples, rate = soundfile.read(voices.synthetic[2].path)
    soundfile.write(voices.synthetic[2].path, 32768 * samples, rate, subtype="FLOAT")
    encoders = {"known": first_samples(6)}
    found = verify(voices.evaluation_set, encoders, resamples=RESAMPLES)
    assert found.synthetic[2].problem.startswith("far beyond full scale: its peak is ")
    assert 2 in found.trials.first
    assert verify(voices.evaluation_set, encoders, resamples=RESAMPLES, dbfs=-27.0).synthetic[2].problem is None


# --- how recordings are embedded --------------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", ["campplus", "ge2e"])
def test_recordings_that_share_passes_are_embedded_as_alone(libri10, tmp_path, alias):
    encoder = SegmentEncoder(build_encoder(alias)).eval()
    sizes = []
    encoder.encoder.register_forward_hook(lambda _, waveforms, __: sizes.append(len(waveforms[0])))
    recordings = []
    for number, path in enumerate(sorted(libri10.rglob("*.flac"))[:50]):
        samples, rate = soundfile.read(path, frames=12_000 if number % 5 else 16_000 + 10 * number)
        samples[7] = math.nan if number == 8 else samples[7]
        recordings.append(Recording(path.stem, tmp_path / f"{number}.wav", "ann"))
        soundfile.write(recordings[-1].path, samples, rate, subtype="FLOAT")
    recordings[3].path.unlink()
    recordings[9].path.write_bytes(b"no audio")
    found = verification.embed_recordings(recordings, {alias: encoder}, None, "title", {})
    together, calls = sizes[:], len(sizes)
    alone = [embed_recording(recording, {alias: encoder}, None) for recording in recordings]
    for one, other in zip(found, alone, strict=True):
        assert (one.problem, one.seconds) == (other.problem, other.seconds)
        torch.testing.assert_close(
            one.embeddings[alias], other.embeddings[alias], rtol=0, atol=1e-5, equal_nan=True
        )  # fmt: skip
    assert [index for index, one in enumerate(found) if not one.is_finite] == [3, 8, 9]
    if alias == "campplus":
        assert max(together) > 1
        assert calls < 47


def test_the_recordings_of_a_pass_are_bounded(tmp_path):
    encoder = Notes(4)
    sizes = []
    encoder.register_forward_hook(lambda _, waveforms, __: sizes.append(waveforms[0].numel() / RATE))
    for number in range(80):
        soundfile.write(tmp_path / f"{number}.wav", syllables(8.0, seed=number), RATE)
    recordings = [Recording(str(number), tmp_path / f"{number}.wav", "ann") for number in range(80)]
    verification.embed_recordings(recordings, {"known": SegmentEncoder(encoder).eval()}, None, "title", {})
    assert sum(sizes) == 80 * 8.0
    assert max(sizes) == 16.0  # the next one would be beyond 20 s


class Notes(FirstSamples):
    """Keeps the waveform that it embeds."""

    def forward(self, waveform):
        self.received = waveform.clone()
        return super().forward(waveform)


@pytest.mark.parametrize("dbfs", [None, -27.0])
@pytest.mark.parametrize("loudness", [0.1, 1.0])
def test_each_recording_is_embedded_whole_and_at_the_loudness_asked_for(tmp_path, loudness, dbfs):
    samples = loudness * syllables(1.3)
    soundfile.write(tmp_path / "one.wav", samples, RATE, subtype="FLOAT")
    encoder = Notes(4)
    embedded = embed_recording(
        Recording("one", tmp_path / "one.wav", "ann"), {"known": SegmentEncoder(encoder).eval()}, dbfs
    )
    rms = math.sqrt((samples**2).mean())
    factor = 1.0 if dbfs is None else 10 ** (dbfs / 20) / rms
    np.testing.assert_allclose(encoder.received[0].numpy(), factor * samples, rtol=1e-4, atol=1e-7)
    assert (embedded.seconds, embedded.problem) == (1.3, None)
    assert embedded.embeddings["known"].shape == (4,)


def test_the_loudness_reaches_every_recording(voices, monkeypatch):
    filled(voices)
    received = []
    original = verification.normalise_loudness
    monkeypatch.setattr(
        verification, "normalise_loudness", lambda waveform, dbfs: received.append(dbfs) or original(waveform, dbfs)
    )
    scores_of(voices, dbfs=-30.0)
    assert received == [-30.0] * (9 + 7)


def test_what_was_embedded_before_is_not_embedded_again(voices):
    filled(voices)
    encoders, memory = {"known": SegmentEncoder(Notes(6)).eval()}, {}
    first = verify(voices.evaluation_set, encoders, resamples=RESAMPLES, memory=memory)
    encoders["known"].encoder.received = None
    again = verify(voices.evaluation_set, encoders, resamples=RESAMPLES, memory=memory)
    assert encoders["known"].encoder.received is None
    assert again.scores == first.scores
    voices.add_synthetic("new", "ann", [1] * 6)
    verify(voices.evaluation_set, encoders, resamples=RESAMPLES, memory=memory)
    assert len(memory) == 9 + 8
    torch.testing.assert_close(memory[voices.synthetic[-1].path].embeddings["known"], torch.full((6,), 6**-0.5))


def test_a_file_of_several_names_is_embedded_once(voices, tmp_path):
    voices.add_real("a", "ann", [1, 2, 3, 4])
    paths = [tmp_path / "real" / ".." / "real" / "a.wav", tmp_path / "link.wav"]
    paths[1].symlink_to(voices.real[0].path)
    names = [voices.real[0], *(Recording(str(number), path, "ann") for number, path in enumerate(paths))]
    encoder = Notes(4)
    calls = []
    encoder.register_forward_hook(lambda *_: calls.append(1))
    found = verification.embed_recordings(names, {"known": SegmentEncoder(encoder).eval()}, None, "title", {})
    assert len(calls) == 1
    assert all(torch.equal(one.embeddings["known"], found[0].embeddings["known"]) for one in found)


def test_trials_are_the_same_however_few_are_looked_at_at_a_time(voices, monkeypatch):
    filled(voices)
    monkeypatch.setattr(all_trials, "_MAX_TRIALS", 30)
    found = []
    for block in (2**22, 1, 20):
        monkeypatch.setattr(all_trials, "_MAX_BLOCK", block)
        found.append(verify(voices.evaluation_set, {"known": first_samples(6)}, resamples=RESAMPLES))
    for other in found[1:]:
        for one, same in ((found[0].trials, other.trials), (found[0].real_trials, other.real_trials)):
            for name in ("first", "second", "same"):
                np.testing.assert_array_equal(getattr(one, name), getattr(same, name))


# --- many trials ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [55, 25, 15, 200_000])
def test_of_too_many_trials_those_of_one_speaker_are_kept_and_of_others_as_many_as_there_is_room_for(
    voices, monkeypatch, most
):
    filled(voices)
    encoders = {"known": first_samples(6)}
    whole = verify(voices.evaluation_set, encoders, resamples=RESAMPLES).trials
    monkeypatch.setattr(all_trials, "_MAX_TRIALS", most)
    first, again, other = (
        verify(voices.evaluation_set, encoders, resamples=RESAMPLES, seed=seed).trials for seed in (0, 0, 1)
    )
    same, different = int(whole.same.sum()), int((~whole.same).sum())
    assert (same, different) == (21, 38)
    assert first.same.sum() == min(same, most)
    assert (~first.same).sum() == min(different, max(most - same, min(same, most)))

    def listed(trials):
        return set(zip(trials.first.tolist(), trials.second.tolist(), trials.scores["known"].tolist(), strict=True))

    assert len(listed(first)) == len(first.first)
    assert listed(first) <= listed(whole)
    assert listed(first) == listed(again)
    assert (listed(first) == listed(other)) is (len(first.first) == len(whole.first))


# --- real speech through the encoders in the wheel --------------------------------------------------------------------

EERS = {"ge2e": 0.44, "dvector": 1.56}
UNKNOWN = 3
"""Number of recordings that verification embeds itself, to see that it does so as the test does."""


class Remembers(SegmentEncoder):
    """Embeds what it does not know yet."""

    known: dict[bytes, torch.Tensor]
    embeds_each = False

    def forward(self, waveform):
        key = waveform.numpy().tobytes()
        return self.known[key] if key in self.known else super().forward(waveform)


@torch.no_grad()
def embed_alone(encoder, waveform):
    return encoder(torch.from_numpy(waveform)[None])


@pytest.fixture(scope="module")
def copies(libri10, one_thread):
    """All of libri10 by both encoders, embedded here; and its verification as copies of itself."""
    with (libri10 / "metadata.csv").open(newline="") as stream:
        rows = [(libri10 / row["audio_file"], row["speaker_name"]) for row in csv.DictReader(stream, delimiter="|")]
    real = [Recording(path.stem, path, speaker) for path, speaker in rows]
    synthetic = [SyntheticRecording(path.stem, path, speaker, reference=path.stem) for path, speaker in rows]
    embedded, encoders = {}, {}
    for alias in EERS:
        encoder = build_encoder(alias).eval()
        encoders[alias] = Remembers(encoder).eval()
        waveforms = [soundfile.read(path, dtype="float32")[0] for path, _ in rows]
        with ThreadPoolExecutor(2) as pool:  # a recording a core
            embeddings = list(pool.map(functools.partial(embed_alone, encoder), waveforms))
        embedded[alias] = torch.cat(embeddings).double().numpy()
        pairs = zip(waveforms[UNKNOWN:], embeddings[UNKNOWN:], strict=True)
        encoders[alias].known = {waveform.tobytes(): embedding for waveform, embedding in pairs}
    found = verify(EvaluationSet("copies", {}, real, synthetic), encoders, resamples=999)
    return SimpleNamespace(found=found, embedded=embedded, speakers=[speaker for _, speaker in rows])


def sorted_rates(scores, same):
    """Equal error rate in percent and detection cost, from running sums over sorted scores, ties taken together."""
    order = np.argsort(-scores, kind="stable")
    scores, same = scores[order], same[order]
    last_of_ties = np.append(scores[1:] != scores[:-1], True)
    alarm = np.append(0, np.cumsum(~same)[last_of_ties]) / (~same).sum()
    miss = 1 - np.append(0, np.cumsum(same)[last_of_ties]) / same.sum()
    nearest = np.abs(alarm - miss).argmin()
    return 100 * (alarm[nearest] + miss[nearest]) / 2, (0.05 * miss + 0.95 * alarm).min() / 0.05


@pytest.mark.parametrize("alias", EERS)
def test_error_rates_of_real_speech(copies, alias):
    speakers = np.array(copies.speakers)
    embedded = copies.embedded[alias]
    rows, columns = np.triu_indices(len(speakers), k=1)
    scores = (embedded[rows] * embedded[columns]).sum(axis=1)
    eer, cost = sorted_rates(scores, speakers[rows] == speakers[columns])
    scores = copies.found.scores[alias]
    assert round(scores.real_eer, 2) == EERS[alias]
    assert scores.real_eer == pytest.approx(eer, abs=1e-6)
    assert scores.real_min_dcf == pytest.approx(cost, abs=1e-6)


@pytest.mark.parametrize("alias", EERS)
def test_verification_embeds_whole_recordings(copies, alias):
    for embedded in (copies.found.real, copies.found.synthetic):
        found = np.stack([one.embeddings[alias].double().numpy() for one in embedded])
        np.testing.assert_allclose(found, copies.embedded[alias], atol=1e-5)


@pytest.mark.parametrize("alias", EERS)
def test_copies_of_real_speech_are_as_good_as_it(copies, alias):
    scores = copies.found.scores[alias]
    assert scores.secs == pytest.approx((1, 1, 1), abs=1e-5)
    assert scores.calibrated_cross_utterance.mean == pytest.approx(
        1,
        abs=1e-6,  # ten recordings of each: means of equal weight
    )
    assert scores.cross_utterance.mean == pytest.approx(scores.ceiling, abs=1e-6)
    assert scores.eer == pytest.approx(scores.real_eer, abs=1e-9)  # each trial twice
    assert scores.min_dcf == pytest.approx(scores.real_min_dcf, abs=1e-9)


@pytest.mark.parametrize("alias", EERS)
def test_the_speech_of_someone_else_is_at_the_floor(copies, voices, alias):
    speakers = sorted(set(copies.speakers))
    dimensions = copies.embedded[alias].shape[1]
    for index, (embedding, speaker) in enumerate(zip(copies.embedded[alias], copies.speakers, strict=True)):
        voices.add_real(str(index), speaker, embedding)
        voices.add_synthetic(f"made{index}", speakers[speakers.index(speaker) - 1], embedding)
    scores = verify(voices.evaluation_set, {alias: first_samples(dimensions)}, resamples=RESAMPLES).scores[alias]
    assert scores.real_eer == pytest.approx(copies.found.scores[alias].real_eer, abs=0.03)  # float32 files
    # speakers who follow each other happen to be somewhat more similar than others
    assert abs(scores.calibrated_cross_utterance.mean) < 0.2
    assert scores.eer > 30
    matrix = np.array(scores.matrix)
    own = (np.arange(10), (np.arange(10) + 1) % 10)
    assert (matrix.argmax(axis=1) == own[1]).all()  # who it really is
    matrix[own] = np.nan
    assert np.nanmean(matrix) == pytest.approx(scores.floor, abs=1e-5)
