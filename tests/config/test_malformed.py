"""A section that cannot be used is refused on loading, with the path of its key and the nearest known name."""

import json
from pathlib import Path
from typing import Any

import pytest

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.consistency.build import build_consistency
from coqui_scl_plugin.errors import ConfigError

NAN, INFINITY = float("nan"), float("inf")


def loss(name: Any, **params: Any) -> dict[str, Any]:
    return {"loss": {"name": name, "params": params}}


def encoder(**keys: Any) -> dict[str, Any]:
    return {"encoders": [{"name": "ge2e"} | keys]}


def member(value: Any) -> dict[str, Any]:
    return loss("ensemble", member=value)


UNKNOWN_KEYS = {
    "scl.wieght": ({"wieght": 5}, "'weight'"),
    "scl.loss.parms": ({"loss": {"name": "cosine", "parms": {}}}, "'params'"),
    "scl.encoders.0.polcy": (encoder(polcy="frozen"), "'policy'"),
    "scl.encoders.1.alais": ({"encoders": [{"name": "ge2e"}, {"name": "dvector", "alais": "d"}]}, "'alias'"),
    "scl.holdout.0.naem": ({"holdout": [{"naem": "dvector"}]}, "'name'"),
    "scl.reference.sorce": ({"reference": {"sorce": "utterance"}}, "'source'"),
    "scl.reference.cach": ({"reference": {"cach": "a.safetensors"}}, "'cache'"),
    "scl.encoders.0.flor": (encoder(flor=0.2), "'floor'"),
    "scl.encoders.0.celing": (encoder(celing=0.8), "'ceiling'"),
    "scl.segment.min_second": ({"segment": {"min_second": 1.0}}, "'min_seconds'"),
    "scl.augment.nois_snr_db": ({"augment": {"nois_snr_db": [10, 30]}}, "'noise_snr_db'"),
    "scl.freeze.check_evry": ({"freeze": {"check_evry": 5}}, "'check_every'"),
    "scl.zzzzzz": ({"zzzzzz": 1}, "Known: augment, enabled"),
}

UNKNOWN_NAMES = {
    "scl.loss.name": (loss("cosin"), "'cosine'"),
    "scl.encoders.0.name": ({"encoders": [{"name": "ge2"}]}, "'ge2e'"),
    "scl.encoders.0.policy": (encoder(policy="frozzen"), "'frozen'"),
    "scl.holdout.0.name": ({"holdout": [{"name": "dvectr"}]}, "'dvector'"),
    "scl.holdout.0.policy": ({"holdout": [{"name": "dvector", "policy": "forzen"}]}, "'frozen'"),
    "scl.loss.params.margn": (loss("angular_margin", margn=0.1), "'margin'"),
    "scl.encoders.0.params.model_pth": (encoder(params={"model_pth": "x"}), "'model_path'"),
    "scl.encoders.0.params.config_pth": (
        {"encoders": [{"name": "coqui", "params": {"model_path": "x", "config_pth": "y"}}]},
        "'config_path'",
    ),
}

SOURCES = ("segment", "utterance", "cross_utterance", "centroid")

