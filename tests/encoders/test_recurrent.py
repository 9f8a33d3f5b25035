"""Backward through recurrent layers in eval mode, as cuDNN allows it."""

import pytest
import torch
from pretend_cuda import OnCuda, moved, pretended_cuda
from torch import nn

from coqui_scl_plugin.encoders.base import SpeakerEncoder
from coqui_scl_plugin.encoders.recurrent import without_cudnn
from coqui_scl_plugin.encoders.segment_encoder import SegmentEncoder


class Recurrent(SpeakerEncoder):
    """A third party's encoder: an LSTM behind batch normalisation and dropout, which must stay in eval mode."""

    sample_rate, embedding_dim, min_samples = 16_000, 4, 64

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm1d(8), nn.Dropout(0.5)
        self.lstm = nn.LSTM(8, 4, 2, batch_first=True, dropout=dropout)
        self.modes: list[tuple[bool, bool, bool]] = []

    def embed(self, waveform: torch.Tensor) -> torch.Tensor:
        self.modes.append((self.norm.training, self.dropout.training, self.lstm.training))
        frames = self.dropout(self.norm(waveform.unflatten(1, (8, -1)))).transpose(1, 2)
        return nn.functional.normalize(self.lstm(frames)[0][:, -1], dim=-1)


def frozen(dropout: float) -> SegmentEncoder:
    torch.manual_seed(0)
    return SegmentEncoder(Recurrent(dropout)).eval().requires_grad_(False)


@pytest.mark.parametrize(("dropout", "layer"), [(0.0, ("cudnn", True)), (0.3, ("native", False))])
def test_values_and_gradients_are_those_of_eval_mode(dropout, layer):
    speech = torch.randn(2, 640, generator=torch.Generator().manual_seed(1))
    encoder, on_cpu = frozen(dropout), speech.clone().requires_grad_()
    expected = encoder(on_cpu)
    expected.sum().backward()
    with pretended_cuda() as ledger:
        moved(encoder)
        on_cuda = OnCuda(speech.clone()).requires_grad_()
        found = encoder(on_cuda)
        found.sum().backward()
    assert dict(ledger.recurrent) == {layer: 1}
    torch.testing.assert_close(found.held, expected.detach())
    torch.testing.assert_close(on_cuda.grad.held, on_cpu.grad, rtol=1e-4, atol=1e-6)
    assert encoder.encoder.modes[1][:2] == (False, False)
    assert not any(part.training for part in encoder.modules())


def test_without_a_gradient_nothing_changes_its_mode():
    encoder = frozen(0.0)
    with pretended_cuda() as ledger, torch.no_grad():
        moved(encoder)
        encoder(OnCuda(torch.randn(2, 640)))
    assert dict(ledger.recurrent) == {("cudnn", False): 1}


def test_the_mode_comes_back_after_an_error():
    encoder = frozen(0.0)
    encoder.encoder.embed = lambda waveform: 1 / 0
    with pretended_cuda():
        moved(encoder)
        with pytest.raises(ZeroDivisionError):
            encoder(OnCuda(torch.randn(2, 640)).requires_grad_())
    assert not any(part.training for part in encoder.modules())


def test_cudnns_other_settings_are_left_alone():
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = "tf32"  # with this set, torch.backends.cudnn.flags raises
    try:
        with without_cudnn():
            assert not torch.backends.cudnn.enabled
        assert torch.backends.cudnn.enabled
        assert torch.backends.fp32_precision == "tf32"
    finally:
        torch.backends.fp32_precision = before
