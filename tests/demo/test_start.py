"""The start of the demo: that it ships, that it speaks, what it does with other speech, and how it was made."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors import safe_open
from setuptools import Distribution
from TTS.utils.audio.torch_transforms import wav_to_mel

from coqui_scl_plugin.coqui.vits_audio import reconstruct, speaker_conditioning, spectrogram_for
from coqui_scl_plugin.demo.corpus_files import BUNDLED, Corpus, load_beginning
from coqui_scl_plugin.demo.small_vits import SmallVits, small_config
from coqui_scl_plugin.demo.start import START, Start

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "make_demo_start.py"
pytestmark = pytest.mark.usefixtures("one_thread")


def model_for(corpus):
    torch.manual_seed(0)
    return SmallVits(small_config(corpus, steps=1, batch_size=2, seed=0, runs=corpus.folder)).eval()


def written(folder, speakers, rate=16_000):
    """A corpus of two noises of each speaker; the text holds a letter that the model cannot read."""
    rows = [f"{speaker}{number}.wav|grün|{speaker}" for speaker in speakers for number in range(2)]
    for row in rows:
        soundfile.write(folder / row.partition("|")[0], torch.randn(rate).mul(0.1).numpy(), rate)
    (folder / "metadata.csv").write_text("\n".join(["audio_file|text|speaker_name", *rows]), encoding="utf-8")
    return Corpus.load(folder)


def test_it_is_small_in_half_precision_and_says_how_it_was_made():
    assert START.stat().st_size <= 5_000_000
    with safe_open(START, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118  # no mapping
        made = json.loads(file.metadata()["demo_start"])
    assert (ROOT / made["script"]) == SCRIPT
    assert made["steps"] >= 1000
    assert made["seed"] == 0


def test_the_wheel_holds_it_and_the_corpus(monkeypatch):
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files(["setup.cfg"])
    distribution.include_package_data = False  # without a MANIFEST.in, package_data alone counts
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    command.analyze_manifest()
    shipped = {Path(file).resolve() for file in command.find_data_files("coqui_scl_plugin", "coqui_scl_plugin")}
    assert {START, BUNDLED / "metadata.csv", BUNDLED / "slt" / "slt_01.flac"} <= shipped


def mel_distance(model, corpus):
    """Mean distance of log-mel spectrograms of the held-out recordings and their reconstructions."""
    audio, distances = model.config.audio, []
    for sample in corpus.held_out:
        real = load_beginning(sample)
        conditioning = speaker_conditioning(model, sample["speaker_name"])
        made = reconstruct(model, spectrogram_for(model, real, corpus.rate), conditioning)
        mels = [
            wav_to_mel(
                waveform[None, None], audio.fft_size, audio.num_mels, audio.sample_rate, audio.hop_length,
                audio.win_length, audio.mel_fmin, audio.mel_fmax, center=False,
            )[..., : len(made) // audio.hop_length]
            for waveform in (real, made)
        ]  # fmt: skip
        distances.append(float((mels[0] - mels[1]).abs().mean()))
    return sum(distances) / len(distances)


def test_it_reconstructs_held_out_speech_which_random_weights_do_not():
    corpus = Corpus.load(BUNDLED)
    model = model_for(corpus)
    random = mel_distance(model, corpus)
    Start.load().fill(model)
    assert mel_distance(model, corpus) < 0.4 * random


def test_its_own_corpus_is_not_new_to_it():
    assert Start.load().misfits(Corpus.load(BUNDLED)) == ""


def test_other_speech_gets_what_fits_and_one_line_says_what_did_not(tmp_path):
    corpus, start = written(tmp_path, ["anna", "slt", "zoe"], rate=22_050), Start.load()
    model = model_for(corpus)
    start.fill(model)
    own, rows = start.weights["emb_g.weight"], model.emb_g.weight
    assert model.speaker_manager.speaker_names == ["anna", "slt", "zoe"]
    assert torch.equal(rows[1], own[start.speakers.index("slt")])
    assert torch.allclose(rows[0], own.mean(dim=0))
    assert torch.equal(rows[0], rows[2])
    for name, tensor in model.state_dict().items():
        assert name == "emb_g.weight" or torch.equal(tensor, start.weights[name]), name
    line = start.misfits(corpus)
    assert "\n" not in line
    assert [part for part in ("2 of 3 speakers", "22050 Hz in place of 16000 Hz", "ü") if part not in line] == []


def run_script(work, out, steps):
    arguments = [str(work), "--out", str(out), "--steps", str(steps), "--block", "1"]
    subprocess.run([sys.executable, str(SCRIPT), *arguments], check=True, capture_output=True, timeout=600)
    return out.read_bytes()


@pytest.mark.nightly
def test_the_script_repeats_and_resumes_what_it_did(tmp_path):
    made = run_script(tmp_path / "work", tmp_path / "made.safetensors", 2)
    first = (tmp_path / "work" / "start_1.pth").stat().st_mtime_ns
    (tmp_path / "work" / "start_2.pth").unlink()
    assert run_script(tmp_path / "work", tmp_path / "resumed.safetensors", 2) == made
    assert (tmp_path / "work" / "start_1.pth").stat().st_mtime_ns == first
    last = torch.load(tmp_path / "work" / "start_2.pth", weights_only=True)["model"]
    weights = Start.load(tmp_path / "made.safetensors").weights
    assert weights.keys() == last.keys()
    assert all(torch.equal(weights[name], tensor.half().float()) for name, tensor in last.items())
    before = torch.load(tmp_path / "work" / "start_1.pth", weights_only=True)["model"]
    assert not torch.equal(before["emb_g.weight"], last["emb_g.weight"])
