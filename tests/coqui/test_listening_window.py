"""The window that the loss listens to: what it hears, when, and that the gradient comes back."""

import random

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.functional import interpolate

from coqui_scl_plugin import SclVits
from coqui_scl_plugin.coqui.listening_window import draw_window
from coqui_scl_plugin.coqui.vits_batch import listen
from coqui_scl_plugin.errors import ConfigError

HOP = 256


def stepped(model, batch, *, seed=5):
    """Outputs of the generator, and losses, of a step."""
    criteria = model.get_criterion()
    torch.manual_seed(seed)
    model.train_step(batch, criteria[0], 0)
    return model.train_step(batch, criteria[1], 1)


def watch_encoder(model, alias="ge2e"):
    """A list of the waveforms with a gradient that an encoder hears from now on."""
    heard = []

    def note(encoder, arguments):
        if arguments[0].requires_grad or torch.is_inference_mode_enabled():
            heard.append(arguments[0].detach().clone())

    model.parts.build_consistency()
    model.speaker_encoder_loss.encoders[alias].encoder.register_forward_pre_hook(note)
    return heard


def decoded_by_hand(model, batch, outputs, item, start, frames):
    """The decoder's output for a stretch of one item's latents, without any function of the package."""
    factor = int(model.interpolate_factor) if model.args.encoder_sample_rate else 1
    latents = outputs["z"][[item], :, start : start + frames].detach()
    if factor > 1 and model.args.interpolate_z:
        latents = interpolate(latents, scale_factor=[float(factor)], mode="linear")
    if model.args.use_d_vector_file:
        conditioning = torch.nn.functional.normalize(batch["d_vectors"][[item]]).unsqueeze(-1)
    else:
        conditioning = model.emb_g(batch["speaker_ids"][[item]]).unsqueeze(-1).detach()
    return model.waveform_decoder(latents, g=conditioning).detach()[0, 0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"args": {"encoder_sample_rate": 8_000, "interpolate_z": True}},
        {
            "args": {
                "encoder_sample_rate": 8_000,
                "interpolate_z": False,
                "upsample_rates_decoder": [8, 8, 4, 2],
            }
        },
    ],
    ids=["one rate", "interpolated latents", "a decoder of twice the rate"],
)
@pytest.mark.parametrize("items", [None, 2, 1])
def test_the_encoder_hears_the_decoders_output_for_the_same_latents(tiny_config, batch_of, changes, items):
    section = {"window": {"seconds": 0.7, "items": items, "every_n_steps": 3}, "reference": {"source": "segment"}}
    model = SclVits(tiny_config(section, **changes)).train()
    heard, batch = watch_encoder(model), batch_of(model)
    model.training_run.step = 3
    outputs, losses = stepped(model, batch)
    (waveforms,) = heard
    factor = 2 if model.args.encoder_sample_rate else 1
    frames = round(0.7 * 16_000 / HOP / factor)
    generated, real = listen(model, batch, outputs, model.config.scl, step=3)
    samples = frames * HOP * factor
    assert generated.shape == (items or 4, samples)
    torch.testing.assert_close(waveforms[:, :samples], generated.detach(), rtol=0, atol=0)
    window = draw_window(batch["audio_unique_names"], batch["spec_lens"].tolist(), frames, items=items, step=3)
    for row, (item, start) in enumerate(zip(window.items, window.starts, strict=True)):
        expected = decoded_by_hand(model, batch, outputs, item, start, frames)
        torch.testing.assert_close(generated[row].detach(), expected, rtol=0, atol=1e-6)
        at = start * HOP * factor
        torch.testing.assert_close(real.segments.at(16_000)[row], batch["waveform"][item, 0, at : at + samples])
        assert real.names[row] == batch["audio_unique_names"][item]
        assert real.speakers[row] == batch["speaker_names"][item]
    assert torch.isfinite(losses["loss_spk_encoder"])


