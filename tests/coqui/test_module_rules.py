"""Rules of modules through Coqui's trainer: what is frozen does not move, and what unfreezes does."""

import json

import pytest
from quick_vits import QuickVits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from TTS.config import load_config
from TTS.tts.models.vits import Vits

from coqui_scl_plugin import SclVits
from coqui_scl_plugin.errors import ConfigError, PreflightError
from coqui_scl_plugin.utils.fingerprint import named_tensors

OFF = {"enabled": False}
CHEAP = {"reference": {"source": "segment"}}


def rules(*specs, **section):
    modules = [{"pattern": spec} if isinstance(spec, str) else spec for spec in specs]
    return {**CHEAP, **section, "freeze": {"modules": modules}}


def bits_of(module):
    return {name: tensor.detach().clone().numpy().tobytes() for name, tensor in named_tensors(module).items()}


def moved(before, module):
    now = bits_of(module)
    return {name for name in before if before[name] != now[name]}


def below(model, *prefixes):
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


class Watching(QuickVits):
    """Notes, while gradients exist, what the trainer's own norm says, and which modules are in eval mode."""

    def on_init_end(self, trainer):
        super().on_init_end(trainer)
        self.watched, self.norms, self.eval_modes = trainer, [], []

    def before_gradient_clipping(self):
        super().before_gradient_clipping()
        optimizer = self.watched.optimizer[len(self.norms) % 2]
        self.norms.append(float(self.watched._compute_grad_norm(optimizer)))
        self.eval_modes.append({name for name, module in self.named_modules() if name and not module.training})


def test_frozen_modules_stay_bit_by_bit_in_eval_mode_and_in_no_optimizer(tiny_config, make_trainer):
    patterns = ("text_encoder", "waveform_decoder.ups.*", "emb_g", "disc.nets.0")
    section = rules(*patterns, {"pattern": "flow", "eval_mode": False})
    config = tiny_config(section, batch_size=2, eval_batch_size=2, run_eval=True, run_eval_steps=1, epochs=2)
    model = Watching(config)
    frozen = below(model, "text_encoder.", "waveform_decoder.ups.", "emb_g.", "disc.nets.0.", "flow.")
    assert len(frozen) > 20
    start = bits_of(model)
    trainer = make_trainer(model, count=4, callbacks={"on_train_step_start": lambda trainer: trainer.model.train()})
    trainer.fit()

    assert trainer.total_steps_done == 4
    others = {name for name, _ in model.named_parameters() if not name.startswith("speaker_encoder")} - frozen
    assert moved(start, model) & frozen == set()
    assert moved(start, model) >= others
    names = {id(p): name for name, p in model.named_parameters()}
    held = [{names[id(p)] for group in o.param_groups for p in group["params"]} for o in trainer.optimizer]
    assert held == [
        {name for name in others if name.startswith("disc.")},
        {name for name in others if not name.startswith("disc.")},
    ]
    # each parameter of an optimizer had a gradient: the norm of the trainer fails otherwise
    assert len(model.norms) == 8
    assert all(norm > 0 for norm in model.norms)
    still = {
        name
        for name, _ in model.named_modules()
        if f"{name}.".startswith(("text_encoder.", "waveform_decoder.ups.", "emb_g.", "disc.nets.0."))
        and name != "waveform_decoder.ups"
    }
    for names_in_eval in model.eval_modes:
        assert {name for name in names_in_eval if not name.startswith("speaker_encoder_loss")} == still


def test_a_module_unfreezes_at_its_step_and_not_before(tiny_config, make_trainer):
    section = rules(
        {"pattern": "text_encoder", "until_step": 2},
        {"pattern": "disc.nets.0", "until_step": 3},
        {"pattern": "emb_g", "until_step": 1, "eval_mode": False},
        **OFF,
    )
    model = Watching(tiny_config(section, batch_size=2))
    seen = []

    def note(trainer):
        seen.append((moved(note.before, model), bits_of(model)))
        note.before = seen[-1][1]

    note.before = bits_of(model)
    model.before_gradient_clipping = lambda: None  # no norms: some parameters have no gradients yet
    trainer = make_trainer(model, count=8, callbacks={"on_train_step_end": note})
    trainer.fit()
    prefixes = {"text_encoder.": 2, "disc.nets.0.": 3, "emb_g.": 1, "flow.": 0, "disc.nets.1.": 0}
    for prefix, until in prefixes.items():
        inside = below(model, prefix)
        for step, (changed, _) in enumerate(seen):
            assert changed & inside == (inside if step >= until else set()), (prefix, step)
    assert all(module.training for name, module in model.named_modules() if name.startswith(("text_encoder", "disc")))