WRONG_TYPES = [
    ("scl.weight", {"weight": "9"}),
    ("scl.weight", {"weight": True}),
    ("scl.weight", {"weight": None}),
    ("scl.enabled", {"enabled": "yes"}),
    ("scl.enabled", {"enabled": 1}),
    ("scl.start_step", {"start_step": 1.5}),
    ("scl.start_step", {"start_step": True}),
    ("scl.ramp_steps", {"ramp_steps": "10"}),
    ("scl.loss", {"loss": "cosine"}),
    ("scl.loss", {"loss": ["cosine"]}),
    ("scl.loss", {"loss": None}),
    ("scl.loss.name", loss(5)),
    ("scl.loss.name", loss(["cosine"])),
    ("scl.loss.params", {"loss": {"name": "cosine", "params": []}}),
    ("scl.loss.params", {"loss": {"name": "cosine", "params": None}}),
    ("scl.encoders", {"encoders": {"name": "ge2e"}}),
    ("scl.encoders", {"encoders": None}),
    ("scl.encoders.0", {"encoders": ["ge2e"]}),
    ("scl.encoders.0.weight", encoder(weight="1")),
    ("scl.encoders.0.alias", encoder(alias=3)),
    ("scl.encoders.0.policy", encoder(policy=None)),
    ("scl.encoders.0.params.model_path", encoder(params={"model_path": 5})),
    ("scl.holdout", {"holdout": "dvector"}),
    ("scl.encoders.0.floor", encoder(floor="0.2", ceiling=0.8)),
    ("scl.encoders.0.floor", encoder(floor=True, ceiling=0.8)),
    ("scl.encoders.0.ceiling", encoder(floor=0.2, ceiling=[0.8])),
    ("scl.holdout.0.floor", {"holdout": [{"name": "dvector", "floor": "0.2", "ceiling": 0.8}]}),
    ("scl.reference", {"reference": "utterance"}),
    ("scl.reference.source", {"reference": {"source": None}}),
    ("scl.reference.source", {"reference": {"source": 1}}),
    ("scl.reference.source", {"reference": {"source": ["utterance"]}}),
    ("scl.reference.cache", {"reference": {"cache": 5}}),
    ("scl.reference.cache", {"reference": {"cache": False}}),
    ("scl.reference.cache", {"reference": {"cache": ["a.safetensors"]}}),
    ("scl.segment.detach_posterior", {"segment": {"detach_posterior": 0}}),
    ("scl.augment.gain_db", {"augment": {"gain_db": "6"}}),
    ("scl.augment.noise_snr_db", {"augment": {"noise_snr_db": 20}}),
    ("scl.augment.noise_snr_db.1", {"augment": {"noise_snr_db": [10, "30"]}}),
    ("scl.freeze.check_every", {"freeze": {"check_every": 2.0}}),
    ("scl.loss.params.margin", loss("angular_margin", margin="0.2")),
    ("scl.loss.params.margin", loss("angular_margin", margin=True)),
    ("scl.loss.params.margin_warmup_steps", loss("angular_margin", margin_warmup_steps=1.0)),
    ("scl.loss.params.member", member("cosine")),
    ("scl.loss.params.calibrate", loss("ensemble", calibrate="yes")),
    ("scl.loss.params.calibrate", loss("ensemble", calibrate=1)),
    ("scl", "cosine"),
    ("scl", []),
    ("scl", 5),
    ("scl", None),
]

OUT_OF_RANGE = [
    ("scl.weight", {"weight": -1}),
    ("scl.weight", {"weight": NAN}),
    ("scl.weight", {"weight": INFINITY}),
    ("scl.start_step", {"start_step": -1}),
    ("scl.ramp_steps", {"ramp_steps": -1}),
    ("scl.segment.min_seconds", {"segment": {"min_seconds": -0.5}}),
    ("scl.segment.min_seconds", {"segment": {"min_seconds": NAN}}),
    ("scl.augment.gain_db", {"augment": {"gain_db": -1}}),
    ("scl.augment.gain_db", {"augment": {"gain_db": NAN}}),
    ("scl.augment.equaliser_db", {"augment": {"equaliser_db": 25}}),
    ("scl.augment.noise_snr_db", {"augment": {"noise_snr_db": []}}),
    ("scl.augment.noise_snr_db", {"augment": {"noise_snr_db": [10, 20, 30]}}),
    ("scl.augment.noise_snr_db", {"augment": {"noise_snr_db": [30, 10]}}),
    ("scl.augment.noise_snr_db", {"augment": {"noise_snr_db": [-5, 10]}}),
    ("scl.augment.noise_snr_db.0", {"augment": {"noise_snr_db": [NAN, 10]}}),
    ("scl.augment.room_seconds", {"augment": {"room_seconds": 0.6}}),
    ("scl.augment.speed", {"augment": {"speed": 0.3}}),
    ("scl.augment.speed", {"augment": {"speed": 0.005}}),
    ("scl.freeze.check_every", {"freeze": {"check_every": 0}}),
    ("scl.encoders.0.weight", encoder(weight=0)),
    ("scl.encoders.0.weight", encoder(weight=NAN)),
    ("scl.encoders.0.floor", encoder(floor=-1.01, ceiling=0.8)),
    ("scl.encoders.0.floor", encoder(floor=NAN, ceiling=0.8)),
    ("scl.encoders.0.ceiling", encoder(floor=0.2, ceiling=1.01)),
    ("scl.encoders.0.ceiling", encoder(floor=0.2, ceiling=INFINITY)),
    ("scl.encoders.0.floor", encoder(floor=0.8, ceiling=0.8)),
    ("scl.encoders.0.floor", encoder(floor=0.8, ceiling=0.2)),
    ("scl.holdout.0.floor", {"holdout": [{"name": "dvector", "floor": 0.8, "ceiling": 0.2}]}),
    ("scl.reference.source", {"reference": {"source": "utterence"}}),
    ("scl.reference.source", {"reference": {"source": ""}}),
    ("scl.reference.cache", {"reference": {"cache": ""}}),
    ("scl.loss.params.margin", loss("angular_margin", margin=2.0)),
    ("scl.loss.params.margin", loss("angular_margin", margin=NAN)),
    ("scl.loss.params.scale", loss("angular_margin", scale=0)),
    ("scl.loss.params.kind", loss("angular_margin", kind="additive")),
    ("scl.loss.params.temperature", loss("contrastive", temperature=0)),
    ("scl.loss.params.temperature", loss("contrastive", temperature=INFINITY)),
    ("scl.loss.params.combine", loss("ensemble", combine="meen")),
    ("scl.loss.params.seed", loss("ensemble", seed=-1)),
    ("scl.loss.params.prototypes", loss("angular_margin", prototypes="centroids")),
]

