"""What the gradient of the loss reaches: measured as a backward pass would, and what Coqui's model uses for what."""

import json

import pytest
import torch

from coqui_scl_plugin import SclVits
from coqui_scl_plugin.coqui.run_facts import DataAccess, collect_facts, name_optimizers
from coqui_scl_plugin.coqui.vits_modules import is_used_in_speech, makes_training_waveform
from coqui_scl_plugin.encoders.audio import ResampledAudio
from coqui_scl_plugin.errors import PreflightError
from coqui_scl_plugin.preflight.facts import TrainerFacts

pytestmark = pytest.mark.usefixtures("one_thread")

TWO = [{"name": "ge2e", "weight": 3.0}, {"name": "dvector", "policy": "trainable"}]
ENSEMBLE = {"name": "ensemble", "params": {"calibrate": False}}
SECTIONS = {
    "cosine": {"reference": {"source": "segment"}},
    "contrastive": {"loss": {"name": "contrastive"}, "reference": {"source": "segment"}},
    "two encoders": {"encoders": TWO, "loss": ENSEMBLE, "reference": {"source": "segment"}},
    "no posterior encoder": {"segment": {"detach_posterior": True}, "reference": {"source": "segment"}},
    "frozen in part": {
        "freeze": {"modules": [{"pattern": "waveform_decoder.ups"}, {"pattern": "emb_g"}]},
        "reference": {"source": "segment"},
    },
}


def facts_of(model, batch_of):
    model.train()
    known = TrainerFacts(
        config=model.config, optimizers=name_optimizers(model.get_optimizer()), train_samples=[], eval_samples=[]
    )
    return collect_facts(model.parts, known, DataAccess(lambda: batch_of(model), lambda consistency: None))


def gradients_by_module(model):
    return {
        name: {key: p.grad for key, p in module.named_parameters() if p.grad is not None and p.grad.any()}
        for name, module in model.named_children()
        if name not in ("disc", "speaker_encoder_loss")
    }


@pytest.mark.parametrize("section", SECTIONS)
def test_the_norms_are_those_of_a_backward_pass(tiny_config, batch_of, section):
    model = SclVits(tiny_config(SECTIONS[section]))
    facts = facts_of(model, batch_of)
    rows = facts.measure_reach()
    generated, real = facts.generate()
    assert all(p.grad is None for p in model.parameters())
    facts.consistency(ResampledAudio(generated, real.segments.sample_rate), real).loss.backward()
    expected = gradients_by_module(model)
    assert [row.module for row in rows] == [name for name, _ in model.named_children() if name in expected]
    for row in rows:
        own = expected[row.module]
        norm = torch.cat([gradient.flatten() for gradient in own.values()] or [torch.zeros(1)]).norm()
        assert (row.gradient_norm or 0.0) == pytest.approx(float(norm), rel=1e-4)
        assert row.reached == sum(gradient.numel() for gradient in own.values())
        trainable = [p for p in getattr(model, row.module).parameters() if p.requires_grad]
        assert row.trainable == sum(p.numel() for p in trainable)
        assert (row.gradient_norm is None) == (not trainable)
    reached = {row.module for row in rows if row.is_reached}
    assert reached == {"posterior_encoder", "waveform_decoder", "emb_g"} - {
        "no posterior encoder": {"posterior_encoder"}, "frozen in part": {"emb_g"}
    }.get(section, set())  # fmt: skip


def test_a_member_drawn_at_each_step_is_not_the_only_one_measured(tiny_config, batch_of):
    """The mean of all members is the expectation over the draws."""
    model = SclVits(
        tiny_config(
            {
                "encoders": TWO,
                "loss": {"name": "ensemble", "params": {"calibrate": False, "combine": "random"}},
                "reference": {"source": "segment"},
            }
        )
    )
    facts = facts_of(model, batch_of)
    rows = {row.module: row.gradient_norm for row in facts.measure_reach()}
    generated, real = facts.generate()
    audio, mean = ResampledAudio(generated, real.segments.sample_rate), 0.0
    for alias, share in (("ge2e", 0.75), ("dvector", 0.25)):
        consistency = facts.consistency
        pair = consistency.hear_generated(alias, audio), consistency.hear_real(alias, real, 0)
        mean = mean + share * consistency.member_loss(alias, *pair, real)
    (gradient,) = torch.autograd.grad(mean, model.emb_g.weight)
    assert rows["emb_g"] == pytest.approx(float(gradient.norm()), rel=1e-4)