def test_what_waits_for_its_step_takes_no_weight_decay(tiny_config, make_trainer):
    section = rules({"pattern": "text_encoder", "until_step": 99}, **OFF)
    config = tiny_config(section, batch_size=2, optimizer="AdamW", optimizer_params={"weight_decay": 0.5})
    model = QuickVits(config)
    start = bits_of(model.text_encoder)
    trainer = make_trainer(model, count=4)
    trainer.fit()
    assert moved(start, model.text_encoder) == set()
    assert not any(p in trainer.optimizer[1].state for p in model.text_encoder.parameters())


# --- patterns that cannot be used -------------------------------------------------------------------------------------


def test_a_pattern_that_matches_nothing_is_an_error_when_the_model_is_made(tiny_config):
    with pytest.raises(ConfigError, match=r"scl\.freeze\.modules\.1\.pattern = 'text_encodr'.*Nearest: text_encoder"):
        SclVits(tiny_config(rules("emb_g", "text_encodr")))


@pytest.mark.parametrize("pattern", ["speaker_encoder_loss", "speaker_encoder_loss.encoders.ge2e", "speaker_encoder*"])
def test_speaker_encoders_have_policies_not_rules(tiny_config, pattern):
    with pytest.raises(ConfigError, match="matches no module"):
        SclVits(tiny_config(rules(pattern)))


GENERATOR = ("text_encoder", "posterior_encoder", "flow", "duration_predictor", "waveform_decoder", "emb_g")


@pytest.mark.parametrize(
    ("specs", "whole"),
    [
        (["disc"], "discriminator"),
        (["disc.nets.*"], "discriminator"),
        ([{"pattern": "disc", "until_step": 5}], "discriminator"),
        (GENERATOR, "generator"),
        ([*GENERATOR[1:], {"pattern": "text_encoder", "until_step": 5}], "generator"),
        ([{"pattern": "*", "until_step": 5}], "(generator|discriminator)"),
        (["*", {"pattern": "disc", "lr_scale": 1.0}], "generator"),
    ],
)
def test_nothing_left_to_train(tiny_config, specs, whole):
    with pytest.raises(ConfigError, match=f"scl.freeze.modules.* the whole {whole}"):
        QuickVits(tiny_config(rules(*specs)))


def test_one_part_that_trains_is_enough(tiny_config, make_trainer):
    section = rules("*", {"pattern": "disc.nets.1", "lr_scale": 1.0}, {"pattern": "emb_g", "lr_scale": 1.0})
    model = Watching(tiny_config(section, batch_size=2))
    start = bits_of(model)
    make_trainer(model, count=2).fit()
    assert moved(start, model) == below(model, "disc.nets.1.", "emb_g.")
    assert all(norm > 0 for norm in model.norms)


# --- stock's flags ----------------------------------------------------------------------------------------------------

FLAGS = {
    "freeze_encoder": "text_encoder",
    "freeze_PE": "posterior_encoder",
    "freeze_DP": "duration_predictor",
    "freeze_flow_decoder": "flow",
    "freeze_waveform_decoder": "waveform_decoder",
}


def test_stock_flags_become_rules_that_hold_from_the_first_step_on(tiny_config, make_trainer):
    own = {"pattern": "flow", "until_step": 1}
    config = tiny_config(rules(own, **OFF), args=dict.fromkeys(FLAGS, True), batch_size=2)
    model = Watching(config)
    model.before_gradient_clipping = lambda: None
    frozen = {name: bits_of(getattr(model, name)) for name in FLAGS.values()}
    trainer = make_trainer(model, count=4)
    trainer.fit()
    changed = {name for name, before in frozen.items() if moved(before, getattr(model, name))}
    assert changed == {"flow"}  # the section's rule comes last, and unfreezes it

    written = json.loads((trainer.output_path / "config.json").read_text())
    patterns = [rule["pattern"] for rule in written["scl"]["freeze"]["modules"]]
    assert patterns == [*FLAGS.values(), "flow"]
    assert written["scl"]["freeze"]["modules"][0] == {
        "pattern": "text_encoder", "until_step": None, "lr_scale": 0.0, "eval_mode": True,
    }  # fmt: skip
    assert not any(written["model_args"][flag] for flag in FLAGS)
    again = QuickVits(load_config(str(trainer.output_path / "config.json")))
    assert again.parts.module_rules.rules == model.parts.module_rules.rules


@pytest.mark.parametrize(("flag", "module"), FLAGS.items())
def test_each_flag_freezes_what_it_freezes_in_stock(tiny_config, tiny_stock_config, flag, module):
    stock = Vits(tiny_stock_config(args={flag: True}))
    stock.on_epoch_start(None)
    frozen = {name for name, p in stock.named_parameters() if not p.requires_grad}
    model = SclVits(tiny_config(OFF, args={flag: True}))
    model.get_optimizer()
    model.train()
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == frozen
    assert frozen == below(model, f"{module}.")
    assert not model.get_submodule(module).training