CONTRADICTIONS = [
    ("scl.encoders", {"encoders": []}, "at least one"),
    ("scl.encoders.0.params", {"encoders": [{"name": "coqui"}]}, "model_path, config_path"),
    ("scl.encoders.0.params", {"encoders": [{"name": "coqui", "params": {"model_path": "x"}}]}, "config_path"),
    ("scl.encoders.0.alias", encoder(alias="a/b"), "letters, digits"),
    ("scl.encoders.0.alias", encoder(alias=" "), "letters, digits"),
    ("scl.encoders.1.alias", {"encoders": [{"name": "ge2e"}, {"name": "ge2e"}]} | loss("ensemble"), "scl.encoders.0"),
    (
        "scl.encoders.1.alias",
        {"encoders": [{"name": "ge2e", "alias": "a"}, {"name": "dvector", "alias": "a"}]} | loss("ensemble"),
        "scl.encoders.0",
    ),
    ("scl.encoders.0", encoder(floor=0.2), "belong together"),
    ("scl.encoders.0", encoder(ceiling=0.8), "belong together"),
    ("scl.holdout.0", {"holdout": [{"name": "dvector", "floor": 0.2}]}, "belong together"),
    ("scl.loss.name", {"encoders": [{"name": "ge2e"}, {"name": "dvector"}]} | loss("cosine"), '"ensemble"'),
    ("scl.holdout.0", {"holdout": [{"name": "ge2e"}]}, "scl.encoders.0"),
    ("scl.holdout.0", {"holdout": [{"name": "ge2e", "alias": "judge"}]}, "training encoder 'ge2e'"),
]

MEMBERS = [
    ("scl.loss.params.member.name", member({"name": "cosin"}), "'cosine'"),
    ("scl.loss.params.member.name", member({"name": "ensemble"}), "cannot be a member"),
    ("scl.loss.params.member", member({"params": {}}), "needs a name"),
    ("scl.loss.params.member.parms", member({"name": "cosine", "parms": {}}), "params"),
    ("scl.loss.params.member.params.margn", member({"name": "angular_margin", "params": {"margn": 1.0}}), "'margin'"),
    ("scl.loss.params.member.params", member({"name": "cosine", "params": [1]}), "[1]"),
]


