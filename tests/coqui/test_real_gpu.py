"""What only a real GPU can show; skipped where there is none."""

import copy

import pytest
import torch
from quick_vits import QuickVits

from coqui_scl_plugin import build_encoder
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder
from coqui_scl_plugin.references.cache import ReferenceCache
from coqui_scl_plugin.references.recordings import recordings_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; torch.cuda.is_available() is false here"),
]


@pytest.mark.parametrize("name", ["ge2e", "dvector", "campplus"])
def test_an_encoder_embeds_and_sends_back_what_it_does_on_the_cpu(name):
    speech = 0.1 * torch.randn(2, 24_000, generator=torch.Generator().manual_seed(0))
    encoder, found = SegmentEncoder(build_encoder(name)).eval().requires_grad_(False), {}
    for device in ("cpu", "cuda"):
        waveform = speech.to(device).requires_grad_()
        embedding = encoder.to(device)(waveform)
        embedding.sum().backward()
        found[device] = embedding.detach().cpu(), waveform.grad.cpu()
    torch.testing.assert_close(found["cuda"][0], found["cpu"][0], rtol=0, atol=1e-3)
    assert torch.nn.functional.cosine_similarity(found["cuda"][1], found["cpu"][1], dim=1).min() > 0.99


def test_the_term_of_a_training_step_equals_that_of_the_cpu_and_waits_for_nothing(tiny_config, batch_of, samples):
    torch.manual_seed(0)
    model = QuickVits(tiny_config({"reference": {"source": "centroid"}, "loss": {"name": "angular_margin"}}))
    model.get_criterion()
    recordings = recordings_of([dict(sample) for sample in samples[:12]])
    model.speaker_encoder_loss.embed_references(recordings, ReferenceCache())
    batch, values = batch_of(model), {}
    model.eval()  # no random draw: devices draw differently
    for device in ("cpu", "cuda"):
        model.to(device)
        on_device = {key: v.to(device) if isinstance(v, torch.Tensor) else v for key, v in copy.copy(batch).items()}
        generated = on_device["waveform"][:, :, :16_000].clone().requires_grad_()
        outputs = {"model_outputs": generated, "waveform_seg": on_device["waveform"][:, :, :16_000]}
        losses = {"loss": generated.sum() * 0.0}
        model.training_run.add_term(on_device, outputs, losses, 1)  # what is made once is made
        try:
            torch.cuda.set_sync_debug_mode("error")
            values[device] = model.training_run.add_term(on_device, outputs, losses, 1)["loss_spk_encoder"].detach()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(values["cuda"].cpu(), values["cpu"], rtol=1e-2, atol=1e-2)


def test_a_run_in_half_precision_stays_finite(tiny_config, make_trainer):
    model = QuickVits(tiny_config({"freeze": {"check_every": 1}}, mixed_precision=True, precision="fp16"))
    trainer = make_trainer(model, count=40)
    trainer.fit()
    assert trainer.total_steps_done == 10
    assert all(parameter.isfinite().all() for parameter in model.parameters())
