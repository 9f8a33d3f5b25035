"""What a run recorded of an encoder is forgotten where another one takes its place, and only that."""

import pytest

from coqui_scl_plugin.config import EncoderConfig
from coqui_scl_plugin.config.measured import (
    forget_other_calibration,
    forget_recorded_hash,
    has_recorded_hash,
    record_measured,
)

OTHER = "other"


def recorded(**by_hand):
    spec = EncoderConfig(name="ge2e", params={"model_path": "a.pt"}, **by_hand)
    record_measured(spec, "hash", (by_hand.get("floor", 0.3), by_hand.get("ceiling", 0.8)))
    assert spec.params == {"model_path": "a.pt", "sha256": "hash"}
    return spec


def test_the_same_encoder_keeps_all(tmp_path):
    spec = recorded()
    before = spec.to_dict()
    forget_recorded_hash(spec, same_params_too=False)
    forget_other_calibration(spec, "hash")
    assert spec.to_dict() == before
    assert (spec.floor, spec.ceiling) == (0.3, 0.8)


@pytest.mark.parametrize("by_hand", [False, True])
def test_another_path_has_another_hash_and_other_levels(by_hand):
    spec = recorded(floor=0.1, ceiling=0.9) if by_hand else recorded()
    spec.params = {**spec.params, "model_path": "b.pt"}
    forget_recorded_hash(spec, same_params_too=False)
    assert spec.params == {"model_path": "b.pt"}
    forget_other_calibration(spec, OTHER)
    assert (spec.floor, spec.ceiling) == ((0.1, 0.9) if by_hand else (None, None))
    assert spec.measured == {}


@pytest.mark.parametrize("accepted", [False, True])
def test_another_file_of_the_same_name_is_refused_unless_it_is_accepted(accepted):
    spec = recorded()
    forget_recorded_hash(spec, same_params_too=accepted)
    assert ("sha256" in spec.params) is not accepted
    assert has_recorded_hash(spec) is not accepted
    forget_other_calibration(spec, OTHER)
    assert (spec.floor, spec.ceiling) == (None, None)


def test_a_hash_that_the_user_wrote_stays():
    spec = EncoderConfig(name="ge2e", params={"model_path": "a.pt", "sha256": "mine"})
    forget_recorded_hash(spec, same_params_too=True)
    assert spec.params["sha256"] == "mine"
    spec = recorded()
    spec.params = {"model_path": "b.pt", "sha256": "mine"}
    forget_recorded_hash(spec, same_params_too=False)
    assert spec.params["sha256"] == "mine"


def test_levels_that_the_user_writes_later_stay():
    spec = recorded()
    spec.floor = 0.25
    record_measured(spec, "hash", (spec.floor, spec.ceiling))
    forget_other_calibration(spec, OTHER)
    assert (spec.floor, spec.ceiling) == (0.25, 0.8)


def test_levels_are_recorded_again():
    spec = recorded()
    spec.params = {**spec.params, "model_path": "b.pt"}
    forget_recorded_hash(spec, same_params_too=False)
    forget_other_calibration(spec, OTHER)
    record_measured(spec, OTHER, (0.4, 0.7))
    assert (spec.floor, spec.ceiling, spec.params["sha256"]) == (0.4, 0.7, OTHER)
    forget_other_calibration(spec, "third")
    assert spec.floor is None
