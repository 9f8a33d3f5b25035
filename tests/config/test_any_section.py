"""Whatever stands in the place of a section, by whatever way it comes in: a ConfigError with its path, or it is sound.

`make nightly` tries many more examples than `make test`.
"""

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from any_values import (
    NOWHERE_SOUND,
    any_values,
    json_values,
    mutated,
    nested,
    nowhere_sound,
    places,
    text,
    with_one_replaced,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.config import EncoderConfig, FreezeConfig, LossConfig, ModuleRuleConfig, SclConfig, WindowConfig
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.utils.shown import key_path

FULL: dict[str, Any] = {
    "enabled": True,
    "weight": 3.5,
    "gradient_share": None,
    "start_step": 7,
    "ramp_steps": 9,
    "loss": {
        "name": "ensemble",
        "params": {
            "combine": "worst",
            "seed": 5,
            "member": {"name": "angular_margin", "params": {"margin": 0.3}},
            "members": {"ge2e": [{"name": "cosine", "weight": 2.0, "params": {}}], "d-2": {"cosine": 1.0}},
        },
    },
    "encoders": [
        {"name": "ge2e", "params": {"model_path": "a.pt"}, "weight": 0.5, "floor": -0.1, "ceiling": 0.9},
        {"name": "dvector", "alias": "d-2", "params": {}, "weight": 2.0, "policy": "frozen"},
    ],
    "holdout": [{"name": "ge2e", "alias": "judge", "params": {}}],
    "reference": {"source": "segment", "cache": None},
    "window": {"seconds": 1.5, "items": 3, "every_n_steps": 5},
    "segment": {"min_seconds": 1.6, "detach_posterior": True},
    "augment": {"gain_db": 6.0, "noise_snr_db": [10.0, 30.0], "speed": 0.05},
    "freeze": {
        "modules": [{"pattern": "text_encoder", "until_step": 50}, {"pattern": "flow", "lr_scale": 0.1}],
        "check_every": 11,
        "on_drift": "warn",
    },
    "preflight": {"skip": ["gradient"]},
    "evaluation": {"max_seconds": 2.5, "training_rise": 0.1, "holdout_rise": -0.05},
}
SOUND = [FULL, {}, SclConfig().to_dict(), {"enabled": False, "encoders": []}, {"loss": {"name": "ensemble"}}]
DEFAULTS = SclConfig().to_dict()
KNOWN_KEYS = {"name", "alias", "params", "weight", "policy", "floor", "ceiling", "pattern", "until_step", "calibrate"}


def from_dict(section: Any) -> SclConfig:
    config = SclConfig()
    config.from_dict(section)
    return config


def vits_from_dict(section: Any) -> SclConfig:
    config = SclVitsConfig()
    config.from_dict({"scl": section})
    return config.scl


def assigned(section: Any) -> SclConfig:
    """Set attributes one by one, sections as objects where they can be built, and check as `SclVits` does."""
    config = SclVitsConfig()
    if not isinstance(section, dict):
        config.scl = section
    else:
        for key, value in section.items():
            if key in DEFAULTS:
                setattr(config.scl, key, value)
            else:
                vars(config.scl)[str(key)] = value
    config.check_values()
    return config.scl


def constructed(section: Any) -> SclConfig:
    """Call the constructor; Python itself refuses keyword arguments that it does not have."""
    given = section if isinstance(section, dict) else {}
    config = SclConfig(**{key: value for key, value in given.items() if key in DEFAULTS})
    config.check_values()
    return config


WAYS_IN: dict[str, Callable[[Any], SclConfig]] = {
    "SclConfig.from_dict": from_dict,
    "SclConfig.new_from_dict": SclConfig.new_from_dict,
    "SclVitsConfig.from_dict": vits_from_dict,
    "SclVitsConfig.new_from_dict": lambda section: SclVitsConfig.new_from_dict({"scl": section}).scl,
}
AS_OBJECTS = {"attributes": assigned, "constructor": constructed}
any_section = st.sampled_from(SOUND).flatmap(lambda sound: mutated(sound, any_values)) | any_values


def assert_says_where(message: str, section: Any) -> None:
    """Assert that a message is short and begins with the path of a key in `section`, or of one that it may have."""
    assert len(message) < 2000, len(message)
    assert "\n" not in message
    known = {_path(place) for data in (section, DEFAULTS) for place in places(data)}
    if any(message.startswith(f"{path}{after}") for path in known for after in (" = ", ": ", " is ", " (")):
        return
    missing = re.match(r"(.+?)\.(\w+)( = |: )", message)  # a key that is not given, and whose default does not do
    assert missing is not None, message
    assert missing.group(1) in known, message
    assert missing.group(2) in KNOWN_KEYS, message


def _path(place: tuple[Any, ...]) -> str:
    path = "scl"
    for key in place:
        path = key_path(path, key)
    return path


@pytest.mark.parametrize("way", WAYS_IN)
@given(section=any_section)
def test_any_section_is_sound_or_refused_with_its_path(way: str, section: Any) -> None:
    try:
        config = WAYS_IN[way](section)
    except ConfigError as error:
        assert_says_where(str(error), section)
    else:
        assert_round_trips(config, section)


@pytest.mark.parametrize("way", AS_OBJECTS)
@given(section=any_section)
def test_any_object_is_sound_or_refused_with_its_path(way: str, section: Any) -> None:
    try:
        config = AS_OBJECTS[way](section)
    except ConfigError as error:
        assert_says_where(str(error), section)
    else:
        assert_round_trips(config, config.to_dict())


def assert_round_trips(config: SclConfig, section: dict[str, Any]) -> None:
    """Assert that no value was changed, and that JSON holds all of it."""
    kept = config.to_dict()
    assert SclConfig.new_from_dict(json.loads(json.dumps(kept))) == config
    for place in places(section):
        expected, found = section, kept
        for key in place:
            expected, found = expected[key], found[key]
        if not isinstance(expected, dict | list):
            assert found == expected, place


@given(found=with_one_replaced(FULL, nowhere_sound), way=st.sampled_from(sorted(WAYS_IN)))
def test_what_is_sound_nowhere_is_refused_at_its_own_path(found: tuple[Any, tuple[Any, ...]], way: str) -> None:
    section, place = found
    path = _path(place)
    with pytest.raises(ConfigError) as caught:
        WAYS_IN[way](section)
    assert str(caught.value).startswith((f"{path} = ", f"{path}.", f"{path}: ")), str(caught.value)


@given(section=st.just(FULL).flatmap(lambda sound: mutated(sound, json_values)) | json_values)
def test_any_file_is_sound_or_refused_with_its_path(section: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any_section.json"
    path.write_text(json.dumps({"model": "scl_vits", "scl": section}))
    config = SclVitsConfig()
    try:
        config.load_json(path)
    except ConfigError as error:
        assert_says_where(str(error), section)
    else:
        assert_round_trips(config.scl, section)


FEWER = settings(max_examples=settings().max_examples // 5)  # Coqpit makes a parser with hundreds of options for each

OPTIONS = sorted(
    option
    for option in SclVitsConfig.init_argparse(instance=SclVitsConfig(), relaxed_parser=True)._option_string_actions
    if option.startswith("--coqpit.scl.")
)


@FEWER
@given(
    options=st.lists(
        st.tuples(
            st.sampled_from(OPTIONS) | text.map("--coqpit.scl.{}".format),
            text | st.sampled_from(["null", "nan", "1" * 5000, "1e999", "[" * 1000, "-1", "2", "true"]),
        ),
        min_size=1,
        max_size=2,
    )
)
def test_any_override_is_sound_or_refused(options: list[tuple[str, str]]) -> None:
    config = SclVitsConfig()
    arguments = [f"{option}={value}" for option, value in options]
    try:
        unknown = config.parse_known_args(arguments, relaxed_parser=True)
    except ConfigError as error:
        message = str(error)
    else:
        assert unknown == []
        assert_round_trips(config.scl, config.scl.to_dict())
        return
    assert message.lstrip("\"'").startswith(("scl.", "--coqpit.")), message
    assert len(message) < 4000


# --- what the examples above showed, and others, one by one -----------------------------------------------------------


@pytest.mark.parametrize("way", WAYS_IN)
def test_a_misspelt_key_is_never_dropped(way: str) -> None:
    with pytest.raises(ConfigError, match=r"^scl\.weigth: unknown key\. Did you mean 'weight'\?"):
        WAYS_IN[way]({"weigth": 3})


@pytest.mark.parametrize("way", WAYS_IN)
def test_nested_errors_name_the_whole_path(way: str) -> None:
    with pytest.raises(ConfigError, match=r"^scl\.encoders\.1\.weight = 'x': Input should be a valid number"):
        WAYS_IN[way]({"encoders": [{"name": "ge2e"}, {"name": "dvector", "weight": "x"}]})


@pytest.mark.parametrize("way", WAYS_IN)
def test_a_default_that_does_not_do_is_named_by_its_whole_path(way: str) -> None:
    with pytest.raises(ConfigError, match=r"^scl\.freeze\.modules\.1\.pattern = '': "):
        WAYS_IN[way]({"freeze": {"modules": [{"pattern": "flow"}, {}]}})


@pytest.mark.parametrize("way", WAYS_IN)
def test_registered_names_are_checked_as_well(way: str) -> None:
    with pytest.raises(ConfigError, match=r"^scl\.encoders\.0\.name = 'ge2': no speaker encoder"):
        WAYS_IN[way]({"encoders": [{"name": "ge2"}]})


@pytest.mark.parametrize(
    ("cls", "section", "path"),
    [
        (EncoderConfig, {"weight": "x"}, "encoder.weight = 'x'"),
        (EncoderConfig, {"wieght": 1}, "encoder.wieght: unknown key. Did you mean 'weight'?"),
        (EncoderConfig, [1], "encoder = [1]"),
        (LossConfig, {"params": {"a": (1, 2)}}, "loss.params.a = (1, 2)"),
        (ModuleRuleConfig, {}, "module_rule.pattern = ''"),
        (FreezeConfig, {"modules": [{"pattern": "a"}, {"until_step": 0}]}, "freeze.modules.1.until_step = 0"),
    ],
)
def test_a_class_by_itself_has_paths_of_its_own(cls: Any, section: Any, path: str) -> None:
    for read in (cls.new_from_dict, cls().from_dict):
        with pytest.raises(ConfigError) as caught:
            read(section)
        assert str(caught.value).startswith(path), str(caught.value)


def test_a_refused_section_leaves_the_config_as_it_was() -> None:
    config = SclConfig(weight=2.0)
    before = copy.deepcopy(config)
    with pytest.raises(ConfigError):
        config.from_dict({"start_step": 5, "window": {"seconds": -1}})
    with pytest.raises(ConfigError):
        config.from_dict({"start_step": 5, "encoders": [{"name": "nosuch"}]})
    assert config == before
    config.from_dict({"start_step": 5})
    assert (config.weight, config.start_step) == (2.0, 5)


def test_a_mapping_in_the_place_of_a_section_is_refused_by_the_constructor() -> None:
    with pytest.raises(ConfigError, match=r"^scl\.window = .*must be of the class WindowConfig; .*new_from_dict"):
        SclConfig(window={"seconds": 1.0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^scl\.encoders\.0 = .*must be of the class EncoderConfig"):
        SclConfig(encoders=[{"name": "ge2e"}])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"^scl = .*must be of the class SclConfig"):
        SclVitsConfig(scl={"weight": 3})  # type: ignore[arg-type]
    assert SclConfig(window=WindowConfig(seconds=1.0)).window.seconds == 1.0


def test_a_text_that_coqpit_takes_for_a_missing_value_is_refused() -> None:
    for section, path in (({"encoders": [{"alias": "???"}]}, r"scl\.encoders\.0\.alias"), ("???", "scl")):
        for way in WAYS_IN.values():
            with pytest.raises(ConfigError, match=rf"^{path} = "):
                way(section)
    with pytest.raises(ConfigError, match=r"^scl = '\?\?\?'"):
        assigned("???")


def test_null_takes_a_value_away_by_an_override() -> None:
    config = SclVitsConfig()
    config.from_dict({"scl": {"gradient_share": 0.5, "augment": {"noise_snr_db": [10, 20]}}})
    config.parse_known_args(["--coqpit.scl.gradient_share", "null"], relaxed_parser=True)
    assert config.scl.gradient_share is None
    config = SclVitsConfig()
    config.parse_known_args(["--coqpit.scl.augment.noise_snr_db", "null"], relaxed_parser=True)
    assert config.scl.augment.noise_snr_db is None
    with pytest.raises(ConfigError, match=r"^scl\.weight = None: Input should be a valid number"):
        config.parse_known_args(["--coqpit.scl.weight", "null"], relaxed_parser=True)


def test_a_section_class_by_itself_takes_overrides() -> None:
    config = SclConfig()
    config.parse_args(["--coqpit.weight", "3", "--coqpit.window.items", "null"])
    assert (config.weight, config.window.items) == (3.0, None)
    for arguments in (["--coqpit.weight", "x"], ["--coqpit.wieght", "3"], ["--coqpit.weig", "3"]):
        with pytest.raises(ConfigError):
            SclConfig().parse_args(arguments)


WITHOUT_END = {"1,000 levels": lambda: nested(1000), "integer of 5,000 digits": lambda: 10**5000}


@pytest.mark.parametrize("name", [*NOWHERE_SOUND, *WITHOUT_END])
@pytest.mark.parametrize("key", ["alias", "weight", "params"])
@pytest.mark.parametrize("way", WAYS_IN)
def test_no_message_repeats_a_long_value(way: str, key: str, name: str) -> None:
    value = (NOWHERE_SOUND | WITHOUT_END)[name]()
    with pytest.raises(ConfigError) as caught:
        WAYS_IN[way]({"encoders": [{key: value}]})
    assert str(caught.value).startswith(f"scl.encoders.0.{key}")
    assert len(str(caught.value)) < 600


def test_stocks_alpha_and_files_are_named_by_their_own_keys() -> None:
    stock = {"use_speaker_encoder_as_loss": True, "speaker_encoder_model_path": "a", "speaker_encoder_config_path": "b"}
    for changes, path in (
        ({"speaker_encoder_loss_alpha": "x"}, "speaker_encoder_loss_alpha = 'x'"),
        ({"model_args": {**stock, "speaker_encoder_model_path": 5}}, "model_args.speaker_encoder_model_path = 5"),
        ({"model_args": [1]}, "model_args = [1]"),
    ):
        with pytest.raises(ConfigError) as caught:
            SclVitsConfig().from_dict({"model_args": stock, **changes})
        assert str(caught.value).startswith(path), str(caught.value)
