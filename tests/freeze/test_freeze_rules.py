"""Rules of modules, on a small model with two optimizers."""

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from coqui_scl_plugin.config import ModuleRuleConfig
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.freeze.module_rules import ModuleRules


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.speaker_encoder = nn.Linear(2, 2)
        self.text_encoder = nn.Sequential(nn.Linear(2, 3), nn.Dropout(), nn.Linear(3, 2))
        self.waveform_decoder = nn.Module()
        self.waveform_decoder.ups = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.waveform_decoder.conv_post = nn.Linear(2, 1)
        self.emb_g = nn.Embedding(3, 2)
        self.disc = nn.Module()
        self.disc.nets = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])

    def generator(self):
        return [p for name, p in self.named_parameters() if not name.startswith(("disc.", "speaker_encoder."))]


def rules_for(model, *rules):
    specs = [ModuleRuleConfig(**({"pattern": rule} if isinstance(rule, str) else rule)) for rule in rules]
    return ModuleRules(model, specs, "scl.freeze.modules", ignored=("speaker_encoder",))


def frozen(model):
    return {name for name, p in model.named_parameters() if not p.requires_grad}


def below(model, *prefixes):
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


# --- patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "prefixes"),
    [
        ("text_encoder", ("text_encoder.",)),
        ("text_encoder.0", ("text_encoder.0.",)),
        ("text_encoder.[02]", ("text_encoder.",)),
        ("waveform_decoder.ups.*", ("waveform_decoder.ups.",)),
        ("waveform_decoder.ups.?", ("waveform_decoder.ups.",)),
        ("*.0", ("text_encoder.0.", "waveform_decoder.ups.0.", "disc.nets.0.")),
        ("emb_g", ("emb_g.",)),
        ("disc.nets.0", ("disc.nets.0.",)),
        ("*_encoder", ("text_encoder.",)),
    ],
)
def test_a_pattern_freezes_what_it_matches_and_all_below(pattern, prefixes):
    model = Model()
    rules_for(model, pattern).apply(0, training=True)
    assert frozen(model) == below(model, *prefixes)


@pytest.mark.parametrize("pattern", ["TEXT_ENCODER", "text_encoder.", "ups.0", "encoder", "speaker_encoder", "weight"])
def test_a_pattern_must_match_a_whole_name_of_a_module_that_rules_are_for(pattern):
    with pytest.raises(ConfigError, match="matches no module of the generator or the discriminator"):
        rules_for(Model(), pattern)


def test_no_match_names_the_rule_the_nearest_and_the_outermost_modules():
    with pytest.raises(ConfigError) as caught:
        rules_for(Model(), "emb_g", "text_encoder.*", "waveform_decoder.upz.*")
    message = str(caught.value)
    assert message.startswith("scl.freeze.modules.2.pattern = 'waveform_decoder.upz.*': ")
    assert "waveform_decoder.ups" in message.partition("Nearest:")[2].partition("Their")[0]
    assert message.endswith("Their outermost modules: text_encoder, waveform_decoder, emb_g, disc.")


def test_of_several_rules_the_last_one_holds():
    model = Model()
    rules_for(
        model,
        "waveform_decoder",
        {"pattern": "waveform_decoder.ups.*", "lr_scale": 1.0},
        {"pattern": "waveform_decoder.ups.1"},
        {"pattern": "emb_g"},
        {"pattern": "emb_*", "lr_scale": 0.5},
    ).apply(0, training=True)
    assert frozen(model) == below(model, "waveform_decoder.conv_post.", "waveform_decoder.ups.1.")


def test_a_wider_rule_that_comes_later_takes_all_back():
    model = Model()
    rules_for(model, "waveform_decoder.ups.1", {"pattern": "waveform_decoder", "lr_scale": 0.5}).apply(0, training=True)
    assert frozen(model) == set()


# --- modes, and steps -------------------------------------------------------------------------------------------------


def test_frozen_modules_are_in_eval_mode_until_they_unfreeze():
    model = Model().train()
    rules = rules_for(model, {"pattern": "text_encoder", "until_step": 5}, {"pattern": "emb_g", "eval_mode": False})
    for step in (0, 4):
        model.train()
        rules.apply(step, training=True)
        assert {name for name, m in model.named_modules() if not m.training} == {
            "text_encoder", "text_encoder.0", "text_encoder.1", "text_encoder.2",
        }  # fmt: skip
    rules.apply(5, training=True)
    assert all(m.training for m in model.modules())
    assert frozen(model) == {"emb_g.weight"}


def test_what_unfreezes_while_the_model_evaluates_stays_in_eval_mode():
    model = Model().eval()
    rules = rules_for(model, {"pattern": "text_encoder", "until_step": 5})
    rules.apply(4, training=False)
    rules.apply(5, training=False)
    assert not any(m.training for m in model.modules())


def test_a_module_that_no_rule_ever_froze_is_left_as_somebody_else_set_it():
    model = Model()
    model.emb_g.eval().requires_grad_(False)
    rules = rules_for(model, {"pattern": "emb_g", "lr_scale": 0.1}, {"pattern": "text_encoder", "until_step": 2})
    for step in (0, 2):
        rules.apply(step, training=True)
        assert not model.emb_g.weight.requires_grad
        assert not model.emb_g.training