def assert_refused(section: Any, path: str, *parts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SclVitsConfig().from_dict({"scl": section})
    message = str(caught.value)
    assert message.startswith((f"{path} ", f"{path}:", f"{path}.")), message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("path", UNKNOWN_KEYS)
def test_an_unknown_key_is_named_with_the_nearest_one(path: str) -> None:
    section, proposal = UNKNOWN_KEYS[path]
    assert_refused(section, path, "unknown key", proposal)


@pytest.mark.parametrize("path", UNKNOWN_NAMES)
def test_an_unknown_name_is_named_with_the_nearest_one(path: str) -> None:
    section, proposal = UNKNOWN_NAMES[path]
    assert_refused(section, path, f"Did you mean {proposal}?")


@pytest.mark.parametrize(("path", "section"), WRONG_TYPES, ids=str)
def test_a_value_of_the_wrong_type_is_not_converted(path: str, section: Any) -> None:
    assert_refused(section, path, " = ")


@pytest.mark.parametrize(("path", "section"), OUT_OF_RANGE, ids=str)
def test_a_value_out_of_range_is_named_with_the_range(path: str, section: Any) -> None:
    assert_refused(section, path, " = ")


@pytest.mark.parametrize(("path", "section", "part"), CONTRADICTIONS, ids=str)
def test_what_cannot_work_together_is_refused(path: str, section: Any, part: str) -> None:
    assert_refused(section, path, part)


@pytest.mark.parametrize(("path", "section", "part"), MEMBERS, ids=str)
def test_the_member_of_an_ensemble_is_checked_on_loading(path: str, section: Any, part: str) -> None:
    assert_refused(section, path, part)


def test_a_loss_without_parameters_takes_none() -> None:
    assert_refused(loss("cosine", scale=2.0), "scl.loss.params.scale")


def test_a_held_out_encoder_is_told_by_its_weights() -> None:
    config = SclVitsConfig()
    spelt_out = {"name": "ge2e", "alias": "judge", "params": {"model_path": None}}
    config.from_dict({"scl": encoder() | {"holdout": [spelt_out]}})
    with pytest.raises(ConfigError, match=r"^scl\.holdout\.0 \('judge'\) has the weights of .*'ge2e'"):
        build_consistency(config.scl)


def test_a_section_is_as_strict_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model": "scl_vits", "scl": {"encoders": [{"name": "ge2e", "wheight": 2.0}]}}))
    with pytest.raises(ConfigError, match=r"^scl\.encoders\.0\.wheight: unknown key\. Did you mean 'weight'\?"):
        SclVitsConfig().load_json(path)


def test_a_section_is_checked_even_where_it_is_switched_off() -> None:
    assert_refused({"enabled": False, "weight": "9"}, "scl.weight")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("cache", [None, "a.safetensors", "/tmp/a b/c"])  # noqa: S108  # a name, nothing is written
def test_every_source_and_any_name_of_a_cache_will_do(source: str, cache: str | None) -> None:
    config = SclVitsConfig(output_path="runs")
    config.from_dict({"scl": {"reference": {"source": source, "cache": cache}}})
    assert config.scl.reference.to_dict() == {"source": source, "cache": cache}
    expected = {None: None, "a.safetensors": Path("runs/a.safetensors"), "/tmp/a b/c": Path("/tmp/a b/c")}  # noqa: S108
    assert config.reference_cache == expected[cache]


def test_a_source_that_is_none_is_named_with_all_that_there_are() -> None:
    assert_refused({"reference": {"source": "speaker"}}, "scl.reference.source", *map(repr, SOURCES))


@pytest.mark.parametrize(("floor", "ceiling"), [(0.2, 0.8), (-1, 1), (-0.5, -0.25), (0, 1), (None, None)])
def test_a_floor_below_its_ceiling_will_do(floor: float | None, ceiling: float | None, tmp_path: Path) -> None:
    config = SclVitsConfig()
    config.from_dict({"scl": encoder(floor=floor, ceiling=ceiling)})
    (spec,) = config.scl.encoders
    assert (spec.floor, spec.ceiling) == (floor, ceiling)
    config.save_json(tmp_path / "config.json")
    again = SclVitsConfig()
    again.load_json(tmp_path / "config.json")
    assert again.scl == config.scl


def test_a_refused_section_is_a_value_error_as_well() -> None:
    with pytest.raises(ValueError, match=r"^scl\.weight = -1"):
        SclVitsConfig().from_dict({"scl": {"weight": -1}})
