"""Training steps, evaluation, references, speech and the demo, with all tensors where a GPU would hold them.

No GPU is needed: see `support/pretend_cuda.py`. What these tests cannot show is in `test_real_gpu.py`.
"""

import contextlib
import copy

import pytest
import torch
from pretend_cuda import OnCuda, moved, pretended_cuda, uploaded
from quick_vits import QuickVits

from coqui_scl_plugin.coqui.vits_audio import convert_voice, speaker_conditioning, spectrogram_for
from coqui_scl_plugin.demo import corpus_files
from coqui_scl_plugin.demo.scores import write_audio
from coqui_scl_plugin.demo.small_vits import SmallVits, small_config
from coqui_scl_plugin.demo.speech import speech_of
from coqui_scl_plugin.freeze import DriftGuard
from coqui_scl_plugin.monitoring.monitor import SimilarityMonitor
from coqui_scl_plugin.references import fill
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.recordings import recordings_of

SECTIONS = {
    "window, channel, three losses": {
        "window": {"seconds": 1.0, "items": 2, "every_n_steps": 1},
        "augment": {"room_seconds": 0.2, "noise_snr_db": [10, 20], "equaliser_db": 6, "gain_db": 6},
        "reference": {"source": "cross_utterance"},
        "encoders": [{"name": "ge2e"}, {"name": "campplus"}],
        "loss": {
            "name": "ensemble",
            "params": {"members": {"campplus": {"features": 1, "contrastive": 1}, "ge2e": {"name": "cosine"}}},
        },
    },
    "prototypes, share, restore": {
        "reference": {"source": "centroid"},
        "loss": {"name": "angular_margin", "params": {"prototypes": "centroid"}},
        "encoders": [{"name": "ge2e", "policy": "restore"}],
        "segment": {"detach_posterior": True},
        "gradient_share": 0.1,
    },
    "margin of the batch": {
        "reference": {"source": "utterance"},
        "loss": {"name": "angular_margin"},
        "window": {"seconds": 0.0, "items": 3, "every_n_steps": 1},
    },
}
RESTORED = "restore"
STOCK = "coqui/vits.py"
"""Where Coqui's own code runs: it waits some 50 times in a step, whatever this package does."""


def made(section, tiny_config, batch_of, samples):
    """A model with embedded references and a batch of the trainer's, as before the first step."""
    torch.manual_seed(0)
    model = QuickVits(tiny_config(section))
    model.get_criterion()
    recordings = recordings_of([dict(sample) for sample in samples[:12]])
    model.speaker_encoder_loss.embed_references(recordings, ReferenceCache())
    return model, batch_of(model)


def train(model, batch, step):
    """Take both turns of a step, as the trainer does; return the generator's losses."""
    run, criteria = model.training_run, model.get_criterion()
    run.step = step
    run._gradient_check_due = step == 0
    torch.manual_seed(step)
    for turn in (0, 1):
        _, losses = model.train_step(batch, criteria[turn], turn)
        losses["loss"].backward()
    run.parts.apply_policies()
    run._gradient_guard.check(step)
    model.zero_grad()
    return losses


@torch.no_grad()
def evaluate(model, batch):
    """Take both turns of an evaluation step; return the generator's losses and similarities."""
    model.training_run.monitor = SimilarityMonitor(model.speaker_encoder_loss, model.config.scl.evaluation, None)
    torch.manual_seed(0)
    for turn, criterion in enumerate(model.get_criterion()):
        _, losses = model.eval_step(batch, criterion, turn)
    return losses


def on_cpu(value):
    return value.held if isinstance(value, OnCuda) else value


class OneThread:
    """In place of a pool: the device is pretended in one thread alone."""

    map = staticmethod(map)


def of_the_package(counts):
    return {place: count for place, count in counts.items() if STOCK not in place[1]}


