"""Each effect of the channel against a measurement of its own; what is drawn when; gradients; and nothing when off."""

import dataclasses
import math
import random

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from tiny_vits import PLAIN

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.config import AugmentConfig
from coqui_scl_plugin.consistency.augment import Augmentation, Channel, build_augmentation
from coqui_scl_plugin.consistency.build import build_consistency
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.references.sources import ReferenceBatch

RATE = 22_050
ALL = {"gain_db": 6.0, "equaliser_db": 6.0, "noise_snr_db": [10.0, 30.0], "room_seconds": 0.3, "speed": 0.05}
EFFECTS = {
    "speed": Channel(speed_percent=95),
    "room": Channel(reverberation_seconds=0.3, direct_to_reverberant_db=6.0, seed=3),
    "equaliser": Channel(band_gains_db=(3.0, -6.0, 6.0, 0.0, -3.0, 2.0, -1.0, 5.0)),
    "noise": Channel(snr_db=15.0, seed=3),
    "gain": Channel(gain_db=4.0),
    "all": Augmentation(AugmentConfig(**ALL)).draw(7),
}


def white(rows: int = 2, seconds: float = 1.0, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(rows, int(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def decibels(of: torch.Tensor, to: torch.Tensor) -> float:
    """Ratio of two energies."""
    return 10 * math.log10(of.double().square().sum().item() / to.double().square().sum().item())


def batch(waveform: torch.Tensor) -> ReferenceBatch:
    count = len(waveform)
    names = [f"r{i}" for i in range(count)]
    return ReferenceBatch(ResampledAudio(waveform, RATE), list(waveform), names, [f"s{i}" for i in range(count)])


def channels(steps: int = 200, **config: object) -> list[Channel]:
    augmentation = Augmentation(AugmentConfig(**config))
    return [augmentation.draw(step) for step in range(steps)]


# --- each effect --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain_db", [-12.0, 3.0])
def test_gain(gain_db):
    speech = white()
    assert torch.allclose(Channel(gain_db=gain_db)(speech, RATE), speech * 10 ** (gain_db / 20), rtol=1e-6)


@pytest.mark.parametrize("snr_db", [10.0, 30.0])
@pytest.mark.parametrize("loudness", [1e-2, 1.0], ids=["-60 dBFS", "loud"])
def test_noise_is_as_loud_as_the_ratio_says(snr_db, loudness):
    speech = loudness * white() * torch.tensor([[1.0], [0.2]])
    heard = Channel(snr_db=snr_db, seed=1)(speech, RATE)
    added = heard - speech
    for row in range(2):  # each row has its own loudness
        assert decibels(speech[row], added[row]) == pytest.approx(snr_db, abs=0.5)
    spectrum = torch.fft.rfft(added[0]).abs().square()
    lower, upper = spectrum[: len(spectrum) // 2].mean(), spectrum[len(spectrum) // 2 :].mean()
    assert (lower / upper).item() == pytest.approx(1.0, abs=0.1)  # white
    library = torchaudio.functional.add_noise(speech, added, torch.full((2,), snr_db))
    assert (heard - library).norm() < 0.01 * added.norm()


def test_the_equaliser_keeps_to_the_gain_of_each_band():
    gains, limit = (6.0, -6.0, 3.0, 0.0, -4.0, 6.0, -6.0, 2.0), 6.0
    speech = white(rows=1, seconds=4.0)
    heard = Channel(band_gains_db=gains)(speech, RATE)
    assert heard.shape == speech.shape
    mels = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), len(gains) + 1)
    edges = 700 * (10 ** (mels / 2595) - 1)
    frequencies = torch.fft.rfftfreq(speech.shape[1], 1 / RATE)
    before, after = (torch.fft.rfft(waveform[0]) for waveform in (speech, heard))
    for gain_db, low, high in zip(gains, edges[:-1], edges[1:], strict=True):
        whole = (frequencies >= low) & (frequencies < high)
        middle = (frequencies >= low + 0.35 * (high - low)) & (frequencies < high - 0.35 * (high - low))
        assert abs(decibels(after[whole].abs(), before[whole].abs())) <= limit + 0.2
        assert decibels(after[middle].abs(), before[middle].abs()) == pytest.approx(gain_db, abs=0.5)


def test_the_equaliser_does_not_shift_in_time():
    impulse = torch.zeros(1, 4001)
    impulse[0, 1500] = 1.0
    heard = Channel(band_gains_db=(3.0, -3.0) * 4)(impulse, RATE)[0]
    assert heard.abs().argmax() == 1500
    assert torch.allclose(heard[1000:2001], heard[1000:2001].flip(0), atol=1e-6)


@pytest.mark.parametrize("seconds", [0.1, 0.4])
def test_a_room_keeps_the_direct_sound_and_decays_by_60_db(seconds):
    impulse = torch.zeros(1, RATE)
    impulse[0, 1000] = 1.0
    heard = Channel(reverberation_seconds=seconds, direct_to_reverberant_db=8.0, seed=5)(impulse, RATE)
    assert heard.shape == impulse.shape
    assert heard[0, :1000].abs().max() < 1e-5
    assert heard[0, 1000].item() == pytest.approx(1.0, abs=1e-5)
    tail = heard[0, 1001:].double()
    assert decibels(impulse, tail) == pytest.approx(8.0, abs=0.1)
    left = 10 * torch.log10(tail.square().flip(0).cumsum(0).flip(0) / tail.square().sum())  # Schroeder's integral
    used = torch.nonzero((left < -5) & (left > -25))[:, 0]
    slope = np.polyfit(used.numpy() / RATE, left[used].numpy(), 1)[0]
    assert -60 / slope == pytest.approx(seconds, rel=0.15)


def test_a_room_of_no_time_is_no_room():
    speech = white()
    assert Channel(reverberation_seconds=0.0, direct_to_reverberant_db=3.0)(speech, RATE) is speech


@pytest.mark.parametrize("percent", [80, 95, 103, 120])
def test_speed_moves_a_tone_and_the_length_by_its_factor(percent):
    time = torch.arange(2 * RATE) / RATE
    heard = Channel(speed_percent=percent)(0.5 * torch.sin(2 * math.pi * 440 * time)[None], RATE)
    assert heard.shape == (1, 2 * RATE * 100 // percent)
    spectrum = torch.fft.rfft(heard[0] * torch.hann_window(heard.shape[1]), n=16 * RATE).abs()
    assert spectrum.argmax().item() / 16 == pytest.approx(440 * percent / 100, abs=0.2)
    assert heard[0, 1000:-1000].abs().max().item() == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("name", EFFECTS)
def test_an_effect_changes_speech_and_stays_in_float32(name):
    speech = white()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        heard, _ = Augmentation(AugmentConfig(**ALL))(ResampledAudio(speech, RATE), batch(speech), 7)
    alone = EFFECTS[name](speech, RATE)
    assert alone.dtype == heard.waveform.dtype == torch.float32
    assert alone.shape != speech.shape or not torch.allclose(alone, speech, atol=1e-3)
    if name == "all":
        assert torch.equal(alone, heard.waveform)


# --- what is drawn ------------------------------------------------------------------------------------------------


def test_draws_fill_their_ranges_and_no_more():
    drawn = channels(600, **ALL)
    assert {c.speed_percent for c in drawn} == set(range(95, 106))
    ranges = {
        "gain_db": (-6, 6),
        "snr_db": (10, 30),
        "reverberation_seconds": (0, 0.3),
        "direct_to_reverberant_db": (3, 15),
    }
    for name, (low, high) in ranges.items():
        values = [getattr(channel, name) for channel in drawn]
        assert low <= min(values) < low + 0.05 * (high - low), name
        assert high - 0.05 * (high - low) < max(values) <= high, name
    for band in zip(*(channel.band_gains_db for channel in drawn), strict=True):
        assert -6 <= min(band) < -5.4
        assert 5.4 < max(band) <= 6


def test_a_step_draws_the_same_again_and_another_step_something_else():
    first, again = channels(50, **ALL), channels(50, **ALL)
    assert first == again
    assert len(set(first)) == 50
    speech = white()
    assert torch.equal(first[3](speech, RATE), again[3](speech, RATE))


@pytest.mark.parametrize("key", ALL)
def test_what_an_effect_draws_does_not_depend_on_the_others(key):
    names = {
        "gain_db": {"gain_db"},
        "equaliser_db": {"band_gains_db"},
        "noise_snr_db": {"snr_db"},
        "room_seconds": {"reverberation_seconds"},
        "speed": {"speed_percent"},
    }
    always = {"direct_to_reverberant_db", "seed"}  # without effect unless the room or the noise is on
    alone, together = Augmentation(AugmentConfig(**{key: ALL[key]})).draw(4), Augmentation(AugmentConfig(**ALL)).draw(4)
    for spec in dataclasses.fields(Channel):
        drawn = getattr(together if spec.name in names[key] | always else Channel(), spec.name)
        assert getattr(alone, spec.name) == drawn, spec.name


def test_global_random_states_are_left_alone():
    speech = white()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    Augmentation(AugmentConfig(**ALL))(ResampledAudio(speech, RATE), batch(speech), 7)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
    assert np.array_equal(before[2], after[2])


# --- both sides ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(5))
def test_equal_speech_stays_equal_and_recordings_stay_clean(step):
    speech = white(rows=3)
    real = batch(speech.clone())
    generated, heard = Augmentation(AugmentConfig(**ALL))(ResampledAudio(speech, RATE), real, step)
    assert torch.equal(generated.waveform, heard.segments.waveform)
    assert not torch.equal(generated.waveform[:, :1000], speech[:, :1000])
    assert heard.utterances is real.utterances
    assert (heard.names, heard.speakers) == (real.names, real.speakers)
    assert torch.equal(real.segments.waveform, speech)
    assert (generated.sample_rate, heard.segments.sample_rate) == (RATE, RATE)


@pytest.mark.parametrize("name", EFFECTS)
def test_a_channel_is_one_for_the_whole_batch_and_for_any_loudness(name):
    speech = white(rows=1)
    heard = EFFECTS[name](torch.cat([speech, 0.5 * speech, speech]), RATE)
    assert torch.equal(heard[0], heard[2])
    assert torch.allclose(0.5 * heard[0], heard[1], atol=1e-5)


# --- gradients ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_speech(libri10):
    files = sorted(libri10.rglob("*.wav"))[:2] or sorted(libri10.rglob("*.flac"))[:2]
    clips = []
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32")
        clips.append(torchaudio.functional.resample(torch.from_numpy(samples), rate, RATE)[RATE : 2 * RATE])
    return torch.stack(clips)


@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.parametrize("kind", ["speech", "quiet", "half-silent", "silent", "short"])
def test_gradients_are_finite_and_arrive(name, kind, real_speech):
    speech = real_speech.clone()
    if kind == "quiet":
        speech *= 1e-3 / speech.square().mean(dim=-1, keepdim=True).sqrt()
    elif kind == "half-silent":
        speech[:, : RATE // 2] = 0.0
    elif kind == "silent":
        speech.zero_()
    elif kind == "short":
        speech = speech[:, :700]
    speech.requires_grad_()
    heard = EFFECTS[name](speech, RATE)
    assert heard.isfinite().all()
    weights = torch.randn(heard.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((heard * weights).sum(), speech)
    assert gradient.isfinite().all()
    assert (gradient[:, 100:-100].abs().mean(dim=-1) > 0.1).all()


def test_silence_gets_noise_that_no_one_hears():
    heard = Channel(snr_db=10.0)(torch.zeros(1, RATE), RATE)
    assert 0 < heard.abs().max() < 1e-4


@pytest.mark.parametrize("name", ["room", "equaliser", "noise", "gain"])
def test_the_gradient_is_that_of_finite_differences(name):
    waveform = white(rows=2, seconds=0.002).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: EFFECTS[name](x, RATE), waveform)


# --- in the term --------------------------------------------------------------------------------------------------


def term_of(section):
    config = SclVitsConfig()
    config.from_dict({"scl": PLAIN | section})
    consistency = build_consistency(config.scl)
    heard = []
    consistency.encoders["ge2e"].encoder.register_forward_pre_hook(lambda module, arguments: heard.append(arguments[0]))
    return consistency, heard


def test_all_off_is_no_object_and_the_same_tensor():
    assert build_augmentation(AugmentConfig()) is None
    consistency, heard = term_of({"reference": {"source": "segment"}})
    assert consistency.training
    speech = white(rows=2, seconds=1.5)
    real = batch(speech)
    generated = ResampledAudio(speech, 16_000)
    consistency(generated, ReferenceBatch(generated, real.utterances, real.names, real.speakers), 3)
    assert [waveform is speech for waveform in heard] == [True, True]


@pytest.mark.parametrize("key", ALL)
def test_one_effect_makes_a_channel(key):
    assert build_augmentation(AugmentConfig(**{key: ALL[key]})) is not None


def test_the_term_hears_a_channel_in_training_alone():
    consistency, heard = term_of({"reference": {"source": "segment"}, "augment": ALL})
    speech = white(rows=2, seconds=2.0).requires_grad_()
    generated, real = ResampledAudio(speech, RATE), batch(white(rows=2, seconds=2.0, seed=1))
    expected = Augmentation(AugmentConfig(**ALL))(generated, real, 3)
    term = consistency(generated, real, 3)
    assert torch.equal(heard[0], expected[0].at(16_000))
    assert torch.equal(heard[1], expected[1].segments.at(16_000))
    (gradient,) = torch.autograd.grad(term.loss, speech)
    assert gradient.isfinite().all()
    assert gradient.norm() > 0
    heard.clear()
    consistency.eval()
    consistency(generated, real, 3)
    assert torch.equal(heard[0], generated.at(16_000))
    assert torch.equal(heard[1], real.segments.at(16_000))


def test_references_of_whole_recordings_stay_clean():
    consistency, heard = term_of({"augment": ALL})
    speech, real = white(rows=2, seconds=2.0), batch(white(rows=2, seconds=2.0, seed=1))
    consistency(ResampledAudio(speech, RATE), real, 3)
    assert len(heard) == 3  # generated speech, then each recording
    for waveform, utterance in zip(heard[1:], real.utterances, strict=True):
        assert torch.equal(waveform, ResampledAudio(utterance[None], RATE).at(16_000))
