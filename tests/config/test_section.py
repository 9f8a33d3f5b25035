"""The section `scl` keeps its values through defaults, files and command line, and its weight follows the schedule."""

import json
from pathlib import Path
from typing import Any

import pytest
from TTS.config import load_config
from TTS.tts.configs.vits_config import VitsConfig

from coqui_scl_plugin import SclConfig, SclVitsConfig
from coqui_scl_plugin.errors import ConfigError

DEFAULTS = {
    "enabled": True,
    "weight": 9.0,
    "gradient_share": None,
    "start_step": 0,
    "ramp_steps": 0,
    "loss": {"name": "ensemble", "params": {}},
    "encoders": [
        {
            "name": name,
            "alias": "",
            "params": {},
            "weight": 1.0,
            "policy": "frozen",
            "dtype": "float32",
            "floor": None,
            "ceiling": None,
            "measured": {},
        }
        for name in ("ge2e", "campplus")
    ],
    "holdout": [],
    "reference": {"source": "utterance", "cache": "speaker_references.safetensors"},
    "window": {"seconds": 2.0, "items": 4, "every_n_steps": 4},
    "segment": {"min_seconds": 0.0, "detach_posterior": False},
    "augment": {"gain_db": 0.0, "equaliser_db": 0.0, "noise_snr_db": None, "room_seconds": 0.0, "speed": 0.0},
    "freeze": {"modules": [], "check_every": 100, "on_drift": "raise"},
    "max_bad_steps": 10,
    "restore": {"match_rows": False},
    "preflight": {"skip": []},
    "evaluation": {"max_seconds": 5.0, "training_rise": 0.02, "holdout_rise": 0.01},
}

FIRST, SECOND = DEFAULTS["encoders"]

# every value differs from its default
FULL = {
    "enabled": False,
    "weight": 3.5,
    "gradient_share": None,  # excludes a weight
    "start_step": 7,
    "ramp_steps": 9,
    "loss": {
        "name": "ensemble",
        "params": {"combine": "worst", "member": {"name": "angular_margin", "params": {"margin": 0.3}}},
    },
    "encoders": [
        {
            "name": "dvector",
            "alias": "d",
            "params": {},
            "weight": 2.0,
            "policy": "frozen",
            "dtype": "bfloat16",
            "floor": 0.3,
            "ceiling": 0.85,
            "measured": {"name": "ge2e", "params": {}},
        },
        {
            "name": "ge2e",
            "alias": "g",
            "params": {"model_path": "a.pt"},
            "weight": 0.5,
            "policy": "frozen",
            "dtype": "float32",
            "floor": -0.1,
            "ceiling": 0.9,
            "measured": {"name": "ge2e", "params": {"model_path": "b.pt"}, "sha256": "c"},
        },
    ],
    "holdout": [
        {
            "name": "ge2e",
            "alias": "judge",
            "params": {},
            "weight": 1.0,
            "policy": "frozen",
            "dtype": "float32",
            "floor": 0.5,
            "ceiling": 0.8,
            "measured": {"name": "ge2e", "params": {}, "floor": 0.1, "ceiling": 0.2},
        }
    ],
    "reference": {"source": "segment", "cache": None},
    "window": {"seconds": 1.5, "items": 3, "every_n_steps": 5},
    "segment": {"min_seconds": 1.6, "detach_posterior": True},
    "augment": {"gain_db": 6.0, "equaliser_db": 4.0, "noise_snr_db": [10.0, 30.0], "room_seconds": 0.3, "speed": 0.05},
    "freeze": {
        "modules": [
            {"pattern": "text_encoder", "until_step": 50, "lr_scale": 0.0, "eval_mode": False},
            {"pattern": "waveform_decoder.ups.*", "until_step": None, "lr_scale": 0.1, "eval_mode": True},
        ],
        "check_every": 11,
        "on_drift": "warn",
    },
    "max_bad_steps": 3,
    "restore": {"match_rows": True},
    "preflight": {"skip": ["gradient", "weight"]},
    "evaluation": {"max_seconds": 2.5, "training_rise": 0.1, "holdout_rise": -0.05},
}

STOCK_LOSS = {
    "speaker_encoder_loss_alpha": 4.0,
    "model_args": {
        "use_speaker_encoder_as_loss": True,
        "speaker_encoder_model_path": "encoder.pth",
        "speaker_encoder_config_path": "encoder.json",
    },
}


def loaded(section: dict[str, Any]) -> SclVitsConfig:
    config = SclVitsConfig()
    config.from_dict({"model": "scl_vits", "scl": section})
    return config


def overridden(*arguments: str, section: dict[str, Any] | None = None) -> SclVitsConfig:
    config = loaded(section or {})
    assert config.parse_known_args(list(arguments), relaxed_parser=True) == []
    return config


def test_the_defaults_are_those_of_the_contract() -> None:
    assert SclConfig().to_dict() == DEFAULTS
    assert SclVitsConfig().scl.to_dict() == DEFAULTS
    assert SclVitsConfig().model == "scl_vits"


def test_two_configs_share_no_default() -> None:
    changed = SclConfig()
    changed.encoders[0].params["model_path"] = "a.pt"
    changed.loss.params["scale"] = 2.0
    changed.holdout.append(changed.encoders[0])
    assert SclConfig().to_dict() == DEFAULTS


def test_loading_keeps_every_value() -> None:
    assert loaded(FULL).scl.to_dict() == FULL


def test_a_partial_section_leaves_the_other_defaults() -> None:
    assert loaded({"weight": 2.0, "freeze": {"check_every": 3}}).scl.to_dict() == DEFAULTS | {
        "weight": 2.0,
        "freeze": DEFAULTS["freeze"] | {"check_every": 3},
    }


