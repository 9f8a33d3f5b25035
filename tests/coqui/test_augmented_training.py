"""A run whose encoders hear generated speech through a channel."""

import math

import pytest
import torch
from quick_vits import QuickVits

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = {"gain_db": 6.0, "equaliser_db": 6.0, "noise_snr_db": [10, 30], "room_seconds": 0.2, "speed": 0.05}


class Listening(QuickVits):
    """Notes, for each turn of the generator, whether it trains, its speech, what encoders heard of it, and losses."""

    def __init__(self, config):
        super().__init__(config)
        self.turns, self.heard = [], []
        self.parts.build_consistency()
        for prepared in self.speaker_encoder_loss.encoders.segment_encoders.values():
            prepared.encoder.register_forward_pre_hook(lambda module, arguments: self.heard.append(arguments[0]))

    def train_step(self, batch, criterion, optimizer_idx=None):
        self.heard.clear()
        outputs, losses = super().train_step(batch, criterion, optimizer_idx)
        if optimizer_idx == 1:
            logged = {key: float(torch.as_tensor(value).detach()) for key, value in losses.items()}
            speech = outputs["model_outputs"].detach().squeeze(1)
            self.turns.append((self.training, speech, [waveform.detach() for waveform in self.heard], logged))
        return outputs, losses


@pytest.mark.parametrize("source", ["segment", "utterance"])
def test_a_run_with_all_effects_on(source, tiny_config, make_trainer):
    section = {"augment": ALL, "reference": {"source": source}, "freeze": {"check_every": 1}}
    model = Listening(tiny_config(section, run_eval=True))
    make_trainer(model, count=8).fit()  # the guard of the gradient looks at every step
    assert [training for training, *_ in model.turns] == [True, True, False]
    for training, speech, heard, logged in model.turns:
        assert all(math.isfinite(value) for value in logged.values())
        assert logged["loss_spk_encoder"] > 0
        assert len(heard) == (2 if source == "segment" else 1)
        clean = heard[0][:, : speech.shape[1]]  # encoders repeat a slice that is too short
        assert torch.equal(clean, speech) is not training