def test_with_a_seed_of_its_own_the_window_leaves_the_other_losses_alone(tiny_config, batch_of):
    found = []
    for seconds in (0.0, 0.7):
        torch.manual_seed(0)
        model = SclVits(tiny_config({"window": {"seconds": seconds}})).train()
        batch = batch_of(model)
        random.seed(1)
        found.append((stepped(model, batch)[1], torch.rand(1), random.random()))
    (plain, *states), (windowed, *later) = found
    assert states == later
    for name in ("loss_mel", "loss_kl", "loss_gen", "loss_feat", "loss_duration"):
        assert torch.equal(plain[name], windowed[name]), name
    assert not torch.equal(plain["loss_spk_encoder"], windowed["loss_spk_encoder"])


def test_the_shortest_item_bounds_the_window_and_nothing_is_padded():
    lengths = [40, 12, 90]
    for step in range(50):
        window = draw_window(["a", "b", "c"], lengths, 60, items=None, step=step)
        assert window.items == [0, 1, 2]
        assert window.frames == 12
        assert all(0 <= s <= n - 12 for s, n in zip(window.starts, lengths, strict=True))
        of_two = draw_window(["a", "b", "c"], lengths, 60, items=2, step=step)
        assert of_two.frames == min(60, *(lengths[item] for item in of_two.items))
    places = {draw_window(["a", "b", "c"], lengths, 60, items=None, step=step).starts[2] for step in range(400)}
    assert {0, 78} <= places  # from the first place to the last
    chosen = {tuple(draw_window(["a", "b", "c"], lengths, 60, items=2, step=step).items) for step in range(50)}
    assert chosen == {(0, 1), (0, 2), (1, 2)}


def test_an_item_without_a_frame():
    assert draw_window(["a", "b"], [40, 0], 60, items=None, step=0)[1:] == (
        [draw_window(["a"], [40], 1, items=None, step=0).starts[0], 0],
        1,
    )


def test_d_vectors_and_their_conditioning(tiny_config, batch_of):
    args = {"use_speaker_embedding": False, "use_d_vector_file": True, "d_vector_dim": 16}
    model = SclVits(tiny_config({"window": {"seconds": 0.6, "items": 3}}, args)).train()
    batch = batch_of(model) | {"d_vectors": torch.randn(4, 16), "speaker_ids": None}
    outputs, _ = stepped(model, batch)
    generated, real = listen(model, batch, outputs, model.config.scl)
    frames = round(0.6 * 16_000 / HOP)
    window = draw_window(batch["audio_unique_names"], batch["spec_lens"].tolist(), frames, items=3, step=0)
    for row, (item, start) in enumerate(zip(window.items, window.starts, strict=True)):
        expected = decoded_by_hand(model, batch, outputs, item, start, frames)
        torch.testing.assert_close(generated[row].detach(), expected, rtol=0, atol=1e-6)
        assert real.names[row] == batch["audio_unique_names"][item]


@pytest.mark.parametrize("seconds", [0.0, 0.7])
@pytest.mark.parametrize("detach", [False, True])
def test_the_gradient_comes_back_through_the_window(tiny_config, batch_of, seconds, detach):
    section = {"window": {"seconds": seconds, "items": 2}, "segment": {"detach_posterior": detach}}
    model = SclVits(tiny_config(section)).train()
    _, losses = stepped(model, batch_of(model))
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(losses["loss_spk_encoder"], list(own.values()), allow_unused=True)
    reached = {name.partition(".")[0] for name, g in zip(own, found, strict=True) if g is not None and g.any()}
    assert reached == {"waveform_decoder", "emb_g"} | (set() if detach else {"posterior_encoder"})


