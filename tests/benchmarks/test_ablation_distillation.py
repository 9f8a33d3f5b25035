"""A posterior encoder that learns from what the model says, and nothing else that changes."""

import pytest
import torch
from torch.distributions import Normal

from benchmarks.ablation.distillation import teach_posterior_encoder
from coqui_scl_plugin.coqui.vits_audio import spectrogram_for
from coqui_scl_plugin.demo.corpus_files import BUNDLED, Corpus
from coqui_scl_plugin.demo.small_vits import SmallVits, small_config
from coqui_scl_plugin.demo.start import Start

pytestmark = pytest.mark.usefixtures("one_thread")


@torch.inference_mode()
def surprise(model, text):
    """The mean negative log-likelihood of the latents of a sentence that the model says."""
    ids = torch.tensor([model.tokenizer.text_to_ids(text)])
    torch.manual_seed(1)
    said = model.inference(ids, {"x_lengths": torch.tensor([ids.shape[1]]), "d_vectors": None, "language_ids": None,
                                 "speaker_ids": torch.tensor([0]), "durations": None})  # fmt: skip
    spectrogram = spectrogram_for(model, said["model_outputs"][0, 0], model.config.audio.sample_rate)
    frames = min(spectrogram.shape[-1], said["z"].shape[-1])
    speaker = model.emb_g(torch.tensor([0])).unsqueeze(-1)
    _, mean, log_scale, _ = model.posterior_encoder(spectrogram[..., :frames], torch.tensor([frames]), g=speaker)
    return -Normal(mean, log_scale.exp()).log_prob(said["z"][..., :frames]).mean()


def test_latents_become_likely(tmp_path):
    corpus = Corpus.load(BUNDLED)
    model = SmallVits(small_config(corpus, steps=1, batch_size=2, seed=0, runs=tmp_path)).eval()
    untrained = {name: value.clone() for name, value in model.posterior_encoder.state_dict().items()}
    Start.load().fill(model)
    model.posterior_encoder.load_state_dict(untrained)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before = surprise(model, corpus.held_out[0]["text"])
    teach_posterior_encoder(model, [sample["text"] for sample in corpus.train], steps=20)
    assert surprise(model, corpus.held_out[0]["text"]) < before - 0.1
    moved = {name.partition(".")[0] for name, value in model.state_dict().items() if not value.equal(weights[name])}
    assert moved == {"posterior_encoder"}