def test_the_embedding_of_languages_goes_with_the_encoder(tiny_config):
    args = {"freeze_encoder": True, "use_language_embedding": True}
    model = QuickVits(tiny_config(OFF, args=args, languages=["de", "en"]))
    assert [rule.pattern for rule in model.parts.module_rules.rules] == ["text_encoder", "emb_l"]
    optimizers = model.get_optimizer()
    held = {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}
    assert id(model.emb_l.weight) not in held


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_counts_what_is_there(tiny_config, make_trainer, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")  # for rich
    section = rules(
        "text_encoder",
        {"pattern": "waveform_decoder.ups.*", "until_step": 20},
        {"pattern": "flow", "lr_scale": 0.1, "until_step": 30},
        {"pattern": "disc.nets.0", "lr_scale": 0.5},
        holdout=[{"name": "dvector"}],
    )
    config = tiny_config(section)
    model = QuickVits(config)
    trainer = make_trainer(model)
    report = json.loads((trainer.output_path / "freeze_report.json").read_text())

    def count(module, wanted=lambda p: True):
        return sum(p.numel() for p in model.get_submodule(module).parameters() if wanted(p))

    outermost = [n for n, m in model.named_children() if n != "speaker_encoder_loss"]
    ups = [n for n, _ in model.named_modules() if n.startswith("waveform_decoder.ups.") and n.count(".") == 2]
    rows = {row["module"]: row for row in report["modules"]}
    assert set(rows) == {*outermost, *ups, "disc.nets.0"}
    held = [{id(p) for group in o.param_groups for p in group["params"]} for o in trainer.optimizer]
    for name, row in rows.items():
        assert row["parameters"] == count(name), name
        assert row["trainable"] == count(name, lambda p: p.requires_grad), name
        holders = [
            whole
            for whole, ids in zip(("discriminator", "generator"), held, strict=True)
            if count(name, lambda p, ids=ids: id(p) in ids)
        ]
        assert row["optimizer"] == (", ".join(holders) or "none"), name
    assert count("text_encoder") > 0
    assert (rows["text_encoder"]["trainable"], rows["text_encoder"]["optimizer"]) == (0, "none")
    assert rows[ups[0]] == {
        "module": ups[0], "parameters": count(ups[0]), "trainable": 0, "optimizer": "generator", "mode": "eval",
        "lr_scale": 0.0, "until_step": 20, "pattern": "waveform_decoder.ups.*",
    }  # fmt: skip
    assert {(e["encoder"], e["role"], e["policy"], e["trainable"], e["mode"]) for e in report["encoders"]} == {
        ("ge2e", "training", "frozen", 0, "eval"),
        ("dvector", "holdout", "frozen", 0, "eval"),
    }
    assert report["guard"] == {"check_every": 100, "on_drift": "raise"}
    assert (report["step"], report["drift"]) == (0, [])
    assert report["rules"] == [rule.to_dict() for rule in config.scl.freeze.modules]

    trainer.dashboard_logger.flush()
    events = EventAccumulator(str(trainer.output_path)).Reload()
    (tag,) = [tag for tag in events.Tags()["tensors"] if "freeze_report" in tag]
    (text,) = events.Tensors(tag)
    markdown = text.tensor_proto.string_val[0].decode()
    trained = count("waveform_decoder", lambda p: p.requires_grad)
    states = {
        "text_encoder": "frozen",
        ups[0]: "frozen until step 20",
        "waveform_decoder": f"trains in part ({trained:,})",
        "flow": "trains at 0.1 x lr until step 30",
        "disc.nets.0": "trains at 0.5 x lr",
        "emb_g": "trains",
    }
    shown = capsys.readouterr().out.partition("What the gradient")[0].splitlines()  # the table of reach follows
    for name, state in states.items():
        assert f"| {name} | {count(name):,} | {state} |" in markdown
        (row,) = [line for line in shown if line.startswith(f"│ {name} ")]
        assert [cell.strip() for cell in row.strip("│").split("│")][1:3] == [f"{count(name):,}", state]


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize("grad_clip", [[0.0, 0.0], [1000.0, 1000.0]])
def test_what_unfreezes_later_needs_clipping_where_a_scaler_is_used(tiny_config, make_trainer, grad_clip):
    rule = {"pattern": "text_encoder", "until_step": 2}
    config = tiny_config({"freeze": {"modules": [rule]}}, use_grad_scaler=True, grad_clip=grad_clip)
    if min(grad_clip) > 0:
        make_trainer(QuickVits(config), count=4)
    else:
        with pytest.raises(PreflightError, match=r"until step 2.*gradient scaler.*check 'unfreeze'"):
            make_trainer(QuickVits(config), count=4)
