"""Whatever is wrong in Coqui's half of a config is found without an exception, and named by keys that were changed."""

import copy
import dataclasses
import math
import re
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_vits import dataset, run_config

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.coqui.config_facts import coqui_tools
from coqui_scl_plugin.coqui.run_config import resolved_config
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.preflight.checks import run_checks
from coqui_scl_plugin.preflight.facts import ConfigFacts
from coqui_scl_plugin.preflight.report import PreflightReport, Result

NOT_OF_THE_CONFIG = [Result(id_, "", "passed") for id_ in ("ffmpeg", "versions")]
TOOLS = coqui_tools()
SOUND = run_config(
    Path("data"),
    datasets=[dataset(Path("data"), language="en"), dataset(Path("more"), language="de")],
    characters={"pad": "_", "blank": "#", "characters": "abc", "punctuations": "!?"},
    optimizer_params={"betas": [0.8, 0.99], "eps": 1e-9, "weight_decay": 0.01},
    test_sentences=[["a text", "a", None, "en"]],
)


def found(data: dict[str, Any], *overrides: str) -> list[tuple[str, str]]:
    """Return the check and the text of each finding in a config alone."""
    facts = ConfigFacts(config=resolved_config(data, overrides), written=data, coqui=TOOLS)
    report = run_checks("config", facts, (), PreflightReport(list(NOT_OF_THE_CONFIG)))
    return [(result.id, f"{f.found} {f.change}") for result in report.results for f in result.findings]


def test_nothing_is_found_in_a_sound_config() -> None:
    assert found(SOUND) == []


def test_nothing_is_found_in_what_coqui_writes_of_it() -> None:
    config = resolved_config(SOUND, [])
    assert found(config.to_dict()) == []
    assert found(SclVitsConfig().to_dict() | {"datasets": SOUND["datasets"]}) == []


# --- random defects ---------------------------------------------------------------------------------------------------


def keys_of(section: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the places of all keys that Coqui knows, and of two that it does not."""
    places = [(*path, name) for name in ("no_such_key", "batch_sizes")]
    for field in dataclasses.fields(section):
        value, place = getattr(section, field.name), (*path, field.name)
        if field.name in ("scl", "model"):
            continue
        places.append(place)
        if dataclasses.is_dataclass(value):
            places += keys_of(value, place)
        elif field.name == "datasets":
            places += keys_of(value[0], (*place, 0))
    return places


PLACES = keys_of(resolved_config(SOUND, []))
EXTREMES = [0, -1, 1, 2, 3, 7, 1e-9, 10**9, -(10**9), 10**400, 2**63, math.nan, math.inf, -math.inf, 0.5, 32.0]
NUMBERS = st.one_of(st.sampled_from(EXTREMES), st.integers(-100, 2000), st.floats())
WORDS = st.sampled_from(
    ["", " ", "no", "en", "???", "None", "1", "x" * 5000, "a/b", "\0", "\ud800", "{}", "Adam", "espeak", "data"]
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.text(max_size=4))
JUNK = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=3)
)
DROPPED = object()
OF_TYPE = {
    bool: st.booleans(),
    int: st.sampled_from([0, 1, 2, 3, 4, 5, 16, 255, 1024, 22_050]),
    float: st.sampled_from([0, 0.0, 0.5, 1, 2.5, 100.0, 12_000.0]),
    str: WORDS
    | st.sampled_from(["multi_phonemizer", "basic_cleaners", "SGD", "StepLR", "TTS.tts.models.vits.VitsCharacters"]),
    list: st.lists(st.sampled_from([1, 2, 3, 4, 8]), max_size=5)
    | st.lists(st.lists(st.integers(1, 3), max_size=3), max_size=3),
    dict: st.dictionaries(st.sampled_from(["gamma", "last_epoch", "betas", "lr", "speaker_name"]), NUMBERS, max_size=2),
}
"""Values of the type that a key has, most of which are allowed: they reach the checks after that of types."""


def plausible(place: tuple[str | int, ...]) -> st.SearchStrategy[Any]:
    """Return values of the type of what is at a place, and those of its type hint."""
    where: Any = resolved_config(SOUND, [])
    for name in place[:-1]:
        where = where[name] if isinstance(name, int) else getattr(where, name)
    hint = {field.name: str(field.type) for field in dataclasses.fields(where)}.get(str(place[-1]), "str")
    kinds = [kind for kind in OF_TYPE if re.search(rf"\b{kind.__name__}\b", hint)]
    return st.one_of(*(OF_TYPE[kind] for kind in kinds or [str]))


JUNK_CHANGES = st.lists(st.tuples(st.sampled_from(PLACES), st.just(DROPPED) | JUNK), min_size=1, max_size=3)
ALLOWED = {place: plausible(place) for place in PLACES if place[-1] not in ("datasets", "no_such_key", "batch_sizes")}
SWITCHES = st.sampled_from(
    [
        ("use_phonemes",),
        ("use_weighted_sampler",),
        *(("model_args", f"use_{name}") for name in ("speaker_embedding", "d_vector_file", "language_embedding")),
    ]
)
PLAUSIBLE_CHANGES = st.lists(
    st.one_of(
        st.tuples(SWITCHES, st.booleans()),
        *(
            st.sampled_from(list(ALLOWED)).flatmap(lambda place: st.tuples(st.just(place), ALLOWED[place]))
            for _ in "abc"
        ),
    ),
    min_size=1,
    max_size=4,
)


def changed(changes: list[tuple[tuple[str | int, ...], Any]]) -> tuple[dict[str, Any], list[str]]:
    """Return the sound config with changes, and the dotted keys of those that could be made."""
    data, keys = copy.deepcopy(SOUND), []
    for place, value in changes:
        where: Any = data
        for name in place[:-1]:
            where = where[name] if isinstance(name, int) or not isinstance(where, dict) else where.setdefault(name, {})
            if not isinstance(where, dict | list) or not where:
                where = None
                break
        if not isinstance(where, dict) or (value is DROPPED and place[-1] not in where):
            continue
        if value is DROPPED:
            del where[place[-1]]
        else:
            where[place[-1]] = value
        keys.append(".".join(map(str, place)))
    return data, keys


OFTEN = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def check_names(changes: list[Any]) -> None:
    """Assert that a changed config gives no exception but a ConfigError, and that findings are about the changes."""
    data, keys = changed(changes)
    names = {key.rpartition(".")[2] for key in keys}
    with mock.patch.object(SclVitsConfig, "check_values"):  # of the section, which is sound and takes most time
        try:
            findings = found(data)
        except ConfigError as error:
            findings = [("config", str(error))]
    for check, text in findings:
        assert "could not be run" not in text, (keys, text)
        assert len(text) < 2_000, text
        key = re.match(r"[\w.]*", text)
        assert key is not None
        is_named = any(key[0] == own or key[0].startswith(f"{own}.") for own in keys)
        is_mentioned = any(name in text for name in names)
        assert is_named if check == "keys" else is_named or is_mentioned, (keys, check, text)


@settings(OFTEN, max_examples=max(500, settings.default.max_examples))
@given(JUNK_CHANGES)
def test_any_junk_is_named_by_the_keys_that_were_changed(changes: list[Any]) -> None:
    check_names(changes)


@settings(OFTEN, max_examples=max(1_000, settings.default.max_examples))
@given(PLAUSIBLE_CHANGES)
def test_any_values_that_do_not_fit_each_other_are_named(changes: list[Any]) -> None:
    check_names(changes)
