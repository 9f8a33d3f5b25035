"""What the term sends into the generator."""

import pytest
import soundfile
import torch
from TTS.tts.models.vits import Vits

from coqui_scl_plugin import SclVits, build_encoder
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder


def generator_gradients(model, batch, *, seed):
    """Gradients of the speaker consistency term alone, by parameter."""
    criteria = model.get_criterion()
    torch.manual_seed(seed)
    model.train_step(batch, criteria[0], 0)
    _, losses = model.train_step(batch, criteria[1], 1)
    parameters = {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and not name.startswith(("disc.", "speaker_encoder"))
    }
    gradients = torch.autograd.grad(losses["loss_spk_encoder"], list(parameters.values()), allow_unused=True)
    return {name: g for name, g in zip(parameters, gradients, strict=True) if g is not None}, losses


def test_cosine_equals_the_gradients_of_stock(tiny_config, tiny_stock_config, coqui_files, batch_of):
    files = coqui_files["resnet"]
    stock = Vits(tiny_stock_config(args=files.stock_loss(), speaker_encoder_loss_alpha=9.0))
    section = {
        "weight": 9.0,
        "encoders": [{"name": "coqui", "params": files.params()}],
        "reference": {"source": "segment"},
        "segment": {"min_seconds": 0},
    }
    ours = SclVits(tiny_config(section))
    ours.load_state_dict(stock.state_dict())
    stock.train()
    stock.speaker_manager.encoder.eval()  # what stock means to do
    ours.train()
    batch = batch_of(stock)
    expected, stock_losses = generator_gradients(stock, batch, seed=3)
    found, our_losses = generator_gradients(ours, batch, seed=3)
    assert expected.keys() == found.keys()
    assert max(g.abs().max() for g in expected.values()) > 1e-3
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5, msg=name)
    assert our_losses["loss_spk_encoder"].item() == pytest.approx(
        stock_losses["loss_spk_encoder"].item() + 9.0, abs=1e-4
    )
    assert our_losses["reference_cosine_coqui"].item() == pytest.approx(
        -stock_losses["loss_spk_encoder"].item() / 9.0, abs=1e-5
    )


def test_the_term_is_the_only_difference_to_a_run_without(tiny_config, batch_of):
    on, off = SclVits(tiny_config({"weight": 5.0})), SclVits(tiny_config({"enabled": False}))
    off.load_state_dict(dict(on.state_dict()))
    batch, criteria = batch_of(off), off.get_criterion()
    on.get_criterion()
    results = []
    for model in (on, off):
        torch.manual_seed(1)
        model.train_step(batch, criteria[0], 0)
        results.append(model.train_step(batch, criteria[1], 1)[1])
    with_term, without = results
    assert "loss_spk_encoder" not in without
    term = with_term["loss_spk_encoder"]
    torch.testing.assert_close(with_term["loss"], without["loss"] + term)
    assert term.item() == pytest.approx(5.0 * (1 - with_term["reference_cosine_ge2e"].item()), abs=1e-4)


def test_detach_posterior_spares_the_posterior_encoder_alone(tiny_config, batch_of):
    gradients, losses = {}, {}
    for detach in (False, True):
        torch.manual_seed(0)
        model = SclVits(tiny_config({"segment": {"min_seconds": 1.0, "detach_posterior": detach}}))
        gradients[detach], losses[detach] = generator_gradients(model, batch_of(model), seed=2)
    assert any(name.startswith("posterior_encoder.") for name in gradients[False])
    assert not any(name.startswith("posterior_encoder.") for name in gradients[True])
    for name in (n for n in gradients[False] if n.startswith("waveform_decoder.")):
        torch.testing.assert_close(gradients[True][name], gradients[False][name], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses[True]["loss_spk_encoder"], losses[False]["loss_spk_encoder"])


def test_mixed_precision_leaves_the_term_in_float32(tiny_config, batch_of):
    torch.manual_seed(0)
    model = SclVits(tiny_config())
    batch = batch_of(model)
    criteria = model.get_criterion()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, _ = model.train_step(batch, criteria[0], 0)
        _, losses = model.train_step(batch, criteria[1], 1)
    assert outputs["model_outputs"].dtype == torch.bfloat16
    assert losses["loss_spk_encoder"].dtype == torch.float32
    (gradient,) = torch.autograd.grad(losses["loss_spk_encoder"], outputs["model_outputs"])
    assert gradient.isfinite().all()
    assert gradient.norm() > 0


def test_ensemble_gradients_are_the_weighted_mean_of_its_members(tiny_config, batch_of):
    found = {}
    encoders = {"ge2e": {"name": "ge2e", "weight": 3.0}, "dvector": {"name": "dvector"}}
    for key, chosen in {**{name: [spec] for name, spec in encoders.items()}, "both": list(encoders.values())}.items():
        loss = {"name": "ensemble", "params": {"calibrate": False}} if key == "both" else {"name": "cosine"}
        torch.manual_seed(0)
        model = SclVits(tiny_config({"weight": 1.0, "encoders": chosen, "loss": loss}))
        found[key], _ = generator_gradients(model, batch_of(model), seed=4)
    for name, gradient in found["both"].items():
        torch.testing.assert_close(
            gradient, 0.75 * found["ge2e"][name] + 0.25 * found["dvector"][name], rtol=1e-4, atol=1e-6
        )


def test_the_reference_is_the_whole_recording_on_disk(tiny_config, batch_of, samples):
    model = SclVits(tiny_config({"weight": 1.0, "segment": {"min_seconds": 1.6}}))
    batch, criteria = batch_of(model, 3), model.get_criterion()
    model.train_step(batch, criteria[0], 0)
    outputs, losses = model.train_step(batch, criteria[1], 1)
    encoder = SegmentEncoder(build_encoder("ge2e").eval())
    cosines = []
    with torch.no_grad():
        for name, generated in zip(batch["audio_files"], outputs["model_outputs"], strict=True):
            (file,) = [s["audio_file"] for s in samples if s["audio_file"].endswith(name)]
            recording = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
            cosines.append((encoder(generated) @ encoder(recording[None]).T).item())
    assert losses["reference_cosine_ge2e"].item() == pytest.approx(sum(cosines) / 3, abs=1e-4)