def test_a_section_survives_a_file_and_coquis_own_loader(tmp_path: Path) -> None:
    config = loaded(FULL)
    config.save_json(tmp_path / "config.json")
    again = load_config(tmp_path / "config.json")
    assert type(again) is SclVitsConfig
    assert again.scl == config.scl
    assert again.scl.to_dict() == FULL
    assert again == config


def test_a_whole_number_will_do_for_a_weight() -> None:
    config = loaded({"weight": 5, "encoders": [{"name": "ge2e", "weight": 2}]})
    assert (config.scl.weight, config.scl.encoders[0].weight) == (5.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--coqpit.scl.weight", "5"], {"weight": 5.0}),
        (["--coqpit.scl.weight=5"], {"weight": 5.0}),
        (["--coqpit.scl.encoders.0.weight", "2"], {"encoders": [FIRST | {"weight": 2.0}, SECOND]}),
        (["--coqpit.scl.encoders.0.name", "dvector"], {"encoders": [FIRST | {"name": "dvector"}, SECOND]}),
        (["--coqpit.scl.freeze.check_every", "7"], {"freeze": DEFAULTS["freeze"] | {"check_every": 7}}),
        (["--coqpit.scl.enabled", "false"], {"enabled": False}),
        (
            ["--coqpit.scl.augment.noise_snr_db", "10", "30"],
            {"augment": DEFAULTS["augment"] | {"noise_snr_db": [10.0, 30.0]}},
        ),
        (["--coqpit.scl.reference.source", "segment"], {"reference": DEFAULTS["reference"] | {"source": "segment"}}),
        (
            ["--coqpit.scl.start_step", "5", "--coqpit.scl.ramp_steps", "6", "--coqpit.batch_size", "3"],
            {"start_step": 5, "ramp_steps": 6},
        ),
    ],
    ids=" ".join,
)
def test_an_override_changes_its_value_and_no_other(
    arguments: list[str], expected: dict[str, Any], tmp_path: Path
) -> None:
    config = overridden(*arguments)
    assert config.scl.to_dict() == DEFAULTS | expected
    config.save_json(tmp_path / "config.json")
    assert load_config(tmp_path / "config.json").scl == config.scl


def test_an_override_leaves_the_parameters_of_a_file_alone() -> None:
    section = loaded(FULL | {"enabled": True}).scl.to_dict()
    section["encoders"][0]["weight"] = 4.0
    config = overridden("--coqpit.scl.encoders.0.weight", "4", section=FULL | {"enabled": True})
    assert config.scl.to_dict() == section


def test_an_unknown_override_of_the_section_is_refused_and_others_are_handed_back() -> None:
    with pytest.raises(ConfigError, match=r"^--coqpit\.scl\.wieght.*Did you mean '--coqpit\.scl\.weight'\?"):
        SclVitsConfig().parse_known_args(["--coqpit.scl.wieght", "5"], relaxed_parser=True)
    assert SclVitsConfig().parse_known_args(["--coqpit.nosuch", "5"], relaxed_parser=True) == ["--coqpit.nosuch", "5"]


def test_a_config_without_a_section_means_stocks_own_loss_where_that_is_on(tmp_path: Path) -> None:
    config = SclVitsConfig()
    config.from_dict(STOCK_LOSS)
    files = {"model_path": "encoder.pth", "config_path": "encoder.json"}
    expected = DEFAULTS | {
        "weight": 4.0,
        "loss": {"name": "cosine", "params": {}},
        "encoders": [FIRST | {"name": "coqui", "params": files}],
        "window": {"seconds": 0.0, "items": None, "every_n_steps": 1},
    }
    assert config.scl.to_dict() == expected

    stock = VitsConfig()
    stock.from_dict(STOCK_LOSS)
    assert SclVitsConfig.from_stock(stock).scl.to_dict() == expected

    config.save_json(tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text())["scl"] == expected


def test_a_config_without_a_section_and_without_stocks_loss_means_the_default() -> None:
    config = SclVitsConfig()
    config.from_dict({"model_args": STOCK_LOSS["model_args"] | {"use_speaker_encoder_as_loss": False}})
    assert config.scl.to_dict() == DEFAULTS


def expected_weight(step: int, weight: float, start: int, ramp: int) -> float:
    """Return the sum, up to `step`, of rises by `weight / ramp` at each of the `ramp` steps from `start` on."""
    if ramp == 0:
        return weight if step >= start else 0.0
    return sum(weight / ramp for rise in range(start, start + ramp) if rise <= step)


@pytest.mark.parametrize(
    ("weight", "start", "ramp"), [(9.0, 0, 0), (9.0, 3, 0), (8.0, 0, 4), (8.0, 10, 4), (0.0, 2, 3), (5.0, 2, 1)]
)
def test_the_weight_rises_linearly_after_its_start(weight: float, start: int, ramp: int) -> None:
    config = SclConfig(weight=weight, start_step=start, ramp_steps=ramp)
    for step in range(30):
        assert config.weight_at(step) == pytest.approx(expected_weight(step, weight, start, ramp)), step


def test_the_weight_is_0_before_its_start_and_whole_after_the_ramp() -> None:
    config = SclConfig(weight=9.0, start_step=100, ramp_steps=50)
    assert config.weight_at(0) == config.weight_at(99) == 0.0
    assert config.weight_at(124) == pytest.approx(4.5)
    assert config.weight_at(149) == config.weight_at(150) == config.weight_at(10**7) == 9.0


def test_the_weight_is_0_wherever_the_loss_is_off() -> None:
    config = SclConfig(enabled=False, weight=9.0, ramp_steps=3)
    assert {config.weight_at(step) for step in (0, 1, 2, 3, 1000)} == {0.0}
