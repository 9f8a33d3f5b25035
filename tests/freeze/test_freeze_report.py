"""The freeze report: what it says of each module, and what it writes."""

import io
import json

import pytest
import torch
from rich.console import Console
from torch import nn

from coqui_scl_plugin.config import ModuleRuleConfig
from coqui_scl_plugin.freeze import Drift, FrozenPolicy
from coqui_scl_plugin.freeze.module_rules import ModuleRules
from coqui_scl_plugin.freeze.report import FreezeReport, encoder_row, module_rows
from coqui_scl_plugin.utils.fingerprint import fingerprint


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.text_encoder = nn.Linear(2, 3)  # 9 parameters
        self.flow = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))  # 12
        self.waveform_decoder = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))  # 13
        self.emb_g = nn.Embedding(3, 2)  # 6
        self.upsampling = nn.Identity()
        self.disc = nn.Linear(1, 1)  # 2


RULES = [
    {"pattern": "text_encoder"},
    {"pattern": "flow", "until_step": 20},
    {"pattern": "emb_g", "until_step": 30, "lr_scale": 0.1},
    {"pattern": "waveform_decoder.*"},
    {"pattern": "waveform_decoder.2", "lr_scale": 2.0},
]


def report_at(step: int) -> FreezeReport:
    model = Model().train()
    rules = ModuleRules(model, [ModuleRuleConfig(**rule) for rule in RULES], "rules", ignored=())
    discriminator = torch.optim.SGD(model.disc.parameters(), lr=1.0)
    generator = torch.optim.SGD([p for n, p in model.named_parameters() if not n.startswith("disc")], lr=1.0)
    optimizers = {"discriminator": discriminator, "generator": generator}
    rules.divide(list(optimizers.values()))
    rules.apply(step, training=True)
    encoder = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    FrozenPolicy().apply(encoder)
    trainable = nn.Linear(2, 2)
    generator.add_param_group({"params": list(trainable.parameters())})
    encoders = [
        encoder_row("ge2e", "training", "frozen", encoder, optimizers),
        encoder_row("loose", "training", "trainable", trainable, optimizers),
    ]
    modules = module_rows(dict(model.named_children()), rules, optimizers, step)
    return FreezeReport(step, modules, encoders, RULES, {"check_every": 100, "on_drift": "raise"})


def test_each_module_and_each_part_that_a_rule_is_for_has_a_row():
    rows = [row[:4] for row in report_at(0).rows()]
    assert rows == [
        ("text_encoder", "9", "frozen", "none"),
        ("flow", "12", "frozen until step 20", "generator"),
        ("waveform_decoder", "13", "trains in part (3)", "generator"),
        ("waveform_decoder.0", "6", "frozen", "none"),
        ("waveform_decoder.1", "4", "frozen", "none"),
        ("waveform_decoder.2", "3", "trains at 2 x lr", "generator"),
        ("emb_g", "6", "trains at 0.1 x lr until step 30", "generator"),
        ("upsampling", "0", "no parameters", "none"),
        ("disc", "2", "trains", "discriminator"),
        ("speaker encoder ge2e", "24", "frozen", "none"),
        ("speaker encoder loose", "6", "TRAINS", "generator"),
    ]


@pytest.mark.parametrize(
    ("step", "flow", "emb_g"),
    [
        (19, "frozen until step 20", "trains at 0.1 x lr until step 30"),
        (20, "trains", "trains at 0.1 x lr until step 30"),
        (30, "trains", "trains"),
    ],
)
def test_what_is_over_is_not_told(step, flow, emb_g):
    states = {row.module: row.state for row in report_at(step).modules}
    assert (states["flow"], states["emb_g"]) == (flow, emb_g)


def test_modes_are_those_of_a_training_step():
    modes = {row.module: row.mode for row in report_at(0).modules}
    assert modes["text_encoder"] == modes["flow"] == modes["waveform_decoder.0"] == "eval"
    assert modes["waveform_decoder"] == "mixed"
    assert modes["waveform_decoder.2"] == modes["disc"] == "train"


def test_the_file_holds_what_the_table_shows_and_the_drift(tmp_path):
    report = report_at(3)
    drift = Drift("ge2e", 5, 7, ["linear.bias"], "it moved")
    report.write(tmp_path, [drift])
    content = json.loads((tmp_path / "freeze_report.json").read_text())
    assert content["step"] == 3
    assert content["rules"] == RULES
    assert content["guard"] == {"check_every": 100, "on_drift": "raise"}
    assert content["drift"] == [
        {"encoder": "ge2e", "after_step": 5, "step": 7, "tensors": ["linear.bias"], "message": "it moved"}
    ]
    (flow,) = [row for row in content["modules"] if row["module"] == "flow"]
    assert flow == {
        "module": "flow", "parameters": 12, "trainable": 0, "optimizer": "generator", "mode": "eval",
        "lr_scale": 0.0, "until_step": 20, "pattern": "flow",
    }  # fmt: skip
    ge2e = content["encoders"][0]
    assert (ge2e["parameters"], ge2e["trainable"], ge2e["buffers"]) == (24, 0, 4 + 4 + 1)
    assert len(ge2e["fingerprint"]) == 16
    assert list(tmp_path.iterdir()) == [tmp_path / "freeze_report.json"]


def test_the_fingerprint_is_that_of_the_encoder():
    encoder = nn.Linear(2, 2)
    assert encoder_row("a", "training", "frozen", encoder, {}).fingerprint == fingerprint(encoder)


def test_console_and_markdown_show_every_row():
    report = report_at(0)
    shown = io.StringIO()
    Console(file=shown, width=120).print(report.table())
    lines = report.markdown().splitlines()
    assert lines[0] == "| module | parameters | state | optimizer | mode |"
    assert len(lines) == 2 + len(report.rows())
    for row in report.rows():
        assert "| " + " | ".join(row) + " |" in lines
        assert any(all(cell in line for cell in row) for line in shown.getvalue().splitlines())


def test_a_module_whose_parts_all_unfreeze_is_not_called_frozen_for_good():
    model = Model()
    rules = ModuleRules(model, [ModuleRuleConfig(pattern="flow.*", until_step=20)], "rules", ignored=())
    rules.apply(0, training=True)
    states = {row.module: row.state for row in module_rows(dict(model.named_children()), rules, {}, 0)}
    assert states["flow.0"] == states["flow.1"] == "frozen until step 20"
    assert states["flow"] == "frozen until step 20"
