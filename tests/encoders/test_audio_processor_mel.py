import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from coqui_encoder_files import CoquiFiles
from TTS.config import load_config
from TTS.config.shared_configs import BaseAudioConfig
from TTS.encoder.utils.generic_utils import setup_encoder_model
from TTS.tts.utils.speakers import SpeakerManager
from TTS.utils.audio import AudioProcessor

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.audio_processor_mel import AudioProcessorMel, normalise_peak, normalise_rms

BASE = {"num_mels": 80, "fft_size": 512, "win_length": 400, "hop_length": 160, "sample_rate": 16000}
SETTINGS = {
    "defaults": {},
    "mozilla": {
        "num_mels": 40, "fft_size": 400, "preemphasis": 0.98, "mel_fmax": 8000.0, "ref_level_db": 20,
        "symmetric_norm": True, "max_norm": 4.0, "clip_norm": True,
    },
    "yourtts": {
        "num_mels": 64, "preemphasis": 0.97, "mel_fmax": 8000.0, "signal_norm": False, "do_rms_norm": True,
        "db_level": -27.0,
    },
    "normalised from 0": {"symmetric_norm": False},
    "unclipped": {"clip_norm": False, "max_norm": 1.0},
    "unclipped from 0": {"clip_norm": False, "symmetric_norm": False, "min_level_db": -80, "ref_level_db": 0},
    "mel band": {"mel_fmin": 95.0, "mel_fmax": 7600.0, "preemphasis": 0.97},
    "natural logarithm": {"log_func": "np.log", "spec_gain": 1, "signal_norm": False},
    "linear": {"do_amp_to_db_mel": False, "signal_norm": False},
    "linear, normalised": {"do_amp_to_db_mel": False, "preemphasis": 0.97},
    "padded with zeros": {"stft_pad_mode": "constant"},
    "padded with the edge": {"stft_pad_mode": "edge"},
    "milliseconds": {"hop_length": None, "win_length": None, "frame_shift_ms": 10, "frame_length_ms": 20},
    "peak level": {"do_sound_norm": True, "signal_norm": False},
    "both levels": {"do_sound_norm": True, "do_rms_norm": True, "db_level": -20.0, "signal_norm": False},
}  # fmt: skip

librosa_load = pytest.mark.filterwarnings("ignore:.* is deprecated and slated for removal:DeprecationWarning")


def settings(name: str) -> BaseAudioConfig:
    return BaseAudioConfig(**BASE | SETTINGS[name])


def mel_of(audio: BaseAudioConfig) -> AudioProcessorMel:
    return AudioProcessorMel(AudioProcessor(audio))


def stock_features(audio: BaseAudioConfig, waveform: torch.Tensor) -> torch.Tensor:
    """Compute the features of `[B, T]` row by row, as stock does once a file is loaded and silence is cut."""
    processor = AudioProcessor(audio)
    rows = []
    for row in waveform.numpy():
        loaded = processor.sound_norm(row) if audio.do_sound_norm else row
        if audio.do_rms_norm:
            loaded = loaded * np.sqrt(len(loaded) * 10 ** (audio.db_level / 10) / np.sum(loaded**2))
        rows.append(processor.melspectrogram(loaded))
    return torch.from_numpy(np.stack(rows))


def gradient(mel: AudioProcessorMel, waveform: torch.Tensor) -> torch.Tensor:
    waveform = waveform.clone().requires_grad_()
    mel(waveform).sum().backward()
    return waveform.grad


def with_audio(files: CoquiFiles, folder: Path, audio: dict[str, object]) -> CoquiFiles:
    """The checkpoint with a config whose section `audio` differs in these keys."""
    config = json.loads(files.config_path.read_text())
    changed = files._replace(config_path=folder / "config.json")
    changed.config_path.write_text(json.dumps(config | {"audio": config["audio"] | audio}))
    return changed


def stock_encoder(files: CoquiFiles) -> torch.nn.Module:
    config = load_config(str(files.config_path))
    model = setup_encoder_model(config)
    model.load_checkpoint(config, str(files.model_path), eval=True)
    return model


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("samples", [512, 20001])
def test_features_equal_those_of_audio_processor(name, samples, speech_like):
    waveform = speech_like(2, samples)
    stock = stock_features(settings(name), waveform.double())
    exact = mel_of(settings(name)).double()
    exact.window = torch.hann_window(exact.stock.win_length, dtype=torch.float64)  # not one of float32 made longer
    torch.testing.assert_close(exact(waveform.double()).float(), stock, rtol=0, atol=1e-4)
    ours = mel_of(settings(name))(waveform)
    assert (ours - stock).abs().mean() < 1e-4
    # float32 leaves the least of all mel bands uncertain by thousandths of a decibel
    torch.testing.assert_close(ours, stock, rtol=0, atol=2e-2)


