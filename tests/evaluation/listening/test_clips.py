"""What listeners hear: one loudness, and degraded speech."""

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import loudness

from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.listening.clips import LOUDNESS_LUFS, add_modulated_noise, equal_loudness, load_clips
from coqui_scl_plugin.evaluation.listening.questions import Clip


def lufs(loaded):
    waveform, rate = loaded
    return float(loudness(waveform[None], rate))


def test_clips_of_any_loudness_become_one(two_runs):
    clips = [Clip(made.path) for one in two_runs for made in one.synthetic]
    before = [lufs((torch.from_numpy(soundfile.read(clip.path, dtype="float32")[0]), 16_000)) for clip in clips]
    assert max(before) - min(before) > 15
    after = [lufs(loaded) for loaded in load_clips([*clips, Clip(clips[0].path, degraded=True)])[0]]
    assert after == pytest.approx([after[0]] * len(after), abs=0.2)
    assert LOUDNESS_LUFS - 6.1 < after[0] < LOUDNESS_LUFS + 0.1


def test_speech_far_beyond_full_scale_becomes_as_loud(two_runs):
    waveform = torch.from_numpy(soundfile.read(two_runs[1].synthetic[0].path, dtype="float32")[0])
    usual = equal_loudness(waveform, 16_000)
    for gain in (0.01, 1.0, 8.0):
        assert torch.allclose(equal_loudness(gain * waveform, 16_000), usual, atol=1e-5)


def test_a_long_pause_makes_speech_no_louder(two_runs, tmp_path):
    samples, rate = soundfile.read(two_runs[0].synthetic[0].path)
    speech = np.tile(samples, 5)
    soundfile.write(tmp_path / "plain.wav", speech, rate)
    soundfile.write(tmp_path / "pause.wav", np.append(speech, np.zeros(2 * len(speech))), rate)
    (plain, _), (paused, _) = load_clips([Clip(tmp_path / "plain.wav"), Clip(tmp_path / "pause.wav")])[0]
    gain = float(paused.square().sum().sqrt() / plain.square().sum().sqrt())
    assert 20 * np.log10(gain) == pytest.approx(0, abs=0.5)


def test_a_click_makes_the_other_clips_6_db_quieter_at_most(two_runs, tmp_path):
    samples, rate = soundfile.read(two_runs[0].synthetic[0].path)
    clicked = 0.05 * samples / np.abs(samples).max()
    clicked[len(clicked) // 2] = 1.0
    soundfile.write(tmp_path / "click.wav", clicked, rate)
    other = Clip(two_runs[1].synthetic[0].path)
    (alone,), (_, beside) = load_clips([other])[0], load_clips([Clip(tmp_path / "click.wav"), other])[0]
    assert -6.1 < lufs(beside) - lufs(alone) < -1


def test_silence_stays_silent_and_is_remarked_on(tmp_path):
    soundfile.write(tmp_path / "silent.wav", [0.0] * 8000, 8000)
    (loaded,), remarks = load_clips([Clip(tmp_path / "silent.wav")])
    assert not loaded[0].any()
    assert len(remarks) == 1
    assert "silent.wav is silence" in remarks[0]


@pytest.mark.parametrize(("content", "why"), [(b"", "empty"), (b"RIFF", "not readable"), (None, "no such file")])
def test_what_cannot_be_read_is_an_error(tmp_path, content, why):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"a\.wav cannot be listened to: .*{why}"):
        load_clips([Clip(path)])


def test_modulated_noise_has_the_ratio_asked_for_at_every_loudness():
    speech = torch.cat([torch.full((50_000,), 0.01), torch.full((50_000,), 0.5)])
    noise = add_modulated_noise(speech, 5.0, seed=0) - speech
    for half in (slice(None, 50_000), slice(50_000, None)):
        ratio = 10 * torch.log10(speech[half].square().mean() / noise[half].square().mean())
        assert float(ratio) == pytest.approx(5.0, abs=0.1)
    assert torch.equal(noise, add_modulated_noise(speech, 5.0, seed=0) - speech)
    assert not torch.equal(noise, add_modulated_noise(speech, 5.0, seed=1) - speech)
