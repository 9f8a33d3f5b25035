"""Which encoders an evaluation loads, and the role of each."""

import pytest
from evaluation_data import FirstSamples

from coqui_scl_plugin.config import EncoderConfig, SclConfig
from coqui_scl_plugin.errors import ConfigError
from coqui_scl_plugin.evaluation.encoders import EncoderIdentity, encoder_specs, load_encoders, roles_of
from coqui_scl_plugin.plugins import registry


def section(encoders=("ge2e",), holdout=(), **fields):
    specs = [[EncoderConfig(name=name) for name in names] for names in (encoders, holdout)]
    return SclConfig(encoders=specs[0], holdout=specs[1], **fields)


@pytest.mark.parametrize(
    ("sections", "names", "expected"),
    [
        ([], [], ["ge2e", "dvector"]),
        ([], ["coqui"], ["coqui"]),
        ([section(holdout=["dvector"])], [], ["ge2e", "dvector"]),
        ([section()], ["coqui", "ge2e"], ["ge2e", "coqui"]),
        ([section(), section(encoders=["dvector"], holdout=["ge2e"])], [], ["ge2e", "dvector"]),
    ],
)
def test_encoders_of_all_sections_and_names_take_part_once(sections, names, expected):
    assert [*encoder_specs(sections, names)] == expected


def with_hash(*hashes):
    params = [{"sha256": value} if value else {} for value in hashes]
    return [SclConfig(encoders=[EncoderConfig(name="ge2e", params=one)]) for one in params]


def test_a_section_without_a_hash_means_the_encoder_whose_hash_is_known():
    assert encoder_specs(with_hash(None, "a", None), [])["ge2e"].params == {"sha256": "a"}


@pytest.mark.parametrize(
    "sections",
    [
        with_hash("a", "b"),
        with_hash("a", None, "b"),
        [SclConfig(encoders=[EncoderConfig(name=name, alias="one")]) for name in ("ge2e", "dvector")],
    ],
)
def test_one_alias_for_two_encoders_is_refused(sections):
    with pytest.raises(ConfigError, match="different encoders"):
        encoder_specs(sections, [])


class FourSamples(FirstSamples):
    def __init__(self, skip: int = 0):
        super().__init__(4, skip=skip)


def test_encoders_are_frozen_and_known_by_their_weights(monkeypatch):
    monkeypatch.setitem(registry.installed().encoders, "first", registry.Entry(FourSamples, "a test"))
    specs = {"one": EncoderConfig(name="first", params={"skip": 1}), "two": EncoderConfig(name="first")}
    encoders, identities = load_encoders(specs)
    with pytest.raises(ConfigError, match=r"^encoder wrong\.params\.skip = 'x'"):
        load_encoders({"wrong": EncoderConfig(name="first", params={"skip": "x"})})
    assert [*encoders] == [*identities] == ["one", "two"]
    assert not any(encoder.training for encoder in encoders.values())
    assert identities["one"] == EncoderIdentity("first", {"skip": 1}, identities["two"].fingerprint)


IDENTITIES = {
    "ge2e": EncoderIdentity("ge2e", {}, "a"),
    "again": EncoderIdentity("ge2e", {"model_path": "copy"}, "a"),
    "dvector": EncoderIdentity("dvector", {}, "b"),
}


@pytest.mark.parametrize(
    ("trained", "roles"),
    [
        (None, ["unknown"] * 3),
        (section(), ["training", "training", "holdout"]),
        (section(weight=0.0), ["holdout"] * 3),
        (section(enabled=False), ["holdout"] * 3),
    ],
)
def test_roles_are_told_by_the_weights(trained, roles):
    assert [*roles_of(trained, IDENTITIES).values()] == roles
