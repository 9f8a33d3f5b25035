"""A step of training against CAM++ on real speech, at each rate of speech that Coqui's models have, by each policy."""

import csv

import pytest
import soundfile
import torch
from quick_vits import QuickVits
from torchaudio.functional import resample
from TTS.config.shared_configs import BaseAudioConfig

from coqui_scl_plugin.demo import corpus_files
from coqui_scl_plugin.utils.fingerprint import named_tensors


@pytest.fixture
def at_rate(libri10, tmp_path):
    """A function that writes one short recording of each of four speakers at a rate, as a data set."""

    def write(rate):
        rows = []
        for sample in corpus_files.load_samples(libri10):
            if sample["speaker_name"] not in {row["speaker_name"] for row in rows} and len(rows) < 4:
                audio, own_rate = soundfile.read(sample["audio_file"], dtype="float32")
                first = resample(torch.from_numpy(audio[: 2 * own_rate]), own_rate, rate)
                name = f"{sample['speaker_name']}.wav"
                soundfile.write(tmp_path / name, first.numpy(), rate)
                rows.append({"audio_file": name, "text": sample["text"], "speaker_name": sample["speaker_name"]})
        with (tmp_path / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, rows[0], delimiter="|")
            table.writeheader()
            table.writerows(rows)
        return corpus_files.load_samples(tmp_path)

    return write


def bits_of(module):
    return {name: tensor.detach().clone().numpy().tobytes() for name, tensor in named_tensors(module).items()}


@pytest.mark.parametrize(("rate", "policy"), [(16_000, "frozen"), (22_050, "restore"), (24_000, "trainable")])
def test_a_step_against_campplus(at_rate, tiny_config, make_trainer, tmp_path, rate, policy):
    speech = at_rate(rate)
    section = {"weight": 1.0, "encoders": [{"name": "campplus", "policy": policy}], "reference": {"source": "segment"}}
    model = QuickVits(
        tiny_config(
            section,
            audio=BaseAudioConfig(sample_rate=rate),
            datasets=[corpus_files.dataset_config(tmp_path)],
            speakers=sorted(sample["speaker_name"] for sample in speech),
        )
    )
    seen = []
    step = model.train_step

    def noted(batch, criterion, optimizer_idx=None):
        outputs, losses = step(batch, criterion, optimizer_idx)
        if optimizer_idx == 1:
            term = losses["loss_spk_encoder"]
            (gradient,) = torch.autograd.grad(term, model.emb_g.weight, retain_graph=True)
            seen.append((term.item(), gradient.norm().item()))
        return outputs, losses

    model.train_step = noted
    trainer = make_trainer(model, train_samples=speech, eval_samples=speech)
    encoder = model.speaker_encoder_loss.encoders["campplus"]
    start, before = bits_of(encoder), model.emb_g.weight.detach().clone()
    trainer.fit()
    ((term, gradient),) = seen
    assert 0 < term < 2
    assert 0 < gradient < float("inf")
    assert not torch.equal(model.emb_g.weight, before)
    assert (bits_of(encoder) == start) == (policy != "trainable")