def test_the_settings_are_all_told_apart(speech_like):
    waveform = speech_like(1, 8192)
    features = {name: mel_of(settings(name))(waveform) for name in SETTINGS}
    for name, mel in features.items():
        same = [other for other in features if mel.shape == features[other].shape and torch.equal(mel, features[other])]
        assert same == [name]


@librosa_load
def test_features_equal_those_of_a_file_that_stock_loads(tmp_path, speech_like):
    waveform = speech_like(1, 20000)
    audio = settings("both levels")
    audio.do_trim_silence = False
    processor = AudioProcessor(audio)
    soundfile.write(tmp_path / "speech.wav", waveform[0].numpy(), 16000, subtype="FLOAT")
    stock = processor.melspectrogram(processor.load_wav(tmp_path / "speech.wav", sr=16000))
    torch.testing.assert_close(mel_of(audio)(waveform)[0], torch.from_numpy(stock), rtol=0, atol=2e-2)


@pytest.mark.parametrize("name", SETTINGS)
def test_gradient_is_finite_for_loud_quiet_half_silent_and_silent_sound(name, speech_like):
    mel = mel_of(settings(name))
    waveform = speech_like(2, 8192)
    half = waveform.clone()
    half[:, 4096:] = 0
    for sound in (waveform, 1e-2 * waveform, half):
        slope = gradient(mel, sound)
        assert torch.isfinite(slope).all()
        assert (slope[:, :4096].norm(dim=1) > 1e-3).all()
    assert torch.isfinite(gradient(mel, 1e-5 * waveform)).all()
    assert torch.isfinite(gradient(mel, torch.zeros(2, 8192))).all()


@pytest.mark.parametrize("name", SETTINGS)
def test_gradient_is_the_slope_that_small_steps_measure(name, speech_like):
    mel = mel_of(settings(name)).double()
    waveform = 0.1 * speech_like(1, 1600).double()
    way = torch.randn(1, 1600, generator=torch.Generator().manual_seed(1)).double()
    up, down = (mel(waveform + step * way).sum().item() for step in (1e-8, -1e-8))
    assert (gradient(mel, waveform) * way).sum().item() == pytest.approx((up - down) / 2e-8, rel=1e-3)


def test_what_is_clipped_has_no_gradient(speech_like):
    mel = mel_of(settings("mozilla"))
    inaudible = 1e-5 * speech_like(1, 8192)
    assert (mel(inaudible) == -4).all()
    assert (gradient(mel, inaudible) == 0).all()


def test_loudness_is_that_of_stock_and_silence_stays_silent(speech_like):
    sound = speech_like(2, 8192)
    assert normalise_peak(sound).abs().amax(dim=1).tolist() == pytest.approx([0.95, 0.95])
    dbfs = 20 * normalise_rms(sound, -27.0).square().mean(dim=1).sqrt().log10()
    assert dbfs.tolist() == pytest.approx([-27.0, -27.0], abs=1e-4)
    silence = torch.zeros(2, 100)
    assert torch.equal(normalise_peak(silence), silence)
    assert torch.equal(normalise_rms(silence, -27.0), silence)


@pytest.mark.parametrize("audio", [{}, {"signal_norm": True}, {"do_amp_to_db_mel": False}], ids=str)
@pytest.mark.parametrize("kind", ["resnet", "lstm"])
def test_embeddings_equal_stocks_own_on_stocks_features(kind, audio, coqui_files, speech_like, tmp_path):
    files = with_audio(coqui_files[f"{kind}-audio-processor"], tmp_path, audio)
    stock, ours = stock_encoder(files), build_encoder("coqui", files.params()).eval()
    for samples in (1024, 16001):
        waveform = speech_like(2, samples)
        with torch.no_grad():
            expected = stock(stock_features(stock.audio_config, waveform), l2_norm=True)
            torch.testing.assert_close(ours(waveform), expected, rtol=0, atol=1e-5)


@librosa_load
@pytest.mark.parametrize("kind", ["resnet", "lstm"])
def test_an_embedding_equals_that_of_stocks_speaker_manager(kind, coqui_files, speech_like, tmp_path):
    files = with_audio(coqui_files[f"{kind}-audio-processor"], tmp_path, {"do_trim_silence": False})
    manager = SpeakerManager(encoder_model_path=str(files.model_path), encoder_config_path=str(files.config_path))
    waveform = speech_like(1, 8192)
    soundfile.write(tmp_path / "speech.wav", waveform[0].numpy(), 16000, subtype="FLOAT")
    stock = torch.tensor(manager.compute_embedding_from_clip(str(tmp_path / "speech.wav")))
    with torch.no_grad():
        ours = build_encoder("coqui", files.params()).eval()(waveform)[0]
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-5)