@pytest.mark.parametrize("name", SECTIONS)
def test_a_training_step_waits_for_nothing_and_computes_what_the_cpu_does(name, tiny_config, batch_of, samples):
    model, batch = made(SECTIONS[name], tiny_config, batch_of, samples)
    model.train()
    expected = [train(model, batch, step) for step in (0, 1)]
    if model.speaker_encoder_loss.gradient_share is not None:
        model.speaker_encoder_loss.gradient_share.forget()
    with pretended_cuda() as ledger:
        moved(model)
        batch = uploaded(batch)
        first = train(model, batch, 0)
        ledger.clear()
        second = train(model, batch, 1)
        waits = of_the_package(ledger.own())
        copies = sum(of_the_package(ledger.own("copies")).values())
        order = {place for place in ledger.own("any_order") if "losses/" in place[1]}
        recurrent = dict(ledger.recurrent)
    for found, known in zip((first, second), expected, strict=True):
        for key in ("loss_spk_encoder", "loss_mel"):
            torch.testing.assert_close(on_cpu(found[key]), known[key], rtol=1e-3, atol=1e-4)
    if RESTORED in name:  # each comparison of the whole encoder is read once
        assert all("fingerprint.py" in place for _, place in waits), waits
        assert sum(waits.values()) <= 3
    else:
        assert waits == {}
    assert copies <= 9  # speakers, references of two encoders, and the room, filter and noise of two channels
    assert order == set()
    assert recurrent == {("cudnn", True): 1}  # backward through a frozen LSTM, with cuDNN
    encoders = model.speaker_encoder_loss.encoders.values()
    assert not any(part.training for encoder in encoders for part in encoder.modules())


def test_evaluation_and_references_on_a_gpu_equal_those_of_the_cpu(tiny_config, batch_of, samples, monkeypatch):
    monkeypatch.setattr(fill, "workers", lambda device: contextlib.nullcontext(OneThread()))
    section = {"encoders": [{"name": "ge2e"}], "holdout": [{"name": "campplus"}]}
    model, batch = made(section, tiny_config, batch_of, samples)
    consistency = model.speaker_encoder_loss
    embedded = {alias: rows.clone() for alias, rows in consistency.references.embeddings.by_encoder.items()}
    on_the_cpu = evaluate(model.eval(), batch)
    with pretended_cuda() as ledger:
        moved(model)
        found = evaluate(model, uploaded(batch))
        consistency.embed_references(recordings_of([dict(s) for s in samples[:12]]), ReferenceCache())
        guard = DriftGuard(model.parts.frozen_encoders())
        ledger.clear()
        guard.check(1)
        assert sum(ledger.own().values()) == 2  # one copy of each encoder
    for key in ("cross_utterance_ge2e", "cross_utterance_campplus"):
        assert found[key] == pytest.approx(on_the_cpu[key], abs=1e-4)
    for alias, rows in embedded.items():
        torch.testing.assert_close(consistency.references.embeddings.by_encoder[alias], rows, rtol=0, atol=1e-4)


def test_the_demo_and_speech_of_a_run_reach_the_cpu(tmp_path):
    corpus = corpus_files.Corpus.load(corpus_files.BUNDLED)
    corpus = copy.copy(corpus)
    object.__setattr__(corpus, "held_out", corpus.held_out[:2])
    torch.manual_seed(0)
    model = SmallVits(small_config(corpus, steps=1, batch_size=2, seed=0, runs=tmp_path)).eval()
    with pretended_cuda():
        moved(model)
        speech = speech_of(model, corpus, seed=0)
        sets = write_audio(tmp_path / "audio", corpus, {"with_scl": speech, "without_scl": speech})
        sample = corpus.held_out[0]
        spec = spectrogram_for(model, corpus_files.load_beginning(sample), corpus.rate)
        voice = speaker_conditioning(model, sample["speaker_name"])
        assert convert_voice(model, spec, voice, voice).is_cuda
    assert all(not isinstance(waveform, OnCuda) for waveforms in speech.values() for waveform in waveforms)
    assert all(made.path.is_file() for one in sets.values() for made in one.synthetic)
