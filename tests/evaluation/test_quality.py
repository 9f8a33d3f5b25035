import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.quality import QualityJudge
from coqui_scl_plugin.references.recordings import Recording

RATE = 16_000
WINDOW = int(9.01 * RATE)


@pytest.fixture(scope="module")
def judge():
    return QualityJudge()


@pytest.fixture(scope="module")
def speech(libri10):
    """Real speech, a little longer than the window of DNSMOS, so that there is one window."""
    path = next(path for path in sorted(libri10.rglob("*.flac")) if soundfile.info(path).duration > 9.5)
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return torch.from_numpy(samples[: int(9.5 * RATE)])


def opinion(judge, waveform, rate=RATE):
    return judge.opinion(Recording("a", Path("a.wav"), "ann"), waveform, rate)


def by_the_network(waveform):
    """The three figures by the network in the wheel and the polynomials of Microsoft's DNSMOS script."""
    folder = Path(importlib.util.find_spec("speechmos").origin).parent
    session = onnxruntime.InferenceSession(str(folder / "dnsmos_models" / "sig_bak_ovr.onnx"))
    signal, background, overall = session.run(None, {"input_1": waveform[None, :WINDOW]})[0][0]
    return {
        "dnsmos": 0.04602535 + 1.11546468 * overall - 0.06766283 * overall**2,
        "dnsmos_signal": 0.0052439 + 1.22083953 * signal - 0.08397278 * signal**2,
        "dnsmos_background": -0.39604546 + 1.60915514 * background - 0.13166888 * background**2,
    }


def test_it_is_what_the_network_of_dnsmos_says(judge, speech):
    found = opinion(judge, speech)
    assert found == pytest.approx(by_the_network(speech.numpy()), abs=1e-4)
    assert 2.5 < found["dnsmos"] < 4


def test_noise_lowers_it(judge, speech):
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.02, len(speech))).float()
    clean, noisy = opinion(judge, speech), opinion(judge, speech + noise)
    assert noisy["dnsmos"] < clean["dnsmos"] - 0.3
    assert noisy["dnsmos_background"] < clean["dnsmos_background"] - 0.5


def test_peaks_over_full_scale_are_scaled_and_not_cut(judge, speech):
    full = speech / speech.abs().max()
    assert opinion(judge, 3 * full) == pytest.approx(opinion(judge, full), abs=1e-3)


def test_other_rates_are_resampled(judge, speech):
    twice = torch.from_numpy(np.interp(np.arange(2 * len(speech)) / 2, np.arange(len(speech)), speech)).float()
    assert opinion(judge, twice, 2 * RATE)["dnsmos"] == pytest.approx(opinion(judge, speech)["dnsmos"], abs=0.3)


@pytest.mark.parametrize("waveform", [torch.zeros(0), torch.full((RATE,), torch.nan)])
def test_where_there_is_no_signal_it_is_unknown(judge, waveform):
    assert opinion(judge, waveform) == dict.fromkeys(judge.measures)


def test_silence_and_few_samples_have_a_figure(judge):
    for waveform in (torch.zeros(10 * RATE), torch.full((RATE // 200,), 0.1)):
        assert all(np.isfinite(value) for value in opinion(judge, waveform).values())


def test_without_speechmos_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    with pytest.raises(ConfigError, match=r'--quality needs speechmos: pip install "coqui-scl-plugin\[quality\]"'):
        QualityJudge()
