"""Fundamental frequency and average spectrum, against signals whose are known."""

import math

import numpy as np
import pytest

from benchmarks.ablation.voice_measures import Voice, distances, voice_of

RATE = 16_000
SECONDS = np.arange(2 * RATE) / RATE


def buzz(hertz, seconds=SECONDS):
    """Harmonics of a tone up to 4 kHz, as of a voice."""
    return sum(np.sin(2 * np.pi * hertz * k * seconds) / k for k in range(1, int(4000 / hertz))).astype(np.float32) / 4


def noise(seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, 4 * RATE).astype(np.float32)


def test_median_in_semitones_above_100_hz():
    voice = voice_of([buzz(150)], RATE)
    assert voice.f0_median == pytest.approx(12 * math.log2(1.5), abs=0.15)
    assert voice.f0_spread == pytest.approx(0, abs=0.15)
    assert voice.unvoiced < 0.1


def test_recordings_are_pooled():
    """Quartiles of two notes an octave apart, one of which lasts as long as the other."""
    voice = voice_of([buzz(100), buzz(200)], RATE)
    assert voice.f0_spread == pytest.approx(12, abs=0.3)
    voice = voice_of([buzz(100), buzz(200), buzz(200)], RATE)
    assert voice.f0_median == pytest.approx(12, abs=0.15)


def test_pauses_do_not_count_as_unvoiced():
    voiced = buzz(150)
    assert voice_of([np.concatenate([voiced, np.zeros_like(voiced)])], RATE).unvoiced < 0.1


def test_noise_has_a_spectrum_and_no_fundamental_frequency():
    voice = voice_of([noise()], RATE)
    assert voice.unvoiced > 0.8
    assert np.mean(voice.spectrum) == pytest.approx(0, abs=1e-3)


def test_a_buzz_at_the_rate_of_the_decoders_frames_is_no_fundamental_frequency():
    voice = voice_of([buzz(RATE / 256)], RATE)
    assert (voice.f0_median, voice.f0_spread, voice.unvoiced) == (None, None, 1.0)


def test_silence_has_nothing():
    assert voice_of([np.zeros(RATE, np.float32)], RATE) == Voice(None, None, None, None)
    with_silence, without = voice_of([np.zeros(RATE, np.float32), buzz(150)], RATE), voice_of([buzz(150)], RATE)
    assert with_silence.unvoiced == without.unvoiced
    assert distances(with_silence, without)["spectrum"] == pytest.approx(0, abs=1e-3)


def test_level_does_not_change_the_spectrum():
    quiet = voice_of([noise(0) / 30, noise(1)], RATE)
    assert distances(quiet, voice_of([noise(0), noise(1)], RATE))["spectrum"] == pytest.approx(0, abs=1e-2)


def test_a_filter_moves_the_spectrum_by_its_response():
    """A first difference has the response 2 sin(pi f / rate); bands as librosa places them."""
    import librosa

    plain, sharp = noise(), np.diff(noise(), prepend=np.float32(0))
    weights = librosa.filters.mel(sr=RATE, n_fft=1024, n_mels=40, fmin=80, fmax=7600)
    response = (2 * np.sin(np.pi * np.arange(513) / 1024)) ** 2
    decibels = 10 * np.log10(weights @ response / weights.sum(axis=1))
    expected = decibels - decibels.mean()
    found = np.subtract(voice_of([sharp], RATE).spectrum, voice_of([plain], RATE).spectrum)
    assert np.abs(found - expected).max() < 0.7
    distance = distances(voice_of([sharp], RATE), voice_of([plain], RATE))["spectrum"]
    assert distance == pytest.approx(float(np.sqrt(np.mean(expected**2))), abs=0.3)


def test_distances():
    far = distances(Voice(3.0, 2.0, 0.5, [1.0, -1.0]), Voice(5.5, 2.5, 0.4, [4.0, -4.0]))
    assert far == {"f0_median": 2.5, "f0_spread": 0.5, "spectrum": 3.0}
    unvoiced = distances(Voice(None, None, 1.0, [1.0, -1.0]), Voice(5.5, 2.5, 0.4, [4.0, -4.0]))
    assert unvoiced == {"f0_median": None, "f0_spread": None, "spectrum": 3.0}