def test_mixed_precision(tiny_config, batch_of):
    facts = facts_of(SclVits(tiny_config(SECTIONS["cosine"])), batch_of)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = facts.measure_reach()
    assert {row.module for row in rows if row.is_reached} == {"posterior_encoder", "waveform_decoder", "emb_g"}


VARIANTS = {
    "speaker embedding": {},
    "stochastic durations": {"use_sdp": True},
    "another rate": {"encoder_sample_rate": 8_000},
    "no speakers": {"use_speaker_embedding": False},
    "languages": {"use_language_embedding": True, "language_ids_file": "languages.json"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_modules_are_used_as_coquis_model_uses_them(tiny_config, batch_of, samples, tmp_path, monkeypatch, variant):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "languages.json").write_text(json.dumps({sample["language"]: 0 for sample in samples}))
    model = SclVits(tiny_config({"enabled": False, "weight": 0.0}, args=VARIANTS[variant]))
    batch = batch_of(model)
    modules = {name: module for name, module in model.named_children() if list(module.parameters())}
    assert ("emb_l" in modules) == (variant == "languages")
    inputs = (batch[key] for key in ("tokens", "token_lens", "spec", "spec_lens", "waveform"))
    conditioning = {key: batch[key] for key in ("d_vectors", "speaker_ids", "language_ids")}
    model.train().forward(*inputs, aux_input=conditioning)["model_outputs"].square().sum().backward()
    reached = {name for name, module in modules.items() if any(p.grad is not None for p in module.parameters())}
    assert reached == {name for name in modules if makes_training_waveform(name)}
    called = set()
    for name, module in modules.items():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    model.eval().inference(
        batch["tokens"][:1, :5],
        {
            "x_lengths": torch.tensor([5]),
            "speaker_ids": torch.tensor([0]),
            "d_vectors": None,
            "language_ids": torch.tensor([0]),
        },
    )
    assert called == {name for name in modules if is_used_in_speech(name)}


def test_modules_of_a_subclass_count_as_used():
    assert is_used_in_speech("emotion_encoder")
    assert makes_training_waveform("emotion_encoder")


def d_vector_args(samples, folder):
    path = folder / "d_vectors.json"
    own = {s["audio_unique_name"]: {"name": s["speaker_name"], "embedding": [0.1] * 8} for s in samples}
    path.write_text(json.dumps(own))
    return {
        "use_d_vector_file": True, "use_speaker_embedding": False, "d_vector_file": [str(path)], "d_vector_dim": 8
    }  # fmt: skip


def test_a_run_in_which_the_loss_teaches_nothing_that_speaks(tiny_config, make_trainer, samples, tmp_path):
    args = d_vector_args(samples, tmp_path) | {"freeze_waveform_decoder": True}
    with pytest.raises(PreflightError, match="'posterior_encoder' alone") as caught:
        make_trainer(SclVits(tiny_config(args=args)))
    assert "(check 'reach')" in str(caught.value)
    assert not list(tmp_path.glob("runs/*/"))


def test_a_run_records_what_the_gradient_reaches(tiny_config, make_trainer, samples, tmp_path):
    config = tiny_config({"preflight": {"skip": ["reach"]}}, args=d_vector_args(samples, tmp_path))
    trainer = make_trainer(SclVits(config))
    rows = json.loads((trainer.output_path / "preflight.json").read_text())["reach"]
    assert {row["module"] for row in rows if row["gradient_norm"]} == {"posterior_encoder", "waveform_decoder"}


class Detached(SclVits):
    """A decoder whose weights take no part in the graph."""

    def forward(self, *args, **kwargs):
        trained = [p for name in ("waveform_decoder", "emb_g") for p in getattr(self, name).parameters()]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            return super().forward(*args, **kwargs)
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)


def test_a_model_that_cuts_the_graph_itself(tiny_config, make_trainer):
    with pytest.raises(PreflightError, match=r"Look for a detach or torch\.no_grad in the model's forward"):
        make_trainer(Detached(tiny_config()))
