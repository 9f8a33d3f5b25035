import copy
import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from TTS.config import load_config
from TTS.encoder.utils.generic_utils import setup_encoder_model

from coqui_scl_plugin import build_encoder

KINDS = ("resnet", "lstm")


def stock_encoder(files) -> torch.nn.Module:
    config = load_config(str(files.config_path))
    model = setup_encoder_model(config)
    model.load_checkpoint(config, str(files.model_path), eval=True)
    return model


def our_encoder(files) -> torch.nn.Module:
    return build_encoder("coqui", files.params()).eval()


def equal_error_rate(embeddings: np.ndarray, speakers: list[str]) -> float:
    """Over all pairs: where as many same-speaker pairs are refused as others are accepted."""
    first, second = np.triu_indices(len(embeddings), 1)
    scores = (embeddings @ embeddings.T)[first, second]
    same = np.array(speakers)[first] == np.array(speakers)[second]
    thresholds = np.sort(scores)
    refused = np.searchsorted(np.sort(scores[same]), thresholds) / same.sum()
    accepted = 1 - np.searchsorted(np.sort(scores[~same]), thresholds) / (~same).sum()
    nearest = np.argmin(np.abs(refused - accepted))
    return float((refused[nearest] + accepted[nearest]) / 2)


def utterances(libri10: Path) -> list[tuple[str, torch.Tensor]]:
    with (libri10 / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    return [
        (row["speaker_name"], torch.from_numpy(soundfile.read(libri10 / row["audio_file"], dtype="float32")[0]))
        for row in rows
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [8192, 32000])
def test_coqui_embeddings_equal_stocks_own(coqui_files, speech_like, kind, samples):
    waveform = speech_like(3, samples)
    with torch.no_grad():
        stock = stock_encoder(coqui_files[kind])(waveform.clone().unsqueeze(1), l2_norm=True)
        ours = our_encoder(coqui_files[kind])(waveform)
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-5)


def test_stocks_lstm_gives_the_waveform_no_gradient_and_ours_does(coqui_files, speech_like):
    waveform = speech_like(2, 16000)
    for_stock, for_ours = (waveform.clone().requires_grad_() for _ in range(2))
    # stock squeezes in place, which a leaf with a gradient refuses
    stock_encoder(coqui_files["lstm"])(for_stock.clone().unsqueeze(1), l2_norm=True)[:, 0].sum().backward()
    our_encoder(coqui_files["lstm"])(for_ours)[:, 0].sum().backward()
    assert for_stock.grad is None
    assert for_ours.grad.norm() > 1e-6


def test_the_resnets_gradient_equals_that_of_stock(coqui_files, speech_like):
    waveform = speech_like(2, 16000)
    for_stock, for_ours = (waveform.clone().requires_grad_() for _ in range(2))
    stock_encoder(coqui_files["resnet"])(for_stock.clone().unsqueeze(1), l2_norm=True)[:, 0].sum().backward()
    our_encoder(coqui_files["resnet"])(for_ours)[:, 0].sum().backward()
    assert for_stock.grad.norm() > 1e-6
    assert (for_ours.grad - for_stock.grad).norm() < 1e-3 * for_stock.grad.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_of_the_checkpoint_is_in_use(coqui_files, speech_like, kind):
    waveform = speech_like(1, 16000)
    encoder = our_encoder(coqui_files[kind])
    stored = torch.load(coqui_files[kind].model_path, weights_only=True)["model"]
    loaded = copy.deepcopy(encoder.model).state_dict()
    assert stored.keys() == loaded.keys()
    assert all(torch.equal(stored[name], loaded[name]) for name in stored)
    assert not torch.equal(encoder(waveform), encoder(waveform.flip(1)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ge2e", 0.44),
        pytest.param("dvector", 1.56, marks=pytest.mark.nightly),
        pytest.param("campplus", 0.22, marks=pytest.mark.nightly),
    ],
)
def test_equal_error_rate_on_real_speech(libri10, name, expected):
    encoder = build_encoder(name).eval()
    speech = utterances(libri10)
    assert len(speech) == 100
    with torch.inference_mode():
        embeddings = torch.cat([encoder(waveform[None]) for _, waveform in speech]).numpy()
    percent = 100 * equal_error_rate(embeddings, [speaker for speaker, _ in speech])
    assert percent == pytest.approx(expected, abs=0.15)
