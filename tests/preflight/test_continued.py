"""The check of a run that is continued with other settings."""

import copy
import re
from types import SimpleNamespace

import pytest

from coqui_scl_plugin import SclVitsConfig
from coqui_scl_plugin.preflight.continued import check_continued
from coqui_scl_plugin.preflight.facts import Restored

SECTION = {
    "encoders": [{"name": "ge2e", "params": {"sha256": "a"}, "floor": 0.3, "ceiling": 0.8}],
    "loss": {"name": "cosine"},
    "freeze": {"modules": [{"pattern": "text_encoder", "until_step": 5}]},
}
DATA = [{"formatter": "coqui", "path": "speech"}]


def config_of(section):
    config = SclVitsConfig()
    config.from_dict({"scl": section, "datasets": DATA})
    return config


def found(change, *, continues=True, sha256="a", former=None):
    """Return what the check finds after a change of the config."""
    before = config_of(SECTION).to_dict() if former is None else former
    config = config_of(copy.deepcopy(SECTION))
    change(config)
    encoders = {spec.label: SimpleNamespace(encoder=SimpleNamespace(sha256=sha256)) for spec in config.scl.encoders}
    facts = SimpleNamespace(
        restored=Restored("run/checkpoint_4.pth", {}, continues=continues, config=before),
        config=config,
        consistency=SimpleNamespace(encoders=encoders),
    )
    findings = check_continued(facts)
    return findings[0].found + " " + findings[0].change if findings else ""


def as_it_was(config):
    pass


def other_loss(config):
    config.scl.loss.name = "contrastive"


def other_parameter(config):
    config.scl.loss.params = {"stop_at_ceiling": True}


def other_rule(config):
    config.scl.freeze.modules[0].until_step = 9


def no_rule(config):
    config.scl.freeze.modules = []


def other_references(config):
    config.scl.reference.source = "centroid"


def other_schedule(config):
    config.scl.ramp_steps = 7


def other_weight(config):
    config.scl.weight = 3.0


def other_level(config):
    config.scl.encoders[0].floor = 0.1


def other_path(config):
    config.scl.encoders[0].params = {"model_path": "b.pt", "sha256": "a"}


def more_encoders(config):
    config.scl.encoders = [*config.scl.encoders, copy.deepcopy(config.scl.encoders[0])]
    config.scl.encoders[1].alias = "second"


def other_data(config):
    config.datasets[0].path = "songs"


def other_seed(config):
    config.training_seed = 7


def off(config):
    config.scl.enabled = False


CHANGES = {
    other_loss: r"scl\.loss\.name = 'cosine' \(here 'contrastive'\)",
    other_parameter: r"scl\.loss\.params\.stop_at_ceiling = null \(here true\)",
    other_rule: r"scl\.freeze\.modules\.0\.until_step = 5 \(here 9\)",
    no_rule: r"scl\.freeze\.modules = ",
    other_references: r"scl\.reference\.source = 'utterance' \(here 'centroid'\)",
    other_schedule: r"scl\.ramp_steps = 0 \(here 7\)",
    other_weight: r"scl\.weight = 9\.0 \(here 3\.0\)",
    other_level: r"scl\.encoders\.0\.floor = 0\.3 \(here 0\.1\)",
    other_path: r"scl\.encoders\.0\.params\.model_path = null \(here 'b\.pt'\)",
    more_encoders: r"scl\.encoders = ",
    other_data: r"datasets\.0\.path = 'speech' \(here 'songs'\)",
    other_seed: r"training_seed = 54321 \(here 7\)",
    off: r"scl\.enabled = true \(here false\)",
}


@pytest.mark.parametrize(("change", "said"), CHANGES.items(), ids=[change.__name__ for change in CHANGES])
def test_a_change_is_named_with_before_and_after(change, said):
    text = found(change)
    assert re.search(said, text), text
    assert "checkpoint_4.pth" in text
    assert "--skip continued" in text
    assert found(change, continues=False) == ""


def test_another_file_at_the_same_place():
    assert "scl.encoders.0 has weights of SHA-256 a (here b)" in found(as_it_was, sha256="b")


def harmless(config):
    config.scl.preflight.skip = ["weight"]
    config.scl.evaluation.max_seconds = 2.0
    config.scl.reference.cache = None
    config.scl.freeze.check_every = 3
    config.epochs, config.batch_size, config.lr_gen = 99, 2, 1e-5
    config.scl.encoders[0].measured = {"name": "ge2e"}


def test_what_teaches_nothing_may_change():
    assert found(as_it_was) == found(harmless) == ""


def test_levels_that_are_measured_again_are_no_change_of_their_own():
    def forgotten(config):
        config.scl.encoders[0].floor = config.scl.encoders[0].ceiling = None

    assert found(forgotten) == ""


@pytest.mark.parametrize("former", [{}, {"scl": {}}, {"scl": {"loss": {"name": "cosine"}}}, {"scl": 5}])
def test_a_run_of_another_version(former):
    assert (found(as_it_was, former=former) == "") is (former != {"scl": 5})
