import csv
import math

import pytest
import soundfile
import torch

from coqui_scl_plugin.demo.corpus_files import BUNDLED
from coqui_scl_plugin.evaluation.audio_checks import loudness_dbfs, loudness_spread_db, normalise_loudness, problem_of

RATE = 16_000


def noise(seconds=1.0, loudness=0.1):
    return loudness * torch.randn(int(seconds * RATE), generator=torch.Generator().manual_seed(0))


def tone(seconds=1.0, frequency=440.0):
    return 0.5 * torch.sin(2 * math.pi * frequency / RATE * torch.arange(int(seconds * RATE)))


def rms(waveform):
    return math.sqrt(math.fsum(value * value for value in waveform.tolist()) / len(waveform))


@pytest.mark.parametrize("loudness", [1.0, 0.1, 0.002])
def test_loudness_is_that_of_the_root_mean_square(loudness):
    waveform = noise(0.2, loudness)
    assert loudness_dbfs(waveform) == pytest.approx(20 * math.log10(rms(waveform)), abs=1e-4)
    assert loudness_dbfs(torch.ones(8)) == 0
    assert loudness_dbfs(tone()) == pytest.approx(20 * math.log10(0.5) - 3.01, abs=0.01)  # a sine: 3 dB below its peak
    assert loudness_dbfs(torch.zeros(8)) == -200


@pytest.mark.parametrize("loudness", [0.9, 0.1, 0.002])
@pytest.mark.parametrize("dbfs", [-27.0, 0.0])
def test_normalised_to_a_loudness_and_otherwise_the_same(loudness, dbfs):
    waveform = noise(0.2, loudness)
    normalised = normalise_loudness(waveform, dbfs)
    assert rms(normalised) == pytest.approx(10 ** (dbfs / 20), rel=1e-5)
    factor = float(normalised[0] / waveform[0])
    torch.testing.assert_close(normalised, waveform * factor)


def test_silence_is_not_raised():
    for silence in (torch.zeros(800), torch.full((800,), 1e-4), noise(0.1, 1e-4)):
        assert torch.equal(normalise_loudness(silence, -27.0), silence)


@pytest.mark.parametrize(
    ("waveform", "problem"),
    [
        (torch.zeros(RATE), "silence"),
        (torch.full((RATE,), 1e-4), "silence"),
        (noise(), "steady noise or a tone"),
        (noise(0.3, 0.01), "steady noise or a tone"),
        (tone(), "steady noise or a tone"),
        (tone(0.5, 120.0), "steady noise or a tone"),
        (
            torch.tensor([0.1, math.nan] * RATE),
            f"not finite: {RATE} of {2 * RATE} samples NaN or infinite, the first at 0.000 s",
        ),
        (
            torch.cat([noise(), torch.tensor([-math.inf])]),
            f"not finite: 1 of {len(noise()) + 1} samples NaN or infinite, the first at {len(noise()) / RATE:.3f} s",
        ),
        (noise(0.04), "shorter than 0.05 s"),
        (torch.tensor([0.5]), "shorter than 0.05 s"),
    ],
)
def test_what_holds_no_speech(waveform, problem):
    assert problem_of(waveform, RATE) == problem


def test_the_rate_says_how_long_a_waveform_is():
    assert problem_of(noise(0.04), RATE) == "shorter than 0.05 s"
    assert problem_of(noise(0.04), RATE // 4) != "shorter than 0.05 s"


def test_what_comes_and_goes_is_not_steady():
    waveform = noise() * (torch.arange(RATE) % 4000 < 2000)
    assert problem_of(waveform + noise(1.0, 0.001), RATE) is None
    assert loudness_spread_db(noise(), RATE) < 1 < 10 < loudness_spread_db(waveform + noise(1.0, 0.001), RATE)


def problems(files):
    found = {}
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32")
        found[file.name] = problem_of(torch.from_numpy(samples), rate)
    return {name: problem for name, problem in found.items() if problem is not None}


def test_the_bundled_speech_is_speech():
    assert problems(BUNDLED.rglob("*.flac")) == {}


def test_real_speech_is_speech(libri10):
    with (libri10 / "metadata.csv").open(newline="") as stream:
        files = [libri10 / row["audio_file"] for row in csv.DictReader(stream, delimiter="|")]
    assert len(files) == 100
    assert problems(files) == {}
