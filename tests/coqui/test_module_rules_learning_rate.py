"""Rules that slow modules down: the factor holds for what is learnt, and over every way to change the rate."""

import pytest
import torch
from quick_vits import QuickVits
from trainer import TrainerArgs
from TTS.config import load_config


def scaled(*specs):
    modules = [{"pattern": pattern, "lr_scale": scale, "until_step": until} for pattern, scale, until in specs]
    return {"enabled": False, "freeze": {"modules": modules}}


class Rates(QuickVits):
    """Notes the rates of all groups when the generator's optimizer is about to step, and those of the discriminator."""

    def on_init_end(self, trainer):
        super().on_init_end(trainer)
        self.rates = []
        for optimizer in trainer.optimizer:
            optimizer.register_step_pre_hook(self._note)

    def _note(self, optimizer, args, kwargs):
        self.rates.append([group["lr"] for group in optimizer.param_groups])

    def ratios(self, index):
        """By step, the rates of the generator's other groups (index 1) over that of its first."""
        return [[rate / first for rate in others] for first, *others in self.rates[index::2]]


def small(tiny_config, section, **fields):
    return tiny_config(section, batch_size=2, **fields)


def test_one_step_goes_a_tenth_as_far(tiny_config, make_trainer):
    def movement(section):
        torch.manual_seed(0)
        fields = {"optimizer": "SGD", "optimizer_params": {}, "lr_gen": 1e-2, "lr_disc": 1e-1, "grad_clip": [0.0, 0.0]}
        model = QuickVits(small(tiny_config, section, **fields))
        before = {name: p.detach().double().clone() for name, p in model.named_parameters()}
        trainer = make_trainer(model, count=2)
        trainer.fit()
        assert trainer.total_steps_done == 1
        return {name: p.detach().double() - before[name] for name, p in model.named_parameters()}

    whole = movement(scaled())
    slow = movement(scaled(("text_encoder", 0.1, None), ("disc.nets.0", 0.1, None), ("flow", 3.0, 99)))
    assert whole.keys() == slow.keys()
    for prefix in ("text_encoder.", "posterior_encoder.", "flow.", "waveform_decoder.", "disc.nets.0.", "disc.nets.1."):
        factor = {"text_encoder.": 0.1, "disc.nets.0.": 0.1, "flow.": 3.0}.get(prefix, 1.0)
        names = [name for name in whole if name.startswith(prefix)]
        far, near = (torch.cat([moved[name].flatten() for name in names]) for moved in (whole, slow))
        assert far.norm() > 0
        assert torch.nn.functional.cosine_similarity(far, near, dim=0) > 0.999
        assert (near.norm() / far.norm()).item() == pytest.approx(factor, rel=1e-2)


SCHEDULERS = {
    "exponential after each epoch": {
        "lr_scheduler_gen": "ExponentialLR", "lr_scheduler_gen_params": {"gamma": 0.5},
        "scheduler_after_epoch": True,
    },
    "exponential after each step": {
        "lr_scheduler_gen": "ExponentialLR", "lr_scheduler_gen_params": {"gamma": 0.5},
        "scheduler_after_epoch": False,
    },
    "steps": {
        "lr_scheduler_gen": "StepLR", "lr_scheduler_gen_params": {"step_size": 2, "gamma": 0.1},
        "scheduler_after_epoch": False,
    },
    "closed form": {
        "lr_scheduler_gen": "NoamLR", "lr_scheduler_gen_params": {"warmup_steps": 2}, "scheduler_after_epoch": False,
    },
    "given steps": {
        "lr_scheduler_gen": "StepwiseGradualLR",
        "lr_scheduler_gen_params": {"gradual_learning_rates": [[0, 1e-3], [2, 1e-4]]}, "scheduler_after_epoch": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("fields", SCHEDULERS.values(), ids=SCHEDULERS)
def test_the_ratio_holds_over_schedulers_until_its_step(tiny_config, make_trainer, fields):
    def train(section):
        model = Rates(small(tiny_config, section, epochs=4, **fields))
        make_trainer(model, count=2).fit()
        return model

    model = train(scaled(("text_encoder", 0.1, 3), ("flow", 4.0, None), ("disc.nets.0", 0.5, None)))
    plain = train(scaled())
    first = [rates[0] for rates in model.rates]
    assert first == [rates[0] for rates in plain.rates]
    assert len(set(first[1::2])) > 1  # so there was something to follow
    assert model.ratios(1) == [pytest.approx([0.1 if step < 3 else 1.0, 4.0]) for step in range(4)]
    assert model.ratios(0) == [pytest.approx([0.5])] * 4


def test_the_ratio_holds_when_a_run_is_continued_or_restored(tiny_config, make_trainer):
    section = scaled(("text_encoder", 0.1, 3), ("disc.nets.0", 0.5, None))
    fields = {"lr_scheduler_gen_params": {"gamma": 0.5}, "scheduler_after_epoch": False}
    config = small(tiny_config, section, save_checkpoints=True, save_step=1, lr_gen=1e-3, **fields)
    first = make_trainer(QuickVits(config), count=4)
    first.fit()
    folder = str(first.output_path)

    model = Rates(load_config(f"{folder}/config.json"))
    trainer = make_trainer(model, count=4, args=TrainerArgs(continue_path=folder))
    assert trainer.optimizer[1].state_dict()["state"].keys() == first.optimizer[1].state_dict()["state"].keys()
    trainer.config.epochs = 3
    trainer.fit()  # steps 2 to 5
    assert model.ratios(1) == [pytest.approx([0.1 if step < 3 else 1.0]) for step in (2, 3, 4, 5)]
    assert model.ratios(0) == [pytest.approx([0.5])] * 4
    assert model.rates[1][0] == pytest.approx(1e-3 * 0.5**2)

    model = Rates(small(tiny_config, section, lr_gen=2e-3, **fields))
    trainer = make_trainer(model, count=8, args=TrainerArgs(restore_path=f"{folder}/checkpoint_1.pth"))
    trainer.fit()  # steps 0 to 3
    assert model.ratios(1) == [pytest.approx([0.1 if step < 3 else 1.0]) for step in range(4)]
    assert model.ratios(0) == [pytest.approx([0.5])] * 4
    assert model.rates[1][0] == pytest.approx(2e-3)