@pytest.mark.parametrize("seconds", [0.0, 0.7])
def test_mixed_precision_and_evaluation(tiny_config, batch_of, seconds):
    model = SclVits(tiny_config({"window": {"seconds": seconds}})).train()
    heard, batch = watch_encoder(model), batch_of(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, losses = stepped(model, batch)
    assert losses["loss_spk_encoder"].dtype == torch.float32
    losses["loss"].backward()
    model.eval()
    with torch.inference_mode():
        _, losses = stepped(model, batch)
    assert len(heard) == 2
    assert {waveform.dtype for waveform in heard} == {torch.float32}
    assert torch.isfinite(losses["loss_spk_encoder"])


@pytest.mark.parametrize("share", [None, 0.1])
def test_what_is_heard_in_every_third_step_counts_three_times(tiny_config, batch_of, share):
    def step(number, *, training=True, **section):
        torch.manual_seed(0)
        model = SclVits(tiny_config(section)).train(training)
        model.training_run.step = number
        _, losses = stepped(model, batch_of(model))
        losses["loss"].backward()
        return losses, torch.cat([losses["loss"].detach()[None], model.emb_g.weight.grad.flatten()])

    every = {"gradient_share": share, "window": {"seconds": 0.0, "items": None, "every_n_steps": 1}}
    third = every | {"window": every["window"] | {"every_n_steps": 3}}
    without = step(0, enabled=False)[1]
    (logged, full), (logged_of_third, heard) = step(0, **every), step(0, **third)
    assert (full - without).norm() > 1e-3
    torch.testing.assert_close(heard - without, 3 * (full - without), rtol=1e-4, atol=1e-5)
    for number in (1, 2):
        torch.testing.assert_close(step(number, **third)[1], without, rtol=1e-5, atol=1e-6)
    for name in {name for name in logged if name.startswith(("loss_spk_encoder", "scl_"))}:
        assert float(logged_of_third[name].detach()) == float(logged[name].detach())
    torch.testing.assert_close(step(1, training=False, **third)[1], step(1, training=False, **every)[1])


def logged(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = {tag.rpartition("/")[2]: tag for tag in events.Tags()["scalars"] if "TrainIter" in tag}
    return {name: {event.step: event.value for event in events.Scalars(tag)} for name, tag in tags.items()}


def test_steps_in_which_the_loss_does_not_listen_say_so(tiny_config, make_trainer):
    section = {"start_step": 1, "window": {"seconds": 0.6, "items": 2, "every_n_steps": 2}}
    trainer = make_trainer(SclVits(tiny_config(section)), count=20)
    trainer.fit()
    found = logged(trainer.output_path)
    assert found["scl_listens"] == {0: 0.0, 1: 1.0, 2: 0.0, 3: 1.0, 4: 0.0}
    for name in ("loss_spk_encoder", "reference_cosine_ge2e"):
        assert found[name].keys() == {1, 3}
    console = (trainer.output_path / "trainer_0_log.txt").read_text()
    assert console.count(" | > loss_spk_encoder: ") == 2
    assert console.count(" | > scl_listens: ") == 5


def test_the_guard_checks_the_next_step_that_listens(tiny_config, make_trainer, monkeypatch, capfd):
    """A check that falls on a step without the loss is made up for; here the gradient is lost from step 3 on."""
    section = {"window": {"every_n_steps": 3}, "freeze": {"check_every": 2}}
    model = SclVits(tiny_config(section))
    trainer = make_trainer(model, count=32)
    consistency = model.parts.consistency
    forward = consistency.forward

    def without_gradient(generated, real, step=0, **more):
        if step >= 3:
            generated.waveform = generated.waveform.detach()
        return forward(generated, real, step, **more)

    monkeypatch.setattr(consistency, "forward", without_gradient)
    with pytest.raises(SystemExit):
        trainer.fit()
    assert "GradientError: At step 3" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("window", "named"),
    [
        ({"seconds": -1}, "scl.window.seconds"),
        ({"seconds": 61}, "scl.window.seconds"),
        ({"items": 0}, "scl.window.items"),
        ({"every_n_steps": 0}, "scl.window.every_n_steps"),
        ({"second": 2}, "scl.window.second"),
    ],
)
def test_a_window_that_cannot_be(tiny_config, window, named):
    with pytest.raises(ConfigError, match=named):
        tiny_config({"window": window}).check_values()