def test_a_gradient_from_before_is_dropped_when_it_freezes():
    model = Model()
    rules = rules_for(model, "emb_g")
    model.emb_g.weight.grad = torch.ones(3, 2)
    rules.apply(0, training=True)
    assert model.emb_g.weight.grad is None


# --- optimizers -------------------------------------------------------------------------------------------------------


def optimizers_of(model, optimizer=torch.optim.SGD, **kwargs):
    return [optimizer(model.disc.parameters(), lr=0.5, **kwargs), optimizer(model.generator(), lr=1.0, **kwargs)]


def held(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


RULES = [
    {"pattern": "text_encoder"},
    {"pattern": "emb_g", "until_step": 4},
    {"pattern": "waveform_decoder", "lr_scale": 0.1, "until_step": 4},
    {"pattern": "waveform_decoder.conv_post", "lr_scale": 3.0},
    {"pattern": "disc.nets.0", "lr_scale": 0.2},
]


def divided(scheduler=None, **kwargs):
    model = Model()
    rules, optimizers = rules_for(model, *RULES), optimizers_of(model, **kwargs)
    rules.divide(optimizers)
    return model, rules, optimizers, [scheduler(o) for o in optimizers] if scheduler else []


def test_each_parameter_is_in_one_group_but_for_those_that_are_frozen_for_good():
    model, _, optimizers, _ = divided()
    for optimizer, expected in zip(optimizers, (list(model.disc.parameters()), model.generator()), strict=True):
        for_good = {id(p) for p in model.text_encoder.parameters()}
        found = [id(p) for p in held(optimizer)]
        assert len(found) == len(set(found))
        assert set(found) == {id(p) for p in expected} - for_good
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [{names[id(p)].rpartition(".")[0] for p in group["params"]} for group in optimizers[1].param_groups]
    assert groups == [{"emb_g"}, {"waveform_decoder.ups.0", "waveform_decoder.ups.1"}, {"waveform_decoder.conv_post"}]


def test_groups_keep_the_other_settings_of_the_optimizer():
    _, _, optimizers, _ = divided(optimizer=torch.optim.AdamW, weight_decay=0.25, betas=(0.8, 0.9))
    for group in [group for optimizer in optimizers for group in optimizer.param_groups]:
        assert (group["weight_decay"], group["betas"]) == (0.25, (0.8, 0.9))


SCHEDULERS = {
    "none": None,
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.5),
    "step": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_the_ratio_of_rates_is_that_of_the_rules_whatever_the_scheduler(scheduler):
    _, rules, optimizers, schedulers = divided(scheduler)
    plain = torch.optim.SGD(Model().generator(), lr=1.0)
    alone = scheduler(plain) if scheduler else None
    for step in range(6):
        if step == 3:  # as Coqui does after `--restore_path`
            for group in optimizers[1].param_groups:
                group["lr"] = optimizers[1].param_groups[0]["lr"]
        rules.scale_learning_rates(optimizers, step)
        base = plain.param_groups[0]["lr"]
        rates = [group["lr"] / base for group in optimizers[1].param_groups]
        assert rates == pytest.approx([1.0, 0.1 if step < 4 else 1.0, 3.0])
        discriminator = [group["lr"] for group in optimizers[0].param_groups]
        assert discriminator[1] / discriminator[0] == pytest.approx(0.2)
        for optimizer in (*optimizers, plain):
            optimizer.step()
        for one in (*schedulers, *([alone] if alone else [])):
            one.step()


def test_a_group_of_somebody_else_keeps_its_own_rate():
    _, rules, optimizers, _ = divided()
    optimizers[1].add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 7.0})
    rules.scale_learning_rates(optimizers, 0)
    assert optimizers[1].param_groups[-1]["lr"] == 7.0


def test_the_groups_of_all_steps_are_the_same_so_that_a_checkpoint_fits():
    states = []
    for step in (0, 4):
        model, rules, optimizers, _ = divided(optimizer=torch.optim.AdamW)
        rules.apply(step, training=True)
        sum(p.square().sum() for p in model.parameters() if p.requires_grad).backward()
        for optimizer in optimizers:
            optimizer.step()
        states.append([optimizer.state_dict() for optimizer in optimizers])
    _, _, optimizers, _ = divided(optimizer=torch.optim.AdamW)
    for state in states:
        for optimizer, own in zip(optimizers, state, strict=True):
            optimizer.load_state_dict(own)


def test_everything_at_one_rate_still_follows_the_scheduler():
    model = Model()
    rules = rules_for(model, {"pattern": "*", "lr_scale": 0.5})
    optimizers = optimizers_of(model)
    rules.divide(optimizers)
    rules.scale_learning_rates(optimizers, 0)
    assert [[group["lr"] for group in o.param_groups] for o in optimizers] == [[0.5, 0.25], [1.0, 0.5]]
